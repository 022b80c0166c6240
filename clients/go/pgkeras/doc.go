// Package pgkeras asks a pgkeras policy server for actions.
//
//	client, err := pgkeras.Dial("127.0.0.1:50051")
//	...
//	defer client.Close()
//	actions, err := client.Act(ctx, pgkeras.NewTensor([]float32{0, 0.1, 0, -0.1}, 4))
//
// Every call has a deadline: the context's, or else the client's own, which is DefaultTimeout unless WithTimeout says
// otherwise. Errors are typed, to be found with errors.As: InvalidRequestError names the field, ServerBusyError says
// when to come back.
package pgkeras
