package main

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

const observations = 16

func (p *program) structuredObservations() error {
	client, err := p.fixture("parts")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	number, err := strconv.ParseUint(p.vectors.StructuredObservations.Seed, 10, 64)
	if err != nil {
		return err
	}
	seed, outputs := pgkeras.Seed(number), pgkeras.Outputs(pgkeras.WithDistribution)
	act := func(observation pgkeras.Fields) (*pgkeras.Actions, error) {
		return client.Act(background, observation, seed)
	}
	if err := p.judge(0, observations)(act(parts(0, observations))); err != nil {
		return err
	}
	if err := wrongParts(act, 0, observations); err != nil {
		return err
	}
	session, err := client.Play(background, seed, outputs)
	if err != nil {
		return err
	}
	defer session.Close()
	if err := p.judge(0, observations)(session.Step(background, parts(0, observations), nil, nil, nil)); err != nil {
		return err
	}
	alone, err := client.Play(background, seed, outputs)
	if err != nil {
		return err
	}
	defer alone.Close()
	if err := p.judge(0)(alone.Step(background, parts(0), nil, nil, nil)); err != nil {
		return err
	}
	step := func(observation pgkeras.Fields) (*pgkeras.Actions, error) {
		return alone.Step(background, observation, rewards, going, going)
	}
	if err := all(wrongParts(step, 1), check(!alone.Over(), "the session is over")); err != nil {
		return err
	}
	for row := 1; row < observations; row++ {
		if err := p.judge(row)(step(parts(row))); err != nil {
			return err
		}
	}
	return nil
}

// Returns a function that compares a response to the vectors of the observations from a row on.
func (p *program) judge(row int, batch ...int) func(answer *pgkeras.Actions, err error) error {
	vector, end := p.vectors.StructuredObservations, row+1
	if batch != nil {
		end = row + batch[0]
	}
	return func(answer *pgkeras.Actions, err error) error {
		if err != nil {
			return err
		}
		actions, probabilities, err := decided(answer)
		return all(
			err,
			check(slices.Equal(answer.Action.Shape, batch), "row %d: actions of shape %v", row, answer.Action.Shape),
			check(slices.Equal(actions, vector.Action[row:end]), "row %d: actions %v", row, actions),
			near(probabilities, slices.Concat(vector.Probabilities[row:end]...)),
		)
	}
}

// Checks that observations with a missing part and with a part of the wrong shape fail with an error that names the
// part.
func wrongParts(ask func(pgkeras.Fields) (*pgkeras.Actions, error), row int, batch ...int) error {
	missing, short := parts(row, batch...), parts(row, batch...)
	delete(missing["hands"].(pgkeras.Fields), "1")
	short["position"] = counted(row, func(int) float32 { return 0 }, batch, 3)
	_, err := ask(missing)
	invalid, err := failure[*pgkeras.InvalidRequestError](err)
	if err := all(err, check(invalid != nil && invalid.Field == "observation.hands.1", "%v", invalid)); err != nil {
		return err
	}
	_, err = ask(short)
	invalid, err = failure[*pgkeras.InvalidRequestError](err)
	named := invalid != nil && invalid.Field == "observation.position" && strings.Contains(invalid.Expected, "[4]")
	return all(err, check(named, "%v", invalid))
}

// Returns the scenario's observations from a row on: a batch of the given length, or a single observation without it.
func parts(row int, batch ...int) pgkeras.Fields {
	return pgkeras.Fields{
		"camera": counted(row, func(i int) uint8 { return uint8(i % 251) }, batch, 4, 4, 3),
		"hands": pgkeras.Fields{
			"0": counted(row, func(i int) int8 { return int8(i % 2) }, batch, 3),
			"1": counted(row, func(i int) int64 { return int64(i % 4) }, batch),
		},
		"position": counted(row, func(i int) float32 { return float32(i%9-4) / 4 }, batch, 4),
	}
}

// Returns the elements of a part from a row on. Each is computed from its index among the elements of all rows.
func counted[T pgkeras.Element](row int, element func(i int) T, batch []int, shape ...int) pgkeras.Tensor {
	size, count := 1, 1
	for _, length := range shape {
		size *= length
	}
	for _, length := range batch {
		count *= length
	}
	values := make([]T, count*size)
	for i := range values {
		values[i] = element(row*size + i)
	}
	return pgkeras.NewTensor(values, append(append([]int{}, batch...), shape...)...)
}
