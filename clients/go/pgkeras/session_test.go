package pgkeras_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// A server on a real socket, whose policy has the given observation space. By default it answers each message with an
// action equal to the message's id.
type scripted struct {
	pgkerasv1.UnimplementedPolicyServiceServer
	space *pgkeras.Space
	play  func(request *pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error)
	// Handles a session instead of play.
	session func(stream playStream) error
	// How long GetPolicy takes.
	slowness time.Duration
	// Returns the error of GetPolicy, if any.
	describe func(ctx context.Context) error
	// The response to Act. Without one, Act blocks until its deadline.
	response *pgkerasv1.ActResponse
}

type playStream = grpc.BidiStreamingServer[pgkerasv1.PlayRequest, pgkerasv1.PlayResponse]

func (s *scripted) GetPolicy(ctx context.Context, _ *pgkerasv1.GetPolicyRequest) (*pgkerasv1.GetPolicyResponse, error) {
	time.Sleep(s.slowness)
	if s.describe != nil {
		if err := s.describe(ctx); err != nil {
			return nil, err
		}
	}
	policy := &pgkerasv1.Policy{SpecHash: "hash", Spec: &pgkerasv1.PolicySpec{ObservationSpace: s.space}}
	return &pgkerasv1.GetPolicyResponse{Policy: policy}, nil
}

