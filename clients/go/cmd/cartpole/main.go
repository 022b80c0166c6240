// Command cartpole simulates CartPole-v1 and requests its actions from a policy server.
//
// Equations and constants are from gymnasium's envs/classic_control/cartpole.py, after Barto, Sutton & Anderson,
// "Neuronlike adaptive elements that can solve difficult learning control problems" (1983).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"math"
	"math/rand/v2"
	"os"
	"time"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

const (
	gravity   = 9.8
	massCart  = 1.0
	massPole  = 0.1
	totalMass = massCart + massPole
	length    = 0.5 // half the length of the pole
	force     = 10.0
	tau       = 0.02 // seconds per step
	maxX      = 2.4
	maxAngle  = 12 * 2 * math.Pi / 360
	maxSteps  = 500
)

type cartPole struct {
	x, speed, angle, angularSpeed float64
	age                           int
	random                        *rand.Rand
}

func (c *cartPole) reset() {
	for _, number := range []*float64{&c.x, &c.speed, &c.angle, &c.angularSpeed} {
		*number = c.random.Float64()*0.1 - 0.05
	}
	c.age = 0
}

func (c *cartPole) step(action int64) (terminated, truncated bool) {
	push := force
	if action == 0 {
		push = -force
	}
	sine, cosine := math.Sincos(c.angle)
	push = (push + massPole*length*c.angularSpeed*c.angularSpeed*sine) / totalMass
	angularAcceleration := (gravity*sine - cosine*push) / (length * (4.0/3.0 - massPole*cosine*cosine/totalMass))
	acceleration := push - massPole*length*angularAcceleration*cosine/totalMass
	c.x, c.speed = c.x+tau*c.speed, c.speed+tau*acceleration
	c.angle, c.angularSpeed = c.angle+tau*c.angularSpeed, c.angularSpeed+tau*angularAcceleration
	c.age++
	terminated = math.Abs(c.x) > maxX || math.Abs(c.angle) > maxAngle
	return terminated, !terminated && c.age >= maxSteps
}

// Many carts in one session. A cart whose episode has ended is reset immediately.
type simulator struct {
	carts                         []cartPole
	observation                   []float32
	reward                        []float32
	terminated, truncated, starts []bool
}

func newSimulator(environments int) *simulator {
	s := &simulator{
		carts:       make([]cartPole, environments),
		observation: make([]float32, 4*environments),
		reward:      make([]float32, environments),
		terminated:  make([]bool, environments),
		truncated:   make([]bool, environments),
		starts:      make([]bool, environments),
	}
	for i := range s.carts {
		s.carts[i].random = rand.New(rand.NewPCG(0, uint64(i)))
		s.carts[i].reset()
		s.reward[i] = 1
	}
	s.observe()
	return s
}

func (s *simulator) observe() {
	for i, cart := range s.carts {
		for j, number := range []float64{cart.x, cart.speed, cart.angle, cart.angularSpeed} {
			s.observation[4*i+j] = float32(number)
		}
	}
}

// Steps all carts. A cart that is held repeats the first observation of its episode; hold may be nil.
func (s *simulator) step(actions []int64, hold []bool) {
	for i := range s.carts {
		cart := &s.carts[i]
		if hold != nil && hold[i] {
			s.terminated[i], s.truncated[i], s.starts[i] = false, false, true
			continue
		}
		s.terminated[i], s.truncated[i] = cart.step(actions[i])
		if s.starts[i] = s.terminated[i] || s.truncated[i]; s.starts[i] {
			cart.reset()
		}
	}
	s.observe()
}

// Requests the actions of all carts. The first request of a session reports no outcome.
func (s *simulator) ask(session *pgkeras.Session, first bool) (actions []int64, hold []bool, err error) {
	observation := pgkeras.NewTensor(s.observation, len(s.carts), 4)
	var answer *pgkeras.Actions
	if first {
		answer, err = session.Step(context.Background(), observation, nil, nil, nil)
	} else {
		// The observation of a cart whose episode has ended is the first of its next episode.
		starts := pgkeras.EpisodeStart(s.starts...)
		answer, err = session.Step(context.Background(), observation, s.reward, s.terminated, s.truncated, starts)
	}
	if err != nil {
		return nil, nil, err
	}
	actions, err = pgkeras.Values[int64](answer.Action)
	return actions, answer.Hold, err
}

