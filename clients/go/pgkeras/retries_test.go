package pgkeras_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

const year = 365 * 24 * time.Hour

// Returns a status with a RetryInfo.
func statusWithRetryInfo(t *testing.T, code codes.Code, delay *durationpb.Duration) *status.Status {
	t.Helper()
	answer, err := status.New(code, "draining").WithDetails(&errdetails.RetryInfo{RetryDelay: delay})
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// Returns a client that has received one response from a server whose further calls fail, and the number of calls.
func failingClient(t *testing.T, failure func(ctx context.Context, call int32) error) (*pgkeras.Client, *atomic.Int32) {
	t.Helper()
	calls := new(atomic.Int32)
	client := serve(t, &scripted{describe: func(ctx context.Context) error {
		if call := calls.Add(1) - 1; call > 0 {
			return failure(ctx, call)
		}
		return nil
	}})
	if _, err := client.Describe(context.Background()); err != nil {
		t.Fatal(err)
	}
	calls.Store(1)
	return client, calls
}

func TestARetryDelayIsNoShorterThanTheBackoffAndNoLongerThanAYear(t *testing.T) {
	for name, example := range map[string]struct {
		delay *durationpb.Duration
		// With pauses of at least 50, 100, 200, 400 and 500 ms, six calls take longer than a second.
		mostCalls  int32
		retryAfter time.Duration
		busy       time.Duration
	}{
		"none":            {&durationpb.Duration{}, 5, 0, time.Second},
		"negative":        {&durationpb.Duration{Seconds: -1}, 5, 0, time.Second},
		"far in the past": {&durationpb.Duration{Seconds: math.MinInt64, Nanos: math.MinInt32}, 5, 0, time.Second},
		"centuries":       {&durationpb.Duration{Seconds: 1e10}, 1, year, year},
		"for ever":        {&durationpb.Duration{Seconds: math.MaxInt64, Nanos: math.MaxInt32}, 1, year, year},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, calls := failingClient(t, func(context.Context, int32) error {
				return statusWithRetryInfo(t, codes.Unavailable, example.delay).Err()
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := client.Describe(ctx)
			gone := failsWith[*pgkeras.ServerUnavailableError](t, err)
			if gone.Error() != "draining" || gone.RetryAfter != example.retryAfter {
				t.Errorf("%v, to be made again after %v", gone, gone.RetryAfter)
			}
			if made := calls.Load() - 1; made < 1 || made > example.mostCalls {
				t.Errorf("%d calls in a second", made)
			}
			full := failsWith[*pgkeras.ServerBusyError](t, pgkeras.ErrorFromStatus(statusWithRetryInfo(t, codes.ResourceExhausted, example.delay)))
			if full.RetryAfter != example.busy {
				t.Errorf("busy for %v, not %v", full.RetryAfter, example.busy)
			}
		})
	}
}

func TestADeadlineThatPassesDuringRetriesReturnsTheLastError(t *testing.T) {
	client, _ := failingClient(t, func(ctx context.Context, call int32) error {
		if call < 3 {
			return status.Error(codes.Unavailable, "draining")
		}
		<-ctx.Done()
		return ctx.Err()
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, err := client.Describe(ctx)
	failsWith[*pgkeras.ServerUnavailableError](t, err)
	if cause := status.Convert(errors.Unwrap(err)).Message(); cause != "draining" {
		t.Errorf("because of %q", cause)
	}
}

func TestACallThatIsCancelledBetweenTriesSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client, _ := failingClient(t, func(context.Context, int32) error {
		time.AfterFunc(50*time.Millisecond, cancel)
		return statusWithRetryInfo(t, codes.Unavailable, durationpb.New(5*time.Second)).Err()
	})
	if _, err := client.Describe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, not context.Canceled", err)
	}
}

// A proxy that can lose its connections: it then reads and drops all data.
type lossyProxy struct {
	listener net.Listener
	target   string
	lock     sync.Mutex
	lost     []*atomic.Bool
}

func (p *lossyProxy) serve() {
	for {
		near, err := p.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		lost := new(atomic.Bool)
		p.lock.Lock()
		p.lost = append(p.lost, lost)
		p.lock.Unlock()
		go forward(far, near, lost)
		go forward(near, far, lost)
	}
}

func (p *lossyProxy) loseConnections() {
	p.lock.Lock()
	defer p.lock.Unlock()
	for _, lost := range p.lost {
		lost.Store(true)
	}
}

func forward(to io.WriteCloser, from io.Reader, lost *atomic.Bool) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			break
		}
		if !lost.Load() {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
	}
	if !lost.Load() {
		_ = to.Close()
	}
}

func TestALostConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, server, &scripted{space: pgkeras.DiscreteSpace(2)})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	proxy := &lossyProxy{listener: listener, target: server.Addr().String()}
	go proxy.serve()
	client := connect(t, listener.Addr().String())
	if _, err := client.Describe(context.Background()); err != nil {
		t.Fatal(err)
	}
	proxy.loseConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // a ping is sent after 20 s
	defer cancel()
	if _, err := client.Describe(ctx); err != nil {
		t.Error(err)
	}
}
