package pgkeras

import (
	"math"
	"strconv"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// Space is an observation or action space. The kinds are those of gymnasium.spaces.
type Space = pgkerasv1.Space

// Simulator describes the simulator that opens a session. A simulator that declares itself can also train a policy, by
// connecting to pgkeras train --listen. A server of trained policies checks that the spaces match the policy's.
type Simulator struct {
	ObservationSpace, ActionSpace *Space
	// Environments is the number of environments that it steps in parallel; 0 means unspecified.
	Environments int
	// Name and Version are informational.
	Name, Version string
}

// Declare declares the simulator when it opens a session. Play then makes no call before the first step.
func Declare(simulator Simulator) CallOption {
	return named("Declare", func(c *choices) { c.simulator = &simulator })
}

func (s *Simulator) message() *pgkerasv1.Simulator {
	return &pgkerasv1.Simulator{
		ObservationSpace: s.ObservationSpace,
		ActionSpace:      s.ActionSpace,
		Environments:     int64(s.Environments),
		Name:             s.Name,
		Version:          s.Version,
	}
}

// Unbounded is the bound of a Box that has none; negate it for a lower bound.
var Unbounded = math.Inf(1)

// BoxSpace returns a space of float32 arrays. A bound is one number for all elements, or one per element in C order.
func BoxSpace(shape []int64, low, high []float64) *Space {
	return boxOf(pgkerasv1.DataType_DATA_TYPE_FLOAT32, shape, low, high)
}

// PixelSpace returns a space of uint8 images.
func PixelSpace(shape ...int64) *Space {
	return boxOf(pgkerasv1.DataType_DATA_TYPE_UINT8, shape, []float64{0}, []float64{255})
}

// DiscreteSpace returns the space of the integers 0 to n - 1.
func DiscreteSpace(n int64) *Space {
	space := &pgkerasv1.DiscreteSpace{N: n, Dtype: pgkerasv1.DataType_DATA_TYPE_INT64}
	return &Space{Kind: &pgkerasv1.Space_Discrete{Discrete: space}}
}

// MultiDiscreteSpace returns a space of integer vectors, whose element i is in 0 to counts[i] - 1.
func MultiDiscreteSpace(counts ...int64) *Space {
	space := &pgkerasv1.MultiDiscreteSpace{
		Nvec: counts, Start: make([]int64, len(counts)), Shape: []int64{int64(len(counts))},
		Dtype: pgkerasv1.DataType_DATA_TYPE_INT64,
	}
	return &Space{Kind: &pgkerasv1.Space_MultiDiscrete{MultiDiscrete: space}}
}

// MultiBinarySpace returns a space of arrays of zeros and ones.
func MultiBinarySpace(shape ...int64) *Space {
	return &Space{Kind: &pgkerasv1.Space_MultiBinary{MultiBinary: &pgkerasv1.MultiBinarySpace{Shape: shape}}}
}

// Part is a named part of a DictSpace.
type Part struct {
	Key   string
	Space *Space
}

// DictSpace returns a space of named parts, in this order.
func DictSpace(parts ...Part) *Space {
	space := &pgkerasv1.DictSpace{}
	for _, part := range parts {
		space.Spaces = append(space.Spaces, &pgkerasv1.NamedSpace{Key: part.Key, Space: part.Space})
	}
	return &Space{Kind: &pgkerasv1.Space_Dict{Dict: space}}
}

// TupleSpace returns a space of ordered parts.
func TupleSpace(parts ...*Space) *Space {
	return &Space{Kind: &pgkerasv1.Space_Tuple{Tuple: &pgkerasv1.TupleSpace{Spaces: parts}}}
}

func boxOf(dtype pgkerasv1.DataType, shape []int64, low, high []float64) *Space {
	return &Space{Kind: &pgkerasv1.Space_Box{Box: &pgkerasv1.BoxSpace{Dtype: dtype, Shape: shape, Low: low, High: high}}}
}

// Returns the number of axes of one value of a space, or -1 if the value is not a tensor.
func rankOf(space *Space) int {
	switch kind := space.GetKind().(type) {
	case *pgkerasv1.Space_Box:
		return len(kind.Box.GetShape())
	case *pgkerasv1.Space_Discrete:
		return 0
	case *pgkerasv1.Space_MultiDiscrete:
		return len(kind.MultiDiscrete.GetShape())
	case *pgkerasv1.Space_MultiBinary:
		return len(kind.MultiBinary.GetShape())
	}
	return -1
}

// Returns the parts of a Dict or Tuple space with their keys in Fields; none for other spaces.
func partsOf(space *Space) []Part {
	var parts []Part
	for _, part := range space.GetDict().GetSpaces() {
		parts = append(parts, Part{part.GetKey(), part.GetSpace()})
	}
	for i, part := range space.GetTuple().GetSpaces() {
		parts = append(parts, Part{strconv.Itoa(i), part})
	}
	return parts
}

// Reports whether a value is one observation rather than a batch, and whether that could be determined. The first array
// decides. Texts alone do not, because they have a batch axis in both cases.
func isSingle(value Value, space *Space) (single, told bool) {
	switch value := value.(type) {
	case Tensor:
		return len(value.Shape) == rankOf(space), true
	case Fields:
		for _, part := range partsOf(space) {
			if single, told := isSingle(value[part.Key], part.Space); told {
				return single, true
			}
		}
	}
	return false, false
}

// Returns one observation as a batch of one.
func withBatchAxis(value Value) Value {
	switch value := value.(type) {
	case Tensor:
		value.Shape = append([]int{1}, value.Shape...)
		return value
	case Fields:
		batch := make(Fields, len(value))
		for key, part := range value {
			batch[key] = withBatchAxis(part)
		}
		return batch
	}
	return value
}
