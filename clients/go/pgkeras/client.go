package pgkeras

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

const (
	// DefaultTimeout limits calls whose context has no deadline.
	DefaultTimeout = 10 * time.Second
	// MaxMessageBytes is the largest message that the client sends or receives. gRPC's default of 4 MB is too small for
	// images.
	MaxMessageBytes = 64 << 20

	firstBackoff   = 100 * time.Millisecond
	longestBackoff = time.Second

	// By default a server permits a ping every 10 s. A ping timeout shorter than that of a call would end sessions that
	// the network only delays.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// Client is a connection to a policy server, bound to one policy. It is safe for concurrent use by multiple goroutines.
//
// If the server cannot be reached, a call is retried with backoff until its deadline, so it survives a restart of the
// server. A client that has never received a response fails immediately instead, because its address may be wrong.
type Client struct {
	target     string
	timeout    time.Duration
	policy     *pgkerasv1.PolicyRef
	token      *string
	connection *grpc.ClientConn
	stub       pgkerasv1.PolicyServiceClient
	answered   atomic.Bool
	closed     atomic.Bool
	described  sync.Mutex
	known      *Policy
}

// Policy is the server's description of a policy.
type Policy struct {
	*pgkerasv1.Policy
	// Limits are the server's limits; nil in a list of policies.
	Limits *pgkerasv1.Limits
}

// Option configures the connection of a client, or selects its policy.
type Option func(*settings)

type settings struct {
	policy  string
	version *int64
	label   *string
	timeout time.Duration
	tls     *tls.Config
	token   *string
	dial    []grpc.DialOption
}

// WithPolicy selects the policy by name. It may be omitted if the server has only one policy.
func WithPolicy(name string) Option { return func(s *settings) { s.policy = name } }

// WithVersion selects a fixed version instead of the newest.
func WithVersion(version int64) Option { return func(s *settings) { s.version = &version } }

// WithLabel selects the version that has this label, such as "stable".
func WithLabel(label string) Option { return func(s *settings) { s.label = &label } }

// WithTimeout limits calls whose context has no deadline.
func WithTimeout(timeout time.Duration) Option { return func(s *settings) { s.timeout = timeout } }

// WithTLS encrypts the connection. An empty configuration trusts the system's certificate authorities.
func WithTLS(config *tls.Config) Option { return func(s *settings) { s.tls = config } }

// WithToken authenticates every call. It requires TLS or a target on this machine, because a token that is sent
// unencrypted can be read on the way.
func WithToken(token string) Option { return func(s *settings) { s.token = &token } }

// WithDialOptions adds gRPC dial options.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// Dial creates a client for the server at target, HOST:PORT. The first call connects. Dial returns an
// InvalidRequestError if both a version and a label are given, or if the token cannot be sent.
func Dial(target string, options ...Option) (*Client, error) {
	chosen := settings{timeout: DefaultTimeout}
	for _, option := range options {
		option(&chosen)
	}
	policy, err := chosen.reference()
	if err != nil {
		return nil, err
	}
	if err := chosen.checkToken(target); err != nil {
		return nil, err
	}
	secured := insecure.NewCredentials()
	if chosen.tls != nil {
		secured = credentials.NewTLS(chosen.tls)
	}
	dial := append([]grpc.DialOption{
		grpc.WithTransportCredentials(secured),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)),
		// Reconnects within a second after a restart. gRPC's default backoff grows to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: longestBackoff},
			MinConnectTimeout: 5 * time.Second,
		}),
		// Closes a connection whose peer has vanished. Nothing else detects it.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	}, chosen.dial...)
	connection, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, fmt.Errorf("pgkeras: invalid server address %q, expected one such as 127.0.0.1:50051: %w", target, err)
	}
	return &Client{
		target:     target,
		timeout:    chosen.timeout,
		policy:     policy,
		token:      chosen.token,
		connection: connection,
		stub:       pgkerasv1.NewPolicyServiceClient(connection),
	}, nil
}

// Builds the policy reference from name, version and label.
func (s *settings) reference() (*pgkerasv1.PolicyRef, error) {
	policy := &pgkerasv1.PolicyRef{Name: s.policy}
	switch {
	case s.version != nil && s.label != nil:
		got := fmt.Sprintf("version %d and label %q", *s.version, *s.label)
		return nil, &InvalidRequestError{Field: "policy", Expected: "a version or a label", Got: got}
	case s.version != nil:
		policy.Select = &pgkerasv1.PolicyRef_Version{Version: *s.version}
	case s.label != nil:
		policy.Select = &pgkerasv1.PolicyRef_Label{Label: *s.label}
	}
	return policy, nil
}