func (s *scripted) Act(ctx context.Context, _ *pgkerasv1.ActRequest) (*pgkerasv1.ActResponse, error) {
	if s.response != nil {
		return s.response, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s *scripted) Play(stream playStream) error {
	if s.session != nil {
		return s.session(stream)
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // the client has closed the session
		}
		answer, err := s.play(request)
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func actionOf(request *pgkerasv1.PlayRequest) *pgkerasv1.PlayResponse {
	action := &pgkerasv1.Tensor{
		Dtype: pgkerasv1.DataType_DATA_TYPE_UINT8, Shape: []int64{1}, Data: []byte{byte(request.GetId())},
	}
	act := &pgkerasv1.PlayResponse_Act{Act: &pgkerasv1.ActResponse{Action: action}}
	return &pgkerasv1.PlayResponse{Id: request.GetId(), Result: act}
}

func serve(t *testing.T, server *scripted, options ...pgkeras.Option) *pgkeras.Client {
	t.Helper()
	if server.play == nil {
		server.play = func(request *pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error) { return actionOf(request), nil }
	}
	if server.space == nil {
		server.space = pgkeras.BoxSpace([]int64{2}, []float64{-1}, []float64{1})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, listener, server)
	return connect(t, listener.Addr().String(), options...)
}

func run(t *testing.T, listener net.Listener, server *scripted) {
	t.Helper()
	running := grpc.NewServer()
	pgkerasv1.RegisterPolicyServiceServer(running, server)
	go func() { _ = running.Serve(listener) }()
	t.Cleanup(running.Stop)
}

func connect(t *testing.T, target string, options ...pgkeras.Option) *pgkeras.Client {
	t.Helper()
	client, err := pgkeras.Dial(target, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func open(t *testing.T, client *pgkeras.Client, options ...pgkeras.CallOption) *pgkeras.Session {
	t.Helper()
	session, err := client.Play(context.Background(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Close)
	return session
}

var row = pgkeras.NewTensor([]float32{0, 0})

// Makes a step. Fails the test unless it returns the expected action.
func step(t *testing.T, session *pgkeras.Session, observation pgkeras.Value, expected uint8) *pgkeras.Actions {
	t.Helper()
	answer, err := session.Step(context.Background(), observation, nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pgkeras.Values[uint8](answer.Action); err != nil || len(got) != 1 || got[0] != expected {
		t.Fatalf("actions %v (%v), not %d", got, err, expected)
	}
	return answer
}

func failsWith[E error](t *testing.T, err error) E {
	t.Helper()
	var wanted E
	if !errors.As(err, &wanted) {
		t.Fatalf("%v, not a %T", err, wanted)
	}
	return wanted
}

func TestAStepWhoseDeadlineHasPassedIsNotSent(t *testing.T) {
	session := open(t, serve(t, &scripted{}))
	step(t, session, row, 1)
	over, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	_, err := session.Step(over, row, nil, nil, nil)
	failsWith[*pgkeras.DeadlineExceededError](t, err)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := session.Step(cancelled, row, nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, not context.Canceled", err)
	}
	step(t, session, row, 2)
}

// Makes a step with a deadline of 100 ms. Fails the test unless that deadline passes.
func stepsLate(t *testing.T, session *pgkeras.Session, observation pgkeras.Value) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := session.Step(ctx, observation, nil, nil, nil)
	failsWith[*pgkeras.DeadlineExceededError](t, err)
}

// Makes a step and returns its error. Fails the test if it takes longer than 5 s.
func stepsSoon(t *testing.T, session *pgkeras.Session) error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		_, err := session.Step(context.Background(), row, nil, nil, nil)
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("the step hangs")
		return nil
	}
}

func TestAStepAfterTwoLateResponsesReturnsWhyTheServerEndedTheSession(t *testing.T) {
	late := make(chan struct{})
	session := open(t, serve(t, &scripted{session: func(stream playStream) error {
		var requests [2]*pgkerasv1.PlayRequest
		for i := range requests {
			requests[i], _ = stream.Recv()
		}
		<-late
		for _, request := range requests {
			_ = stream.Send(actionOf(request))
		}
		return status.Error(codes.NotFound, "the policy is gone")
	}}))
	stepsLate(t, session, row)
	stepsLate(t, session, row)
	close(late)
	time.Sleep(100 * time.Millisecond) // until the client has received the end of the stream
	failsWith[*pgkeras.PolicyNotFoundError](t, stepsSoon(t, session))
}

func TestAStepThatTheServerDoesNotReadEndsTheSession(t *testing.T) {
	session := open(t, serve(t, &scripted{session: func(stream playStream) error {
		<-stream.Context().Done() // without having read anything
		return nil
	}}))
	many := pgkeras.NewTensor(make([]float32, 2<<18), 1<<18, 2)
	stepsLate(t, session, many)
	stepsLate(t, session, many)
	if !session.Over() {
		t.Error("the session is not over")
	}
	if err := stepsSoon(t, session); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, not context.DeadlineExceeded", err)
	}
}

func TestTheServersMessageIsKeptWithoutDetails(t *testing.T) {
	words := "idle for 60 s"
	client := serve(t, &scripted{session: func(stream playStream) error {
		encoded, _ := proto.Marshal(&spb.Status{Code: int32(codes.DeadlineExceeded), Message: words})
		stream.SetTrailer(metadata.Pairs("grpc-status-details-bin", string(encoded)))
		return status.Error(codes.DeadlineExceeded, words)
	}})
	_, err := open(t, client).Step(context.Background(), row, nil, nil, nil)
	if failsWith[*pgkeras.DeadlineExceededError](t, err); err.Error() != words {
		t.Errorf("%q, not %q", err, words)
	}
}

func TestACallThatIsCutOffSaysSo(t *testing.T) {
	client := serve(t, &scripted{play: func(*pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error) {
		return nil, status.Error(codes.Canceled, "CANCELLED")
	}})
	_, err := open(t, client).Step(context.Background(), row, nil, nil, nil)
	if failsWith[*pgkeras.ServerUnavailableError](t, err); !strings.Contains(err.Error(), "has cut the call off") {
		t.Error(err)
	}
}

func TestTheFirstCallRespectsTheTimeout(t *testing.T) {
	for name, first := range map[string]func(client *pgkeras.Client) error{
		"acting": func(client *pgkeras.Client) error {
			_, err := client.Act(context.Background(), row) // never answered
			return err
		},
		"opening a session": func(client *pgkeras.Client) error {
			_, err := client.Play(context.Background()) // calls GetPolicy twice
			return err
		},
	} {
		slow := &scripted{slowness: 500 * time.Millisecond}
		client := serve(t, slow, pgkeras.WithTimeout(600*time.Millisecond))
		begin := time.Now()
		failsWith[*pgkeras.DeadlineExceededError](t, first(client))
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
}

func TestATokenIsNotSentUnencrypted(t *testing.T) {
	for _, target := range []string{"robot.example:50051", "10.0.0.7:50051", "127.example.com:50051", "dns:///robot.example:1"} {
		if _, err := pgkeras.Dial(target, pgkeras.WithToken("secret")); err == nil {
			t.Errorf("it is sent to %s", target)
		}
		connect(t, target, pgkeras.WithToken("secret"), pgkeras.WithTLS(&tls.Config{}))
		connect(t, target)
	}
	for _, target := range []string{"127.0.0.1:1", "127.0.0.5:1", "localhost:1", "[::1]:1", "unix:socket", "unix-abstract:name"} {
		connect(t, target, pgkeras.WithToken("secret"))
	}
}

func TestADistributionOfAnUnknownKindIsOmitted(t *testing.T) {
	parts := map[string]*pgkerasv1.Distribution{"new": {}, "old": {Kind: &pgkerasv1.Distribution_Categorical{}}}
	structured := &pgkerasv1.StructuredDistribution{Parts: parts}
	for _, message := range []*pgkerasv1.Distribution{{}, {Kind: &pgkerasv1.Distribution_Structured{Structured: structured}}} {
		server := &scripted{play: func(request *pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error) {
			answer := actionOf(request)
			answer.GetAct().Distribution = message
			return answer, nil
		}}
		step(t, open(t, serve(t, server)), row, 1)
	}
}

func TestAClosedClientFailsImmediately(t *testing.T) {
	client := serve(t, &scripted{})
	if _, err := client.Describe(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := client.Act(context.Background(), row)
	if failsWith[*pgkeras.ServerUnavailableError](t, err); !strings.Contains(err.Error(), "has been closed") {
		t.Error(err)
	}
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("it failed after %v", took)
	}
}

// Listens, but never sends anything, and returns the address.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func TestOpeningADeclaredSessionRespectsTheTimeout(t *testing.T) {
	declared := pgkeras.Declare(pgkeras.Simulator{
		ObservationSpace: pgkeras.DiscreteSpace(2), ActionSpace: pgkeras.DiscreteSpace(2),
	})
	target, begin := silent(t), time.Now()
	client := connect(t, target, pgkeras.WithTimeout(200*time.Millisecond))
	_, err := client.Play(context.Background(), declared)
	failsWith[*pgkeras.DeadlineExceededError](t, err)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err = connect(t, target).Play(ctx, declared)
	failsWith[*pgkeras.DeadlineExceededError](t, err)
	cancelled, cancel := context.WithCancel(context.Background())
	time.AfterFunc(200*time.Millisecond, cancel)
	if _, err = connect(t, target).Play(cancelled, declared); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, not context.Canceled", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestASingleObservationOfPartsBecomesABatchOfOne(t *testing.T) {
	box := pgkeras.BoxSpace([]int64{2}, []float64{-1}, []float64{1})
	text := &pgkeras.Space{Kind: &pgkerasv1.Space_Text{Text: &pgkerasv1.TextSpace{}}}
	shapes := func(value *pgkerasv1.Value) (found []string) {
		for _, key := range []string{"words", "pair"} {
			part := value.GetFields().GetFields()[key]
			found = append(found, fmt.Sprint(part.GetTexts().GetTexts()))
			for _, key := range []string{"0", "1"} {
				found = append(found, fmt.Sprint(part.GetFields().GetFields()[key].GetTensor().GetShape()))
			}
		}
		return found
	}
	var seen []string
	server := &scripted{
		space: pgkeras.DictSpace(
			pgkeras.Part{Key: "words", Space: text},
			pgkeras.Part{Key: "pair", Space: pgkeras.TupleSpace(pgkeras.DiscreteSpace(3), box)},
		),
		play: func(request *pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error) {
			seen = shapes(request.GetObservation())
			return actionOf(request), nil
		},
	}
	session := open(t, serve(t, server))
	pair := pgkeras.Fields{"0": pgkeras.Scalar(int64(2)), "1": row}
	single := pgkeras.Fields{"words": pgkeras.Texts{"go left"}, "pair": pair}
	answer := step(t, session, single, 1)
	if expected := []string{"[go left]", "[]", "[]", "[]", "[1]", "[1 2]"}; !slices.Equal(seen, expected) {
		t.Errorf("the server got %v, not %v", seen, expected)
	}
	if len(answer.Action.Shape) != 0 {
		t.Errorf("an action of shape %v", answer.Action.Shape)
	}
	pair["0"], pair["1"] = pgkeras.NewTensor([]int64{2}), pgkeras.NewTensor([]float32{0, 0}, 1, 2)
	answer = step(t, session, single, 2)
	if expected := []string{"[go left]", "[]", "[]", "[]", "[1]", "[1 2]"}; !slices.Equal(seen, expected) {
		t.Errorf("the server got %v of a batch, not %v", seen, expected)
	}
	if len(answer.Action.Shape) != 1 {
		t.Errorf("actions of shape %v for a batch", answer.Action.Shape)
	}
}
