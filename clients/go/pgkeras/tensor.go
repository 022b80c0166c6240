package pgkeras

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"

	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

// Float16 holds the bits of an IEEE 754 binary16 number, for which Go has no type.
type Float16 uint16

// Element is the constraint on element types of a tensor.
type Element interface {
	bool | uint8 | int8 | uint16 | int16 | int32 | int64 | Float16 | float32 | float64
}

// Value is an observation or a batch of observations: a Tensor, Texts for a Text space, or Fields for a Dict or Tuple
// space.
type Value interface {
	message() *pgkerasv1.Value
}

// Texts holds the strings of a batch for one Text space. A single string next to arrays without a batch axis belongs to
// a single observation.
type Texts []string

// Fields holds the parts of a value, keyed by name for a Dict space and by "0", "1", ... for a Tuple space.
type Fields map[string]Value

// Tensor is a dense array in C order. It shares its memory with the slice that it was made from and with slices that
// Values returns. Do not modify them while a call is in flight.
type Tensor struct {
	// Shape is the length of every axis; it is empty for a scalar.
	Shape []int
	dtype pgkerasv1.DataType
	// Little-endian, as on the wire.
	data []byte
}

const maxAxes = 32

// Whether this machine stores integers in the byte order of the protocol.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

var sizes = map[pgkerasv1.DataType]int{
	pgkerasv1.DataType_DATA_TYPE_BOOL:    1,
	pgkerasv1.DataType_DATA_TYPE_UINT8:   1,
	pgkerasv1.DataType_DATA_TYPE_INT8:    1,
	pgkerasv1.DataType_DATA_TYPE_UINT16:  2,
	pgkerasv1.DataType_DATA_TYPE_INT16:   2,
	pgkerasv1.DataType_DATA_TYPE_INT32:   4,
	pgkerasv1.DataType_DATA_TYPE_INT64:   8,
	pgkerasv1.DataType_DATA_TYPE_FLOAT16: 2,
	pgkerasv1.DataType_DATA_TYPE_FLOAT32: 4,
	pgkerasv1.DataType_DATA_TYPE_FLOAT64: 8,
}

func dataType[T Element]() pgkerasv1.DataType {
	var zero T
	switch any(zero).(type) {
	case bool:
		return pgkerasv1.DataType_DATA_TYPE_BOOL
	case uint8:
		return pgkerasv1.DataType_DATA_TYPE_UINT8
	case int8:
		return pgkerasv1.DataType_DATA_TYPE_INT8
	case uint16:
		return pgkerasv1.DataType_DATA_TYPE_UINT16
	case int16:
		return pgkerasv1.DataType_DATA_TYPE_INT16
	case int32:
		return pgkerasv1.DataType_DATA_TYPE_INT32
	case int64:
		return pgkerasv1.DataType_DATA_TYPE_INT64
	case Float16:
		return pgkerasv1.DataType_DATA_TYPE_FLOAT16
	case float32:
		return pgkerasv1.DataType_DATA_TYPE_FLOAT32
	default:
		return pgkerasv1.DataType_DATA_TYPE_FLOAT64
	}
}

// NewTensor returns a tensor of values in C order and shares their memory. Without a shape it is a vector. It panics if
// the number of values does not match the shape.
func NewTensor[T Element](values []T, shape ...int) Tensor {
	if shape == nil {
		shape = []int{len(values)}
	}
	if n, ok := product(shape); !ok || n != len(values) {
		panic(fmt.Sprintf("pgkeras: %d values do not fit shape %s", len(values), textOf(shape)))
	}
	dtype := dataType[T]()
	data := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*sizes[dtype])
	if !littleEndian {
		data = swapped(data, sizes[dtype])
	}
	return Tensor{Shape: slices.Clone(shape), dtype: dtype, data: data}
}

// Scalar returns a tensor without axes.
func Scalar[T Element](value T) Tensor {
	tensor := NewTensor([]T{value})
	tensor.Shape = []int{}
	return tensor
}

// Values returns a tensor's elements in C order. It shares the tensor's memory if byte order and alignment allow it; do
// not modify the elements. It returns an error if the elements are not of type T.
func Values[T Element](tensor Tensor) ([]T, error) {
	dtype := dataType[T]()
	if tensor.dtype != dtype {
		return nil, fmt.Errorf("pgkeras: the tensor's elements are %v, not %v", tensor.dtype, dtype)
	}
	size := sizes[dtype]
	count := len(tensor.data) / size
	if count == 0 {
		return []T{}, nil
	}
	data := tensor.data
	if !littleEndian {
		data = swapped(data, size)
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(data)))%uintptr(size) != 0 {
		aligned := make([]T, count)
		copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(aligned))), len(data)), data)
		return aligned, nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(data))), count), nil
}

