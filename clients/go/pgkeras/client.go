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
	// DefaultTimeout is how long a call may take whose context has no deadline.
	DefaultTimeout = 10 * time.Second
	// MaxMessageBytes is the largest message that is sent or received; gRPC's own 4 MB is too small for images.
	MaxMessageBytes = 64 << 20

	firstBackoff   = 100 * time.Millisecond
	longestBackoff = time.Second

	// A server permits pings every 10 s, unless it is told otherwise. A shorter patience than a call's own would end
	// sessions that a network only delays.
	keepaliveTime    = 20 * time.Second
	keepaliveTimeout = 10 * time.Second
)

// Client is a connection to a policy server, and one policy on it. Several goroutines may use it at once.
//
// A call for which the server cannot be reached is made again, with back-off, as long as its deadline allows: a server
// that is restarted is waited for. Only a client that was never answered says so at once, since its address may be
// wrong.
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

// Policy is a policy as the server describes it.
type Policy struct {
	*pgkerasv1.Policy
	// Limits are what the server accepts; nil in a list of policies.
	Limits *pgkerasv1.Limits
}

// Option changes how a client connects, or which policy it asks.
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

// WithPolicy names the policy; it may be left out when the server has only one.
func WithPolicy(name string) Option { return func(s *settings) { s.policy = name } }

// WithVersion asks a concrete version, instead of the newest.
func WithVersion(version int64) Option { return func(s *settings) { s.version = &version } }

// WithLabel asks the version that has this label, such as "stable".
func WithLabel(label string) Option { return func(s *settings) { s.label = &label } }

// WithTimeout is how long a call may take whose context has no deadline.
func WithTimeout(timeout time.Duration) Option { return func(s *settings) { s.timeout = timeout } }

// WithTLS secures the connection; an empty configuration trusts the system's authorities.
func WithTLS(config *tls.Config) Option { return func(s *settings) { s.tls = config } }

// WithToken authenticates every call, over TLS or to this machine: unencrypted, others could read it on the way.
func WithToken(token string) Option { return func(s *settings) { s.token = &token } }

// WithDialOptions adds options of gRPC's own.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// Dial makes a client of the server at a target, HOST:PORT. It connects with the first call. An InvalidRequestError says
// that both a version and a label are given, or that the token cannot be sent.
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
		// A server that comes back is found within a second; gRPC's own patience grows to two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstBackoff, Multiplier: 2, Jitter: 0.2, MaxDelay: longestBackoff},
			MinConnectTimeout: 5 * time.Second,
		}),
		// A connection that leads nowhere any more is given up; nothing else would tell.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: keepaliveTime, Timeout: keepaliveTimeout, PermitWithoutStream: true,
		}),
	}, chosen.dial...)
	connection, err := grpc.NewClient(target, dial...)
	if err != nil {
		return nil, fmt.Errorf("pgkeras: %q is no address of a server, such as 127.0.0.1:50051: %w", target, err)
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

// The reference to the policy.
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

// Whether the token can be sent to a target.
func (s *settings) checkToken(target string) error {
	if s.token == nil {
		return nil
	}
	token := *s.token
	unprintable := func(r rune) bool { return r < ' ' || r > '~' }
	if token == "" || token != strings.TrimSpace(token) || strings.ContainsFunc(token, unprintable) {
		expected := "printable ASCII without spaces around it, as pgkeras token makes it"
		return &InvalidRequestError{Field: "token", Expected: expected, Got: "another"} // which is a secret
	}
	if s.tls == nil && !isThisMachine(target) {
		return &InvalidRequestError{
			Field: "token", Expected: "WithTLS, as others could read it on the way", Got: target + " without it",
		}
	}
	return nil
}

// Whether nobody else can see what is sent to a target.
func isThisMachine(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	host, _, err := net.SplitHostPort(target)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// Close closes the connection; calls in flight fail.
func (c *Client) Close() error {
	c.closed.Store(true)
	return c.connection.Close()
}

// Describe describes the policy and the server's limits. From then on, requests carry the spec hash that it gives.
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

// Policies describes every policy and version that the server has ready.
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

// Act asks for the action for one observation, or for each of a batch, which has one leading axis more.
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

// A context with a deadline. What makes several calls makes it once, so that they share it.
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

// Makes a call, and makes it again for as long as its deadline allows while a server that was there is not.
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
		if last != nil && errors.As(typed, &late) && !isTheServers(trailer) {
			return nil, last // which tells why there was no answer
		}
		// gRPC's status for a connection that this client has closed is that of a server which has cut a call off.
		if !c.answered.Load() || c.closed.Load() || !errors.As(typed, &last) {
			return nil, typed
		}
		wait := max(last.RetryAfter, pause-rand.N(pause/2))
		if time.Until(deadline) <= wait {
			return nil, typed
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done(): // the next try tells how it ended
		}
	}
}
