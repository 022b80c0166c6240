package pgkeras

import (
	"math"
	"strconv"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// Space is a set of observations or actions; the kinds are those of gymnasium.spaces.
type Space = pgkerasv1.Space

// Simulator is who plays. One that declares itself can also teach a policy, where pgkeras train --listen listens; a
// server of trained policies checks that the spaces are the policy's.
type Simulator struct {
	ObservationSpace, ActionSpace *Space
	// Environments is how many it steps side by side; 0 leaves it open.
	Environments int
	// Name and Version are for people.
	Name, Version string
}

// Declare tells, when it opens a session, who plays. The session then asks for nothing before its first step.
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

// Unbounded is the bound of a number that has none.
var Unbounded = math.Inf(1)

// BoxSpace holds arrays of float32 numbers. Each bound is one number for all elements, or one for each in C order.
func BoxSpace(shape []int64, low, high []float64) *Space {
	return boxOf(pgkerasv1.DataType_DATA_TYPE_FLOAT32, shape, low, high)
}

// PixelSpace holds images, of bytes.
func PixelSpace(shape ...int64) *Space {
	return boxOf(pgkerasv1.DataType_DATA_TYPE_UINT8, shape, []float64{0}, []float64{255})
}

// DiscreteSpace holds the integers 0 to n - 1.
func DiscreteSpace(n int64) *Space {
	space := &pgkerasv1.DiscreteSpace{N: n, Dtype: pgkerasv1.DataType_DATA_TYPE_INT64}
	return &Space{Kind: &pgkerasv1.Space_Discrete{Discrete: space}}
}

// MultiDiscreteSpace holds several integers at once: element i is one of 0 to counts[i] - 1.
func MultiDiscreteSpace(counts ...int64) *Space {
	space := &pgkerasv1.MultiDiscreteSpace{
		Nvec: counts, Start: make([]int64, len(counts)), Shape: []int64{int64(len(counts))},
		Dtype: pgkerasv1.DataType_DATA_TYPE_INT64,
	}
	return &Space{Kind: &pgkerasv1.Space_MultiDiscrete{MultiDiscrete: space}}
}

// MultiBinarySpace holds arrays of zeros and ones.
func MultiBinarySpace(shape ...int64) *Space {
	return &Space{Kind: &pgkerasv1.Space_MultiBinary{MultiBinary: &pgkerasv1.MultiBinarySpace{Shape: shape}}}
}

// Part is one part of a DictSpace.
type Part struct {
	Key   string
	Space *Space
}

// DictSpace holds named parts, in this order.
func DictSpace(parts ...Part) *Space {
	space := &pgkerasv1.DictSpace{}
	for _, part := range parts {
		space.Spaces = append(space.Spaces, &pgkerasv1.NamedSpace{Key: part.Key, Space: part.Space})
	}
	return &Space{Kind: &pgkerasv1.Space_Dict{Dict: space}}
}

// TupleSpace holds ordered parts.
func TupleSpace(parts ...*Space) *Space {
	return &Space{Kind: &pgkerasv1.Space_Tuple{Tuple: &pgkerasv1.TupleSpace{Spaces: parts}}}
}

func boxOf(dtype pgkerasv1.DataType, shape []int64, low, high []float64) *Space {
	return &Space{Kind: &pgkerasv1.Space_Box{Box: &pgkerasv1.BoxSpace{Dtype: dtype, Shape: shape, Low: low, High: high}}}
}

// Axes of one value of a space; -1 if it is not a tensor.
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

// The parts of a Dict or Tuple space, by the keys that they have in Fields; none of another.
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

// Whether a value is one observation and not a batch, going by its first array, and whether it has one: texts are a
// batch, be it of one.
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

// One observation as a batch of one.
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
