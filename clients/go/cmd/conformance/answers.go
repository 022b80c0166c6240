package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pgkeras/pgkeras/clients/go/internal/vectors"
	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

var (
	background = context.Background()
	row        = pgkeras.NewTensor([]float32{0, 0.1, 0, -0.1})
	badRow     = pgkeras.NewTensor([]float32{0, 0.1, 0})
)

func (p *program) describe() error {
	policy, err := p.client.Describe(background)
	if err != nil {
		return err
	}
	expected, box := p.vectors.Policy, policy.GetSpec().GetObservationSpace().GetBox()
	dtype := strings.ToLower(strings.TrimPrefix(box.GetDtype().String(), "DATA_TYPE_"))
	kind := strings.ToLower(strings.TrimPrefix(policy.GetSpec().GetDistribution().String(), "DISTRIBUTION_KIND_"))
	limits := policy.Limits
	policies, err := p.client.Policies(background)
	if err != nil {
		return err
	}
	return all(
		check(policy.GetName() == expected.Name && policy.GetVersion() == expected.Version, "it is %v", policy.Policy),
		check(policy.GetSpecHash() == expected.SpecHash, "spec hash %s", policy.GetSpecHash()),
		check(slices.Equal(box.GetShape(), expected.ObservationShape), "shape %v", box.GetShape()),
		check(dtype == expected.ObservationDType, "dtype %s", dtype),
		check(policy.GetSpec().GetActionSpace().GetDiscrete().GetN() == expected.Actions, "%v", policy.GetSpec()),
		check(kind == expected.Distribution, "distribution %s", kind),
		check(min(limits.GetMaxBatchSize(), limits.GetMaxReceiveMessageBytes(), limits.GetMaxSendMessageBytes()) > 0,
			"limits %v", limits),
		check(slices.ContainsFunc(policies, func(other *pgkeras.Policy) bool { return other.GetName() == expected.Name }),
			"it is not in the list of policies"),
	)
}

func (p *program) single() error {
	answer, err := p.client.Act(background, row, pgkeras.Greedy())
	if err != nil {
		return err
	}
	probabilities := answer.Distribution.Parameters["probabilities"]
	return all(
		check(len(answer.Action.Shape) == 0, "an action of shape %v", answer.Action.Shape),
		check(len(answer.LogProb) == 1 && len(answer.Entropy) == 1, "%v %v", answer.LogProb, answer.Entropy),
		check(slices.Equal(probabilities.Shape, []int{2}), "probabilities of shape %v", probabilities.Shape),
		sumsToOne(probabilities),
		check(answer.Policy == "cartpole-v1" && answer.Version == 1, "%s %d", answer.Policy, answer.Version),
	)
}

func (p *program) batch() error {
	rows := make([]float32, 256)
	for i := range rows {
		rows[i] = float32(i-128) / 256
	}
	answer, err := p.client.Act(background, pgkeras.NewTensor(rows, 64, 4), pgkeras.Greedy())
	if err != nil {
		return err
	}
	actions, err := pgkeras.Values[int64](answer.Action)
	if err != nil {
		return err
	}
	shape := answer.Distribution.Parameters["probabilities"].Shape
	if err := all(
		check(slices.Equal(answer.Action.Shape, []int{64}) && len(answer.LogProb) == 64, "shape %v", answer.Action.Shape),
		check(slices.Equal(shape, []int{64, 2}), "probabilities of shape %v", shape),
	); err != nil {
		return err
	}
	for _, i := range []int{0, 31, 63} {
		alone, err := p.client.Act(background, pgkeras.NewTensor(rows[4*i:4*i+4]), pgkeras.Greedy())
		if err != nil {
			return err
		}
		action, err := pgkeras.Values[int64](alone.Action)
		if err := all(
			err,
			check(action[0] == actions[i], "row %d: action %d, alone %d", i, actions[i], action[0]),
			near(alone.LogProb, answer.LogProb[i:i+1]),
		); err != nil {
			return err
		}
	}
	return nil
}

