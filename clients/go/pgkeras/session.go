package pgkeras

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// ErrSessionClosed is returned by a step of a closed session.
var ErrSessionClosed = errors.New("pgkeras: the session has been closed; open a new one")

// Session is a simulator's session with one or many environments. The policy version stays the same throughout it. A
// session is not safe for concurrent use.
type Session struct {
	client  *Client
	stream  pgkerasv1.PolicyService_PlayClient
	cancel  context.CancelFunc
	timeout time.Duration
	// The observation space.
	space    *Space
	next     *pgkerasv1.PlayRequest
	inbox    chan *pgkerasv1.PlayResponse
	finished chan struct{}
	// Why the reader stopped. Read it only after finished is closed.
	reason error
	failed error
	close  sync.Once
}

// Play opens a session, which lasts until it is closed. The context's deadline, or else the client's timeout, limits
// only the opening.
func (c *Client) Play(ctx context.Context, options ...CallOption) (*Session, error) {
	ctx, unbound := c.bounded(ctx)
	defer unbound()
	chosen := newChoices(nil)
	if err := chosen.take("Play", options, "Mask", "State", "EpisodeStart"); err != nil {
		return nil, err
	}
	first := &pgkerasv1.PlayRequest{Policy: c.policy, Seed: chosen.seed, Mode: chosen.mode, Outputs: chosen.outputs}
	var space *Space
	if chosen.simulator != nil {
		first.Simulator = chosen.simulator.message()
		space = chosen.simulator.ObservationSpace
	} else {
		known, err := c.describeOnce(ctx)
		if err != nil {
			return nil, err
		}
		// Opening a session is not retried, so this call waits for a server that restarts.
		if _, err := c.getPolicy(ctx); err != nil {
			return nil, err
		}
		first.SpecHash = known.GetSpecHash()
		space = known.GetSpec().GetObservationSpace()
	}
	lasting, cancel := context.WithCancel(c.authenticated(context.WithoutCancel(ctx)))
	begin := time.Now()
	stop := context.AfterFunc(ctx, cancel)
	stream, err := c.stub.Play(lasting) // waits for a connection
	if !stop() {
		cancel()
		return nil, c.late(ctx, begin)
	}
	if err != nil {
		cancel()
		return nil, c.translate(ctx, err, nil, c.timeout)
	}
	session := &Session{
		client:   c,
		stream:   stream,
		cancel:   cancel,
		timeout:  c.timeout,
		space:    space,
		next:     first,
		inbox:    make(chan *pgkerasv1.PlayResponse, 1),
		finished: make(chan struct{}),
	}
	go session.read(lasting)
	return session, nil
}

// Step reports the outcome of the previous action and returns the next one.
//
// The observation has the observation space's shape for a single environment, or a leading axis of B environments, the
// same B at every step. In a Dict or Tuple, the first array decides. Reward, terminated and truncated have one element
// per environment. They are nil at the first step, and may be nil if every environment starts an episode. If ctx has no
// deadline, the client's timeout applies. It restarts whenever a policy in training reports that it is being updated.
//
// After an InvalidRequestError the session is as if the step had not been made. After a ServerBusyError the same step
// may be retried. A step whose deadline passes counts, and its action is lost. A deadline that passes while the server
// does not read ends the session. A server that has too many sessions, refuses the simulator, or has seen the session
// idle for too long also ends it with one of these errors, so check Over after an error.
func (s *Session) Step(
	ctx context.Context, observation Value, reward []float32, terminated, truncated []bool, options ...CallOption,
) (*Actions, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	begin, asked := time.Now(), ctx
	if ctx.Err() != nil { // sends nothing, because a context that ends during a send ends the session
		return nil, s.client.late(ctx, begin)
	}
	_, bounded := ctx.Deadline()
	release := func() {}
	defer func() { release() }() // releases the latest context
	renew := func() {
		release()
		begin = time.Now()
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(asked, s.timeout)
		release = cancel
	}
	if !bounded {
		renew()
	}
	single, _ := isSingle(observation, s.space)
	if single {
		observation = withBatchAxis(observation)
	}
	if err := s.send(ctx, begin, observation, single, reward, terminated, truncated, options); err != nil {
		return nil, err
	}
	response, err := s.receive(ctx, begin)
	for err == nil && response.GetWaiting() != nil { // a policy in training is being updated
		if !bounded {
			renew()
		}
		response, err = s.receive(ctx, begin)
	}
	if err != nil {
		return nil, err
	}
	return readStep(response, single)
}

