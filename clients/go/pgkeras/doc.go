// Package pgkeras is the client of a pgkeras policy server: it requests actions for observations.
//
//	client, err := pgkeras.Dial("127.0.0.1:50051")
//	...
//	defer client.Close()
//	actions, err := client.Act(ctx, pgkeras.NewTensor([]float32{0, 0.1, 0, -0.1}, 4))
//
// Every call has a deadline: the context's, or else the client's timeout, which is DefaultTimeout unless WithTimeout
// sets another. Errors are typed; match them with errors.As. InvalidRequestError names the field, ServerBusyError says
// when to retry.
package pgkeras