// Returns the actions and the action probabilities.
func decided(answer *pgkeras.Actions) (actions []int64, probabilities []float32, err error) {
	if actions, err = pgkeras.Values[int64](answer.Action); err != nil {
		return nil, nil, err
	}
	probabilities, err = pgkeras.Values[float32](answer.Distribution.Parameters["probabilities"])
	return actions, probabilities, err
}

func (p *program) seededCalls() error {
	for _, vector := range p.vectors.Calls {
		var choices []pgkeras.CallOption
		if vector.Mode == "greedy" {
			choices = append(choices, pgkeras.Greedy())
		}
		if vector.Seed != nil {
			seed, err := strconv.ParseUint(*vector.Seed, 10, 64)
			if err != nil {
				return err
			}
			choices = append(choices, pgkeras.Seed(seed))
		}
		for range 2 {
			observation, err := observed(vector.Observation)
			if err != nil {
				return err
			}
			answer, err := p.client.Act(background, observation, choices...)
			if err != nil {
				return err
			}
			actions, probabilities, err := decided(answer)
			if err := all(
				err,
				check(slices.Equal(actions, flat[int64](vector.Action)), "%s: actions %v", vector.Name, actions),
				near(answer.LogProb, flat[float32](vector.LogProb)),
				near(answer.Entropy, flat[float32](vector.Entropy)),
				near(probabilities, flat[float32](vector.Probabilities)),
			); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *program) image() error {
	client, err := p.fixture("image")
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	pixels := make([]uint8, 8<<20)
	for i := range pixels {
		pixels[i] = uint8(i % 251)
	}
	answer, err := client.Act(background, pgkeras.NewTensor(pixels, 1024, 2048, 4))
	if err != nil {
		return err
	}
	action, err := pgkeras.Values[int64](answer.Action)
	return all(err, check(action[0] >= 0 && action[0] < 3, "action %v", action),
		sumsToOne(answer.Distribution.Parameters["probabilities"]))
}

func (p *program) fixture(policy string) (*pgkeras.Client, error) {
	client, err := pgkeras.Dial(p.options.target, pgkeras.WithPolicy(policy))
	if err != nil {
		return nil, err
	}
	_, err = client.Describe(background)
	var missing *pgkeras.PolicyNotFoundError
	if errors.As(err, &missing) {
		err = skip("the server has no policy " + policy)
	}
	return client, err
}

func observed(observation vectors.Observation) (pgkeras.Tensor, error) {
	tensor := pgkeras.NewTensor(observation.Values, observation.Shape...)
	return tensor, check(slices.Equal(tensor.Bytes(), observation.Data), "data and values differ")
}

// Flattens a JSON number or nested lists of numbers.
func flat[T int64 | float32](value json.RawMessage) []T {
	var number T
	if json.Unmarshal(value, &number) == nil {
		return []T{number}
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(value, &parts); err != nil {
		panic(err)
	}
	var numbers []T
	for _, part := range parts {
		numbers = append(numbers, flat[T](part)...)
	}
	return numbers
}

func sumsToOne(probabilities pgkeras.Tensor) error {
	values, err := pgkeras.Values[float32](probabilities)
	var sum float32
	for _, value := range values {
		sum += value
	}
	return all(err, near([]float32{sum}, []float32{1}))
}

func near(got, expected []float32) error {
	same := slices.EqualFunc(got, expected, func(a, b float32) bool {
		return math.Abs(float64(a-b)) <= 1e-5*max(1, math.Abs(float64(b)))
	})
	return check(same, "got %v, not %v", got, expected)
}

func check(right bool, complaint string, arguments ...any) error {
	if right {
		return nil
	}
	return fmt.Errorf(complaint, arguments...)
}

// Returns the first error.
func all(failures ...error) error {
	for _, failure := range failures {
		if failure != nil {
			return failure
		}
	}
	return nil
}