// Returns an error if the token is malformed or would be sent to target unencrypted.
func (s *settings) checkToken(target string) error {
	if s.token == nil {
		return nil
	}
	token := *s.token
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	if token == "" || token != strings.TrimSpace(token) || strings.ContainsFunc(token, unprintable) {
		expected := "printable ASCII without spaces around it, as pgkeras token makes it"
		return &InvalidRequestError{Field: "token", Expected: expected, Got: "another"} // the token is a secret
	}
	if s.tls == nil && !isThisMachine(target) {
		return &InvalidRequestError{
			Field: "token", Expected: "WithTLS, as others could read it on the way", Got: target + " without it",
		}
	}
	return nil
}

// Reports whether messages to target stay on this machine.
func isThisMachine(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	host, _, err := net.SplitHostPort(target)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// Close closes the connection. Calls in flight fail.
func (c *Client) Close() error {
	c.closed.Store(true)
	return c.connection.Close()
}

// Describe returns the policy's description and the server's limits. Later requests carry the spec hash that it
// returned.
func (c *Client) Describe(ctx context.Context) (*Policy, error) {
	response, err := c.getPolicy(ctx)
	if err != nil {
		return nil, err
	}
	policy := &Policy{response.GetPolicy(), response.GetLimits()}
	c.described.Lock()
	defer c.described.Unlock()
	c.known = policy
	return policy, nil
}

// Policies returns the description of every policy version that is ready on the server.
func (c *Client) Policies(ctx context.Context) ([]*Policy, error) {
	response, err := call(ctx, c, c.stub.ListPolicies, &pgkerasv1.ListPoliciesRequest{})
	if err != nil {
		return nil, err
	}
	var policies []*Policy
	for _, policy := range response.GetPolicies() {
		policies = append(policies, &Policy{policy, nil})
	}
	return policies, nil
}

// Act returns the action for one observation, or the actions for a batch, which has a leading batch axis.
func (c *Client) Act(ctx context.Context, observation Value, options ...CallOption) (*Actions, error) {
	chosen := newChoices([]Output{LogProb, Entropy, WithDistribution})
	if err := chosen.take("Act", options, "EpisodeStart", "Declare"); err != nil {
		return nil, err
	}
	ctx, unbound := c.bounded(ctx)
	defer unbound()
	known, err := c.describeOnce(ctx)
	if err != nil {
		return nil, err
	}
	request := &pgkerasv1.ActRequest{
		Policy:      c.policy,
		SpecHash:    known.GetSpecHash(),
		Observation: observation.message(),
		Mode:        chosen.mode,
		Seed:        chosen.seed,
		Outputs:     chosen.outputs,
		State:       chosen.state,
	}
	if chosen.mask != nil {
		request.ActionMask = chosen.mask.proto()
	}
	response, err := call(ctx, c, c.stub.Act, request)
	if err != nil {
		return nil, err
	}
	return readActions(response)
}

func (c *Client) getPolicy(ctx context.Context) (*pgkerasv1.GetPolicyResponse, error) {
	return call(ctx, c, c.stub.GetPolicy, &pgkerasv1.GetPolicyRequest{Policy: c.policy})
}

func (c *Client) describeOnce(ctx context.Context) (*Policy, error) {
	c.described.Lock()
	known := c.known
	c.described.Unlock()
	if known != nil {
		return known, nil
	}
	return c.Describe(ctx)
}

// Returns a context with a deadline. A method that makes several calls calls this once, so that they share the
// deadline.
func (c *Client) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); bounded {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

func (c *Client) authenticated(ctx context.Context) context.Context {
	if c.token == nil {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+*c.token)
}

// Makes a call. Retries it until its deadline while a server that has responded before is unavailable.
func call[Request, Response any](
	ctx context.Context, c *Client, method func(context.Context, *Request, ...grpc.CallOption) (*Response, error), request *Request,
) (*Response, error) {
	begin := time.Now()
	ctx, unbound := c.bounded(c.authenticated(ctx))
	defer unbound()
	var last *ServerUnavailableError
	for pause := firstBackoff; ; pause = min(2*pause, longestBackoff) {
		var trailer metadata.MD
		response, err := method(ctx, request, grpc.Trailer(&trailer))
		if err == nil {
			c.answered.Store(true)
			return response, nil
		}
		deadline, _ := ctx.Deadline()
		typed := c.translate(ctx, err, trailer, deadline.Sub(begin))
		var late *DeadlineExceededError
		if last != nil && errors.As(typed, &late) && !isFromServer(trailer) {
			return nil, last // the error before says why there was no response
		}
		// gRPC gives a call the same status if this client closed the connection and if the server cancelled the call.
		if !c.answered.Load() || c.closed.Load() || !errors.As(typed, &last) {
			return nil, typed
		}
		wait := max(last.RetryAfter, pause-rand.N(pause/2))
		if time.Until(deadline) <= wait {
			return nil, typed
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done(): // the next attempt returns the error
		}
	}
}