func play(session *pgkeras.Session, episodes int) (map[string]any, error) {
	s := newSimulator(1)
	steps, ended := 0, 0
	for ended < episodes {
		actions, _, err := s.ask(session, steps == 0)
		if err != nil {
			return nil, err
		}
		s.step(actions, nil)
		steps++
		if s.starts[0] {
			ended++
		}
	}
	return map[string]any{"episodes": episodes, "mean_return": float64(steps) / float64(episodes), "steps": steps}, nil
}

func measure(session *pgkeras.Session, environments, steps int) (map[string]any, error) {
	s := newSimulator(environments)
	actions, _, err := s.ask(session, true)
	begin := time.Now()
	for range steps {
		if err != nil {
			return nil, err
		}
		s.step(actions, nil)
		actions, _, err = s.ask(session, false)
	}
	rate := float64(environments*steps) / time.Since(begin).Seconds()
	return map[string]any{"environments": environments, "steps": steps, "environment_steps_per_second": rate}, err
}

// Plays until no run has responded for the duration of patience. A run that stops may be started again.
func teach(client *pgkeras.Client, environments int, patience time.Duration) (map[string]any, error) {
	messages := 0
	lastResponse := time.Now()
	for {
		before := messages
		err := teachSession(client, environments, &messages)
		var unavailable *pgkeras.ServerUnavailableError
		if !errors.As(err, &unavailable) {
			return nil, err
		}
		if messages > before {
			lastResponse = time.Now()
		}
		if time.Since(lastResponse) >= patience {
			if messages == 0 {
				return nil, err
			}
			return map[string]any{"environments": environments, "messages": messages}, nil
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// Plays one session until it ends, and counts its messages.
func teachSession(client *pgkeras.Client, environments int, messages *int) error {
	angle := 2 * maxAngle
	session, err := client.Play(context.Background(), pgkeras.Declare(pgkeras.Simulator{
		ObservationSpace: pgkeras.BoxSpace(
			[]int64{4},
			[]float64{-2 * maxX, -pgkeras.Unbounded, -angle, -pgkeras.Unbounded},
			[]float64{2 * maxX, pgkeras.Unbounded, angle, pgkeras.Unbounded},
		),
		ActionSpace:  pgkeras.DiscreteSpace(2),
		Environments: environments,
		Name:         "CartPole in Go",
	}))
	if err != nil {
		return err
	}
	defer session.Close()
	s := newSimulator(environments)
	for first := true; ; first = false {
		actions, hold, err := s.ask(session, first)
		if err != nil {
			return err
		}
		s.step(actions, hold)
		*messages++
	}
}

func run() error {
	target := flag.String("target", "127.0.0.1:50051", "HOST:PORT of the policy server")
	episodes := flag.Int("episodes", 20, "number of episodes to play in sequence")
	environments := flag.Int("environments", 0, "measure the throughput with this many environments instead")
	steps := flag.Int("steps", 1000, "number of steps of that measurement")
	teachEnvironments := flag.Int("teach", 0, "train a policy with this many environments")
	patience := flag.Float64("patience", 10, "seconds to keep trying when the run does not respond")
	policy := flag.String("policy", "cartpole-v1", "the policy to play")
	flag.Parse()
	if *teachEnvironments > 0 {
		*policy = ""
	}
	client, err := pgkeras.Dial(*target, pgkeras.WithPolicy(*policy))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if *teachEnvironments > 0 {
		report, err := teach(client, *teachEnvironments, time.Duration(*patience*float64(time.Second)))
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(report)
	}
	session, err := client.Play(context.Background(), pgkeras.Greedy())
	if err != nil {
		return err
	}
	defer session.Close()
	var report map[string]any
	if *environments > 0 {
		report, err = measure(session, *environments, *steps)
	} else {
		report, err = play(session, *episodes)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
