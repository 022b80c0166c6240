// Command bench measures sessions of the client, and bare gRPC streams for comparison. conformance/README.md describes
// its commands and responses.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

type echo struct {
	pgkerasv1.UnimplementedPolicyServiceServer
}

func (echo) Play(stream pgkerasv1.PolicyService_PlayServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil // the client has closed the stream or disconnected
		}
		rows := request.GetObservation().GetTensor().GetShape()[0]
		action := &pgkerasv1.Tensor{
			Dtype: pgkerasv1.DataType_DATA_TYPE_INT64, Shape: []int64{rows}, Data: make([]byte, 8*rows),
		}
		act := &pgkerasv1.ActResponse{Action: action}
		response := &pgkerasv1.PlayResponse{Id: request.GetId(), Result: &pgkerasv1.PlayResponse_Act{Act: act}}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func serve() (any, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	pgkerasv1.RegisterPolicyServiceServer(server, echo{})
	go func() { log.Print(server.Serve(listener)) }()
	return map[string]int{"port": listener.Addr().(*net.TCPAddr).Port}, nil
}

type outcome struct {
	observation, reward   []float32
	terminated, truncated []bool
}

func newOutcome(environments int) outcome {
	o := outcome{
		observation: make([]float32, 4*environments),
		reward:      make([]float32, environments),
		terminated:  make([]bool, environments),
		truncated:   make([]bool, environments),
	}
	for i := range o.reward {
		o.reward[i] = 1
	}
	return o
}

func play(target string, environments int, seconds float64) (any, error) {
	client, err := pgkeras.Dial(target, pgkeras.WithPolicy("cartpole-v1"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	ctx := context.Background()
	session, err := client.Play(ctx, pgkeras.Greedy())
	if err != nil {
		return nil, err
	}
	defer session.Close()
	o := newOutcome(environments)
	if _, err := session.Step(ctx, pgkeras.NewTensor(o.observation, environments, 4), nil, nil, nil); err != nil {
		return nil, err
	}
	return measure(seconds, func() error {
		observation := pgkeras.NewTensor(o.observation, environments, 4)
		answer, err := session.Step(ctx, observation, o.reward, o.terminated, o.truncated)
		if err == nil {
			_, err = pgkeras.Values[int64](answer.Action)
		}
		return err
	})
}

func playStub(target string, environments int, seconds float64) (any, error) {
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration((seconds+30)*float64(time.Second)))
	defer cancel()
	stream, err := pgkerasv1.NewPolicyServiceClient(connection).Play(ctx)
	if err != nil {
		return nil, err
	}
	o := newOutcome(environments)
	request := &pgkerasv1.PlayRequest{
		Id: 1,
		Observation: &pgkerasv1.Value{
			Kind: &pgkerasv1.Value_Tensor{Tensor: message(pgkeras.NewTensor(o.observation, environments, 4))},
		},
		Reward:     message(pgkeras.NewTensor(o.reward)),
		Terminated: message(pgkeras.NewTensor(o.terminated)),
		Truncated:  message(pgkeras.NewTensor(o.truncated)),
	}
	return measure(seconds, func() error {
		if err := stream.Send(request); err != nil {
			return err
		}
		_, err := stream.Recv()
		return err
	})
}

func message(tensor pgkeras.Tensor) *pgkerasv1.Tensor {
	shape := make([]int64, len(tensor.Shape))
	for i, axis := range tensor.Shape {
		shape[i] = int64(axis)
	}
	return &pgkerasv1.Tensor{Dtype: tensor.DataType(), Shape: shape, Data: tensor.Bytes()}
}

func measure(seconds float64, step func() error) (any, error) {
	var latencies []time.Duration
	begin := time.Now()
	for time.Since(begin).Seconds() < seconds {
		start := time.Now()
		if err := step(); err != nil {
			return nil, err
		}
		latencies = append(latencies, time.Since(start))
	}
	elapsed := time.Since(begin).Seconds()
	slices.Sort(latencies)
	at := func(share float64) float64 {
		return float64(latencies[int(share*float64(len(latencies)-1))].Nanoseconds()) / 1e3
	}
	return map[string]any{"messages": len(latencies), "seconds": elapsed, "p50_us": at(0.5), "p99_us": at(0.99)}, nil
}

func execute(words []string) (any, error) {
	if len(words) == 1 && words[0] == "serve" {
		return serve()
	}
	if len(words) != 4 {
		return nil, fmt.Errorf("unknown command %q", words)
	}
	environments, err := strconv.Atoi(words[2])
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseFloat(words[3], 64)
	if err != nil {
		return nil, err
	}
	if words[0] == "play" {
		return play(words[1], environments, seconds)
	}
	return playStub(words[1], environments, seconds)
}

func main() {
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		answer, err := execute(strings.Fields(commands.Text()))
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(answer)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}
