package main

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

var (
	rewards = []float32{1}
	going   = []bool{false}
)

func (p *program) seededSessions() error {
	for _, vector := range p.vectors.Sessions {
		seed, err := strconv.ParseUint(vector.Seed, 10, 64)
		if err != nil {
			return err
		}
		session, err := p.client.Play(background, pgkeras.Seed(seed))
		if err != nil {
			return err
		}
		for i, step := range vector.Steps {
			observation, err := observed(step.Observation)
			if err != nil {
				return err
			}
			answer, err := session.Step(background, observation, step.Reward, step.Terminated, step.Truncated)
			if err != nil {
				return err
			}
			actions, err := pgkeras.Values[int64](answer.Action)
			if err := all(err, check(slices.Equal(actions, step.Action), "%s: step %d: %v", vector.Name, i, actions)); err != nil {
				return err
			}
		}
		session.Close()
	}
	return nil
}

func (p *program) sessionGoesOn() error {
	session, err := p.client.Play(background, pgkeras.Greedy())
	if err != nil {
		return err
	}
	defer session.Close()
	if _, err := session.Step(background, row, nil, nil, nil); err != nil {
		return err
	}
	_, err = session.Step(background, pgkeras.NewTensor([]float32{0, 0, 0}, 1, 3), rewards, going, going)
	invalid, err := failure[*pgkeras.InvalidRequestError](err)
	if err := all(
		err,
		check(invalid != nil && invalid.Field == "observation", "%v", invalid),
		check(!session.Over(), "the session is over"),
	); err != nil {
		return err
	}
	answer, err := session.Step(background, row, rewards, going, going)
	if err != nil {
		return err
	}
	return check(len(answer.Action.Shape) == 0, "an action of shape %v", answer.Action.Shape)
}

func (p *program) masks() error {
	client, err := p.fixture("masked")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	session, err := client.Play(background, pgkeras.Seed(3), pgkeras.Outputs(pgkeras.WithDistribution))
	if err != nil {
		return err
	}
	defer session.Close()
	observation := pgkeras.NewTensor(make([]float32, 128), 32, 4)
	stepped := false
	ways := []func(mask pgkeras.Tensor) (*pgkeras.Actions, error){
		func(mask pgkeras.Tensor) (*pgkeras.Actions, error) {
			return client.Act(background, observation, pgkeras.Seed(3), pgkeras.Mask(mask))
		},
		func(mask pgkeras.Tensor) (*pgkeras.Actions, error) {
			if !stepped {
				stepped = true
				return session.Step(background, observation, nil, nil, nil, pgkeras.Mask(mask))
			}
			ends := make([]bool, 32)
			return session.Step(background, observation, make([]float32, 32), ends, ends, pgkeras.Mask(mask))
		},
	}
	for _, ask := range ways {
		if err := masked(ask); err != nil {
			return err
		}
	}
	return nil
}

func masked(ask func(mask pgkeras.Tensor) (*pgkeras.Actions, error)) error {
	allow := func(allowed func(row, action int) bool) pgkeras.Tensor {
		mask := make([]bool, 32*5)
		for i := range mask {
			mask[i] = allowed(i/5, i%5)
		}
		return pgkeras.NewTensor(mask, 32, 5)
	}
	answer, err := ask(allow(func(row, action int) bool { return action == row%5 }))
	if err != nil {
		return err
	}
	actions, err := pgkeras.Values[int64](answer.Action)
	if err != nil {
		return err
	}
	for i, action := range actions {
		if err := check(action == int64(i%5), "row %d: action %d", i, action); err != nil {
			return err
		}
	}
	if answer, err = ask(allow(func(_, action int) bool { return action%2 == 1 })); err != nil {
		return err
	}
	actions, probabilities, err := decided(answer)
	if err != nil {
		return err
	}
	for i, probability := range probabilities {
		if err := all(check(actions[i/5]%2 == 1, "actions %v", actions),
			check(i%5%2 == 1 || probability < 1e-6, "probabilities %v", probabilities[i/5*5:i/5*5+5])); err != nil {
			return err
		}
	}
	_, err = ask(allow(func(int, int) bool { return false }))
	invalid, err := failure[*pgkeras.InvalidRequestError](err)
	return all(err, check(invalid != nil && invalid.Field == "action_mask", "%v", invalid))
}

