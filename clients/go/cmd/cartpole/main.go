// Command cartpole simulates CartPole-v1 and asks a policy server for its actions.
//
// Equations and constants are those of gymnasium's envs/classic_control/cartpole.py, after Barto, Sutton & Anderson,
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
	length    = 0.5 // half the pole's
	force     = 10.0
	tau       = 0.02 // seconds from step to step
	maxX      = 2.4
	maxAngle  = 12 * 2 * math.Pi / 360
	maxSteps  = 500
)

type cartPole struct {
	x, speed, angle, turning float64
	age                      int
	random                   *rand.Rand
}

func (c *cartPole) reset() {
	for _, number := range []*float64{&c.x, &c.speed, &c.angle, &c.turning} {
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
	push = (push + massPole*length*c.turning*c.turning*sine) / totalMass
	turningChange := (gravity*sine - cosine*push) / (length * (4.0/3.0 - massPole*cosine*cosine/totalMass))
	speedChange := push - massPole*length*turningChange*cosine/totalMass
	c.x, c.speed = c.x+tau*c.speed, c.speed+tau*speedChange
	c.angle, c.turning = c.angle+tau*c.turning, c.turning+tau*turningChange
	c.age++
	terminated = math.Abs(c.x) > maxX || math.Abs(c.angle) > maxAngle
	return terminated, !terminated && c.age >= maxSteps
}

// Many carts in one session; an episode that ends is followed by the next at once.
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
		for j, number := range []float64{cart.x, cart.speed, cart.angle, cart.turning} {
			s.observation[4*i+j] = float32(number)
		}
	}
}

// What to hold may be nil. A cart that holds shows the first observation of its episode again.
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

// Asks for the actions of all carts; the first time, nothing has happened yet.
func (s *simulator) ask(session *pgkeras.Session, first bool) (actions []int64, hold []bool, err error) {
	observation := pgkeras.NewTensor(s.observation, len(s.carts), 4)
	var answer *pgkeras.Actions
	if first {
		answer, err = session.Step(context.Background(), observation, nil, nil, nil)
	} else {
		// The observation is the next episode's first already, where one has ended.
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

func race(session *pgkeras.Session, environments, steps int) (map[string]any, error) {
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

// Plays until nobody has answered for as long as patience lasts: a run that is gone may be started again.
func teach(client *pgkeras.Client, environments int, patience time.Duration) (map[string]any, error) {
	messages := 0
	heard := time.Now()
	for {
		before := messages
		err := teachInASession(client, environments, &messages)
		var unavailable *pgkeras.ServerUnavailableError
		if !errors.As(err, &unavailable) {
			return nil, err
		}
		if messages > before {
			heard = time.Now()
		}
		if time.Since(heard) >= patience {
			if messages == 0 {
				return nil, err
			}
			return map[string]any{"environments": environments, "messages": messages}, nil
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// Plays in one session until it ends, and counts the messages.
func teachInASession(client *pgkeras.Client, environments int, messages *int) error {
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
	episodes := flag.Int("episodes", 20, "episodes to play, one after the other")
	environments := flag.Int("environments", 0, "step so many at once instead, and take the time")
	steps := flag.Int("steps", 1000, "steps of those")
	teaching := flag.Int("teach", 0, "step so many at once, from which a policy in training learns")
	patience := flag.Float64("patience", 10, "how many seconds to look for a run that does not answer")
	policy := flag.String("policy", "cartpole-v1", "which policy plays")
	flag.Parse()
	if *teaching > 0 {
		*policy = ""
	}
	client, err := pgkeras.Dial(*target, pgkeras.WithPolicy(*policy))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	if *teaching > 0 {
		report, err := teach(client, *teaching, time.Duration(*patience*float64(time.Second)))
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
		report, err = race(session, *environments, *steps)
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
