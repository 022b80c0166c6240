package pgkeras

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

const (
	domain            = "pgkeras"
	detailsKey        = "grpc-status-details-bin"
	defaultRetryAfter = time.Second
	longestRetryAfter = 365 * 24 * time.Hour
	// Part of gRPC's message for a message that is too large. That status has no details.
	sizeRefusal = "larger than max"
)

// InvalidRequestError reports an invalid field of a request.
type InvalidRequestError struct {
	// Field is the path of the field in the request, such as "observation.tensor.shape".
	Field string
	// Expected describes a valid value, and Got the value that was received.
	Expected, Got string
	cause         error
}

// PolicyNotFoundError reports an unknown policy, version or label. Its message lists those that exist.
type PolicyNotFoundError struct{ failure }

// SpecMismatchError reports that the policy's spec has changed since the client described it. Call Describe again and
// check that the simulator still matches.
type SpecMismatchError struct{ failure }

// ServerBusyError reports that the server is at capacity.
type ServerBusyError struct {
	failure
	// RetryAfter is how long to wait before a retry.
	RetryAfter time.Duration
}

// DeadlineExceededError reports that no response arrived in time. errors.Is also matches context.DeadlineExceeded.
type DeadlineExceededError struct{ failure }

// ServerUnavailableError reports that no server responds at the address, or that it is starting or stopping.
type ServerUnavailableError struct {
	failure
	// RetryAfter is how long the server asks to wait before a retry, or 0 if it does not say.
	RetryAfter time.Duration
}

// UnauthenticatedError reports that the call's token is missing or unknown to the server; see WithToken.
type UnauthenticatedError struct{ failure }

// ServerFailedError reports an internal error of the server (its log has the reason), or that it does not implement the
// call.
type ServerFailedError struct{ failure }

type failure struct {
	message string
	cause   error
}

func (f *failure) Error() string { return f.message }
func (f *failure) Unwrap() error { return f.cause }

func (e *InvalidRequestError) Error() string {
	return fmt.Sprintf("%s: expected %s, got %s", e.Field, e.Expected, e.Got)
}

// Unwrap returns the gRPC error, if the server refused the request.
func (e *InvalidRequestError) Unwrap() error { return e.cause }

// Is makes errors.Is match context.DeadlineExceeded.
func (e *DeadlineExceededError) Is(target error) bool { return target == context.DeadlineExceeded }

// ErrorFromStatus returns the typed error for the status of a failed call, or nil for OK.
func ErrorFromStatus(answer *status.Status) error {
	cause := answer.Err()
	if cause == nil {
		return nil
	}
	wrapped := failure{answer.Message(), cause}
	switch answer.Code() {
	case codes.InvalidArgument:
		return invalidRequest(answer, cause)
	case codes.NotFound:
		return &PolicyNotFoundError{wrapped}
	case codes.FailedPrecondition:
		return &SpecMismatchError{wrapped}
	case codes.ResourceExhausted:
		if strings.Contains(answer.Message(), sizeRefusal) {
			expected := "a message within the size limits that GetPolicy states"
			return &InvalidRequestError{Field: "message", Expected: expected, Got: answer.Message(), cause: cause}
		}
		return &ServerBusyError{wrapped, cmp.Or(retryAfter(answer), defaultRetryAfter)}
	case codes.DeadlineExceeded:
		return &DeadlineExceededError{wrapped}
	case codes.Unavailable, codes.Canceled:
		return &ServerUnavailableError{wrapped, retryAfter(answer)}
	case codes.Unauthenticated:
		return &UnauthenticatedError{wrapped}
	case codes.Internal:
		return &ServerFailedError{wrapped}
	default:
		return &ServerFailedError{failure{fmt.Sprintf("%v: %s", answer.Code(), answer.Message()), cause}}
	}
}

func invalidRequest(answer *status.Status, cause error) error {
	accepted := "one that the server accepts"
	bad, found := detail[*errdetails.BadRequest](answer)
	if !found || len(bad.GetFieldViolations()) == 0 {
		return &InvalidRequestError{Field: "request", Expected: accepted, Got: answer.Message(), cause: cause}
	}
	violation := bad.GetFieldViolations()[0]
	if info, found := detail[*errdetails.ErrorInfo](answer); found && info.GetDomain() == domain {
		metadata := info.GetMetadata()
		return &InvalidRequestError{
			Field: violation.GetField(), Expected: metadata["expected"], Got: metadata["got"], cause: cause,
		}
	}
	return &InvalidRequestError{
		Field: violation.GetField(), Expected: accepted, Got: violation.GetDescription(), cause: cause,
	}
}

// Returns how long the server asks to wait, or 0 if it does not say. A negative delay counts as none.
func retryAfter(answer *status.Status) time.Duration {
	info, _ := detail[*errdetails.RetryInfo](answer)
	return min(max(0, info.GetRetryDelay().AsDuration()), longestRetryAfter)
}

func detail[T proto.Message](answer *status.Status) (T, bool) {
	for _, found := range answer.Details() {
		if wanted, ok := found.(T); ok {
			return wanted, true
		}
	}
	var none T
	return none, false
}

// Returns the typed error of a failed call, with a message that says what to do. The trailer shows whether the server
// wrote the status, because a gRPC status without details does not.
func (c *Client) translate(ctx context.Context, err error, trailer metadata.MD, timeout time.Duration) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("pgkeras: the call was cancelled by its caller: %w", ctx.Err())
	}
	answer := status.Convert(err)
	typed := ErrorFromStatus(answer)
	if isFromServer(trailer) {
		return typed
	}
	switch e := typed.(type) {
	case *DeadlineExceededError:
		e.message = fmt.Sprintf("no answer from %s within %v; is it the right address? If the server is just slow, "+
			"give the call a longer deadline (%s)", c.target, timeout.Round(time.Millisecond), answer.Message())
	case *ServerUnavailableError:
		switch {
		case c.closed.Load():
			e.message = fmt.Sprintf("the connection to %s has been closed", c.target)
		case answer.Code() == codes.Canceled:
			e.message = fmt.Sprintf("%s has cut the call off: it is stopping, or has far more calls than it can take; try "+
				"again in a moment", c.target)
		default:
			e.message = fmt.Sprintf("no policy server answers at %s; start one with: pgkeras serve, or check the address, "+
				"and whether it speaks TLS (%s)", c.target, answer.Message())
		}
	}
	return typed
}

// Reports whether the server wrote the status, rather than gRPC.
func isFromServer(trailer metadata.MD) bool { return len(trailer.Get(detailsKey)) > 0 }

// Returns the error for a response that did not arrive before ctx ended.
func (c *Client) late(ctx context.Context, begin time.Time) error {
	deadline, _ := ctx.Deadline()
	return c.translate(ctx, status.FromContextError(ctx.Err()).Err(), nil, max(0, deadline.Sub(begin)))
}

// Returns the typed error that a session's step was answered with.
func errorOfStep(answer *pgkerasv1.PlayError) error {
	found := &spb.Status{Code: answer.GetCode(), Message: answer.GetMessage(), Details: answer.GetDetails()}
	if err := ErrorFromStatus(status.FromProto(found)); err != nil {
		return err
	}
	return serverFailed("%v: %s", codes.OK, answer.GetMessage())
}

func serverFailed(format string, values ...any) error {
	return &ServerFailedError{failure{message: fmt.Sprintf(format, values...)}}
}

// Returns the error for a response that this client cannot decode.
func unreadable(reason any) error {
	return serverFailed("the server's answer cannot be read: %v; is the server newer than this client?", reason)
}