// DataType returns the type of the tensor's elements.
func (t Tensor) DataType() pgkerasv1.DataType { return t.dtype }

// Bytes returns the tensor's elements in wire format: little-endian, in C order. Do not modify them.
func (t Tensor) Bytes() []byte { return t.data }

func (t Tensor) proto() *pgkerasv1.Tensor {
	shape := make([]int64, len(t.Shape))
	for i, length := range t.Shape {
		shape[i] = int64(length)
	}
	return &pgkerasv1.Tensor{Dtype: t.dtype, Shape: shape, Data: t.data}
}

func (t Tensor) message() *pgkerasv1.Value {
	return &pgkerasv1.Value{Kind: &pgkerasv1.Value_Tensor{Tensor: t.proto()}}
}

func (t Texts) message() *pgkerasv1.Value {
	return &pgkerasv1.Value{Kind: &pgkerasv1.Value_Texts{Texts: &pgkerasv1.Texts{Texts: t}}}
}

func (f Fields) message() *pgkerasv1.Value {
	fields := make(map[string]*pgkerasv1.Value, len(f))
	for key, part := range f {
		fields[key] = part.message()
	}
	return &pgkerasv1.Value{Kind: &pgkerasv1.Value_Fields{Fields: &pgkerasv1.Fields{Fields: fields}}}
}

// DecodeTensor decodes a message and shares its memory. Its error is an *InvalidRequestError, which names field, the
// path of the tensor in the response.
func DecodeTensor(message *pgkerasv1.Tensor, field string) (Tensor, error) {
	size, known := sizes[message.GetDtype()]
	if !known {
		got := message.GetDtype().String()
		return Tensor{}, &InvalidRequestError{Field: field + ".dtype", Expected: "a DataType other than UNSPECIFIED", Got: got}
	}
	if len(message.GetShape()) > maxAxes {
		return Tensor{}, &InvalidRequestError{
			Field:    field + ".shape",
			Expected: fmt.Sprintf("at most %d axes", maxAxes),
			Got:      fmt.Sprintf("%d axes", len(message.GetShape())),
		}
	}
	shape := make([]int, len(message.GetShape()))
	for i, length := range message.GetShape() {
		if length < 0 || length > math.MaxInt {
			return Tensor{}, &InvalidRequestError{
				Field: field + ".shape", Expected: "lengths of at least 0", Got: textOf(message.GetShape()),
			}
		}
		shape[i] = int(length)
	}
	data := message.GetData()
	// Divides instead of multiplying, because the product with the element size may overflow.
	if count, ok := product(shape); !ok || len(data)%size != 0 || len(data)/size != count {
		return Tensor{}, &InvalidRequestError{
			Field:    field + ".data",
			Expected: fmt.Sprintf("%d bytes for each element of shape %s", size, textOf(shape)),
			Got:      fmt.Sprintf("%d bytes", len(data)),
		}
	}
	if message.GetDtype() == pgkerasv1.DataType_DATA_TYPE_BOOL {
		// A Go bool must be stored as 0 or 1.
		if i := slices.IndexFunc(data, func(b byte) bool { return b > 1 }); i >= 0 {
			return Tensor{}, &InvalidRequestError{
				Field: field + ".data", Expected: "bytes of 0 or 1 for a bool", Got: fmt.Sprint(data[i]),
			}
		}
	}
	return Tensor{Shape: shape, dtype: message.GetDtype(), data: data}, nil
}

// Formats a shape as the other clients do: "[2, 4]".
func textOf[Length int | int64](shape []Length) string {
	return strings.ReplaceAll(fmt.Sprint(shape), " ", ", ")
}

// Returns the product of the lengths, and false if a length is negative or the product overflows an int.
func product(shape []int) (int, bool) {
	if slices.Contains(shape, 0) {
		return 0, true
	}
	n := 1
	for _, length := range shape {
		if length < 0 || n > math.MaxInt/length {
			return 0, false
		}
		n *= length
	}
	return n, true
}

func swapped(data []byte, size int) []byte {
	other := slices.Clone(data)
	for i := 0; i < len(other); i += size {
		slices.Reverse(other[i : i+size])
	}
	return other
}