func (p *program) structured() error {
	client, err := p.fixture("structured")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	zeros, allowed := pgkeras.NewTensor(make([]float32, 128), 32, 4), make([]bool, 32*7)
	for i := range 32 {
		allowed[7*i+i%4], allowed[7*i+4+i%3] = true, true
	}
	mask := pgkeras.Mask(pgkeras.NewTensor(allowed, 32, 7))
	outputs := pgkeras.Outputs(pgkeras.WithDistribution, pgkeras.GreedyAction)
	answer, err := client.Act(background, zeros, pgkeras.Seed(3), mask, outputs)
	if err != nil {
		return err
	}
	if err := inParts(answer); err != nil {
		return err
	}
	session, err := client.Play(background, pgkeras.Seed(3), outputs)
	if err != nil {
		return err
	}
	defer session.Close()
	if answer, err = session.Step(background, zeros, nil, nil, nil, mask); err != nil {
		return err
	}
	if err := inParts(answer); err != nil {
		return err
	}
	alone, err := client.Play(background, outputs)
	if err != nil {
		return err
	}
	defer alone.Close()
	if answer, err = alone.Step(background, pgkeras.NewTensor(make([]float32, 4), 4), nil, nil, nil); err != nil {
		return err
	}
	aim, move := answer.Parts["aim"].Shape, answer.Parts["move"].Shape
	return check(len(aim) == 1 && aim[0] == 2 && len(move) == 0, "shapes %v and %v of a single action", aim, move)
}

func inParts(answer *pgkeras.Actions) error {
	for _, parts := range []map[string]pgkeras.Tensor{answer.Parts, answer.GreedyParts} {
		aim, err := pgkeras.Values[float32](parts["aim"])
		if err != nil {
			return err
		}
		bits, err := pgkeras.Values[int8](parts["hands.0"])
		if err != nil {
			return err
		}
		choices, err := pgkeras.Values[int64](parts["hands.1"])
		if err != nil {
			return err
		}
		moves, err := pgkeras.Values[int64](parts["move"])
		if err != nil {
			return err
		}
		if err := check(len(aim) == 64 && len(bits) == 96 && len(choices) == 32 && len(moves) == 32, "%v", parts); err != nil {
			return err
		}
		for i := range 32 {
			if err := all(check(max(aim[2*i], aim[2*i+1]) <= 1 && min(aim[2*i], aim[2*i+1]) >= -1, "row %d: aim", i),
				check(bits[3*i] == 0 || bits[3*i] == 1, "row %d: hands.0 %d", i, bits[3*i]),
				check(choices[i] == int64(i%4) && moves[i] == int64(i%3), "row %d: %d and %d", i, choices[i], moves[i])); err != nil {
				return err
			}
		}
	}
	found := answer.Distribution.Parameters
	for _, name := range []string{"aim.mean", "aim.stddev", "hands.0.probabilities", "hands.1.probabilities"} {
		if _, ok := found[name]; !ok {
			return fmt.Errorf("no %s among the distribution's parameters", name)
		}
	}
	probabilities, err := pgkeras.Values[float32](found["move.probabilities"])
	if err != nil {
		return err
	}
	for i, probability := range probabilities {
		wanted := float32(0)
		if i/3%3 == i%3 {
			wanted = 1
		}
		if err := check(probability > wanted-1e-5 && probability < wanted+1e-5, "move.probabilities %v", probabilities); err != nil {
			return err
		}
	}
	return check(answer.Distribution.Kind == "structured" && len(found) == 5, "%v", found)
}

func (p *program) memory() error {
	client, err := p.fixture("memory")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ones := pgkeras.NewTensor([]float32{1, 1, 1, 1})
	first, err := client.Act(background, ones, pgkeras.Greedy())
	if err != nil {
		return err
	}
	second, err := client.Act(background, ones, pgkeras.Greedy(), pgkeras.State(first.State))
	if err != nil {
		return err
	}
	third, err := client.Act(background, ones, pgkeras.Greedy())
	if err != nil {
		return err
	}
	wanted := []*pgkeras.Actions{first, second, third}
	session, err := client.Play(background, pgkeras.Greedy(), pgkeras.Outputs(pgkeras.WithDistribution))
	if err != nil {
		return err
	}
	defer session.Close()
	numbers := make([][]float32, 3)
	for i := range wanted {
		options := []pgkeras.CallOption{pgkeras.EpisodeStart(i != 1)}
		var reward []float32
		var end []bool
		if i > 0 {
			reward, end = rewards, going
		}
		stepped, err := session.Step(background, ones, reward, end, end, options...)
		if err != nil {
			return err
		}
		if numbers[i], err = pgkeras.Values[float32](wanted[i].Distribution.Parameters["probabilities"]); err != nil {
			return err
		}
		got, err := pgkeras.Values[float32](stepped.Distribution.Parameters["probabilities"])
		if err := all(err, near(got, numbers[i])); err != nil {
			return err
		}
	}
	differ := !slices.EqualFunc(numbers[0], numbers[1], func(a, b float32) bool { return max(a-b, b-a) <= 1e-4 })
	return all(check(differ, "the state changes nothing: %v", numbers[0]), near(numbers[2], numbers[0]))
}
