package pgkeras_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// A server on a real socket, whose policy observes the given space. It answers every message with the action of its id,
// unless the test says otherwise.
type scripted struct {
	pgkerasv1.UnimplementedPolicyServiceServer
	space *pgkeras.Space
	play  func(request *pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error)
}

func (s *scripted) GetPolicy(context.Context, *pgkerasv1.GetPolicyRequest) (*pgkerasv1.GetPolicyResponse, error) {
	policy := &pgkerasv1.Policy{SpecHash: "hash", Spec: &pgkerasv1.PolicySpec{ObservationSpace: s.space}}
	return &pgkerasv1.GetPolicyResponse{Policy: policy}, nil
}

func (s *scripted) Play(stream grpc.BidiStreamingServer[pgkerasv1.PlayRequest, pgkerasv1.PlayResponse]) error {
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

func serve(t *testing.T, server *scripted) *pgkeras.Client {
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
	running := grpc.NewServer()
	pgkerasv1.RegisterPolicyServiceServer(running, server)
	go func() { _ = running.Serve(listener) }()
	t.Cleanup(running.Stop)
	return connect(t, listener.Addr().String())
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

// Steps, and fails the test unless the action is the expected one.
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

func TestAStepWhoseTimeIsOverIsNotSent(t *testing.T) {
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

func TestAClosedClientFailsAtOnce(t *testing.T) {
	client := serve(t, &scripted{})
	if _, err := client.Describe(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err := client.Act(context.Background(), row)
	failsWith[*pgkeras.ServerUnavailableError](t, err)
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("it failed after %v", took)
	}
}

// A listener that accepts connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func TestOpeningADeclaredSessionTakesNoLongerThanItMay(t *testing.T) {
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