// Over reports whether the session has ended, by an error or by Close. Later steps return the error that ended it.
func (s *Session) Over() bool { return s.failed != nil }

// Close ends the session. The server then counts no more episodes of it.
func (s *Session) Close() {
	s.close.Do(func() {
		if s.failed == nil {
			s.failed = ErrSessionClosed
		}
		_ = s.stream.CloseSend() // the server ends the stream, unless it is gone
		select {
		case <-s.finished:
		case <-time.After(time.Second):
		}
		s.cancel()
	})
}

func (s *Session) send(
	ctx context.Context, begin time.Time, observation Value, single bool, reward []float32, terminated, truncated []bool,
	options []CallOption,
) error {
	request := s.next
	chosen := choices{mode: request.Mode, outputs: request.Outputs}
	if err := chosen.take("Step", options, "Seed", "State", "Declare"); err != nil {
		return err
	}
	message := &pgkerasv1.PlayRequest{
		Id: request.Id + 1, Policy: request.Policy, SpecHash: request.SpecHash, Seed: request.Seed,
		Simulator: request.Simulator, Observation: observation.message(), Mode: chosen.mode, Outputs: chosen.outputs,
	}
	if reward != nil {
		message.Reward = NewTensor(reward).proto()
	}
	if terminated != nil {
		message.Terminated = NewTensor(terminated).proto()
	}
	if truncated != nil {
		message.Truncated = NewTensor(truncated).proto()
	}
	if chosen.starts != nil {
		message.EpisodeStart = NewTensor(chosen.starts).proto()
	}
	if chosen.mask != nil {
		message.ActionMask = chosen.mask.proto()
		if single && len(chosen.mask.Shape) == 1 {
			message.ActionMask.Shape = []int64{1, message.ActionMask.Shape[0]}
		}
	}
	// Send blocks while the server does not read. Then the deadline ends the session.
	stop := context.AfterFunc(ctx, s.cancel)
	err := s.stream.Send(message)
	switch {
	case !stop():
		s.failed = s.client.late(ctx, begin)
		return s.failed
	case errors.Is(err, io.EOF):
		s.failed = s.end()
		return s.failed
	case err != nil:
		s.failed = s.client.translate(ctx, err, nil, s.timeout) // such as a message that is too large
		return s.failed
	}
	s.next = &pgkerasv1.PlayRequest{Id: message.Id, Mode: request.Mode, Outputs: request.Outputs}
	return nil
}

// Waits for the end of the stream and returns its reason. Discards responses that the reader still delivers.
func (s *Session) end() error {
	for {
		select {
		case <-s.inbox:
		case <-s.finished:
			return s.reason
		}
	}
}

func (s *Session) receive(ctx context.Context, begin time.Time) (*pgkerasv1.PlayResponse, error) {
	for {
		select {
		case response := <-s.inbox:
			if response.GetId() == s.next.Id { // skips responses to steps that timed out
				return response, nil
			}
		case <-s.finished:
			select {
			case response := <-s.inbox: // arrived before the end
				if response.GetId() == s.next.Id {
					return response, nil
				}
			default:
			}
			s.failed = s.reason
			return nil, s.failed
		case <-ctx.Done():
			return nil, s.client.late(ctx, begin)
		}
	}
}

func (s *Session) read(ctx context.Context) {
	defer s.cancel()
	defer close(s.finished)
	for {
		response, err := s.stream.Recv()
		switch {
		case err == nil:
			select {
			case s.inbox <- response:
			case <-ctx.Done():
				s.reason = ErrSessionClosed
				return
			}
		case errors.Is(err, io.EOF):
			message := fmt.Sprintf("%s has ended the session; open a new one", s.client.target)
			s.reason = &ServerUnavailableError{failure: failure{message, err}}
			return
		default:
			s.reason = s.client.translate(context.Background(), err, s.stream.Trailer(), s.timeout)
			return
		}
	}
}
