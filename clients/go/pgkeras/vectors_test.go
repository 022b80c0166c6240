package pgkeras_test

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pgkeras/pgkeras/clients/go/internal/vectors"
	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

func read(t *testing.T) *vectors.Vectors {
	t.Helper()
	found, err := vectors.Read("../../../conformance/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func message[M proto.Message](t *testing.T, encoded []byte, into M) M {
	t.Helper()
	if err := proto.Unmarshal(encoded, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func number(t *testing.T, value json.RawMessage) float64 {
	t.Helper()
	text := string(value)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	found, err := strconv.ParseFloat(text, 64) // also parses NaN and Infinity
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// Returns the vector's values as a Go slice, and the tensor made from them.
func expected[T pgkeras.Element](values []json.RawMessage, shape []int, convert func(json.RawMessage) T) ([]T, pgkeras.Tensor) {
	made := make([]T, len(values))
	for i, value := range values {
		made[i] = convert(value)
	}
	return made, pgkeras.NewTensor(made, append([]int{}, shape...)...)
}

func same[T pgkeras.Element](t *testing.T, array vectors.Array, decoded pgkeras.Tensor, convert func(json.RawMessage) T) pgkeras.Tensor {
	t.Helper()
	want, made := expected(array.Values, array.Shape, convert)
	got, err := pgkeras.Values[T](decoded)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, func(a, b T) bool { return a == b || (a != a && b != b) }) {
		t.Errorf("got %v, not %v", got, want)
	}
	return made
}

func compare(t *testing.T, array vectors.Array, decoded pgkeras.Tensor) pgkeras.Tensor {
	t.Helper()
	if !slices.Equal(decoded.Shape, array.Shape) {
		t.Errorf("shape %v, not %v", decoded.Shape, array.Shape)
	}
	float := func(value json.RawMessage) float64 { return number(t, value) }
	switch array.DType {
	case "bool":
		return same(t, array, decoded, func(value json.RawMessage) bool { return string(value) == "true" })
	case "uint8":
		return same(t, array, decoded, func(value json.RawMessage) uint8 { return uint8(float(value)) })
	case "int8":
		return same(t, array, decoded, func(value json.RawMessage) int8 { return int8(float(value)) })
	case "uint16":
		return same(t, array, decoded, func(value json.RawMessage) uint16 { return uint16(float(value)) })
	case "int16":
		return same(t, array, decoded, func(value json.RawMessage) int16 { return int16(float(value)) })
	case "int32":
		return same(t, array, decoded, func(value json.RawMessage) int32 { return int32(float(value)) })
	case "int64":
		return same(t, array, decoded, func(value json.RawMessage) int64 {
			text, _ := strconv.Unquote(string(value))
			found, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return found
		})
	case "float16":
		return same(t, array, decoded, func(value json.RawMessage) pgkeras.Float16 { return half(float(value)) })
	case "float32":
		return same(t, array, decoded, func(value json.RawMessage) float32 { return float32(float(value)) })
	case "float64":
		return same(t, array, decoded, float)
	}
	t.Fatalf("unknown dtype %q", array.DType)
	return pgkeras.Tensor{}
}

// Returns the bits of a number that binary16 represents exactly.
func half(value float64) pgkeras.Float16 {
	bits := math.Float64bits(value)
	sign, exponent := uint16(bits>>48)&0x8000, int(bits>>52&0x7ff)-1023
	switch {
	case value == 0:
		return pgkeras.Float16(sign)
	case math.IsInf(value, 0):
		return pgkeras.Float16(sign | 0x7c00)
	case exponent < -14: // subnormal
		return pgkeras.Float16(sign | uint16(math.Abs(value)*(1<<24)))
	default:
		return pgkeras.Float16(sign | uint16(exponent+15)<<10 | uint16(bits>>42)&0x3ff)
	}
}

func TestTensors(t *testing.T) {
	for _, vector := range read(t).Tensors {
		t.Run(vector.Name, func(t *testing.T) {
			decoded, err := pgkeras.DecodeTensor(message(t, vector.Message, &pgkerasv1.Tensor{}), "tensor")
			if err != nil {
				t.Fatal(err)
			}
			made := compare(t, vector.Array, decoded)
			// The bits of the vector's NaN differ from those of Go's NaN.
			if made.DataType() != decoded.DataType() || !slices.Equal(made.Bytes(), vector.Data) && vector.Name != "float64_matrix" {
				t.Errorf("encodes as %v %x", made.DataType(), made.Bytes())
			}
		})
	}
}

func TestTensorsShareMemory(t *testing.T) {
	values := []float32{1, 2, 3}
	tensor := pgkeras.NewTensor(values)
	back, err := pgkeras.Values[float32](tensor)
	if err != nil || unsafe.SliceData(back) != unsafe.SliceData(values) {
		t.Errorf("%v: a copy was made", err)
	}
}

func TestMisalignedTensorsAreRead(t *testing.T) {
	memory := make([]byte, 8*3+8)
	for offset := range 8 {
		data := memory[offset : offset+8*3]
		clear(memory)
		data[0], data[8], data[16] = 1, 2, 3
		message := &pgkerasv1.Tensor{Dtype: pgkerasv1.DataType_DATA_TYPE_INT64, Shape: []int64{3}, Data: data}
		tensor, err := pgkeras.DecodeTensor(message, "tensor")
		if err != nil {
			t.Fatal(err)
		}
		values, err := pgkeras.Values[int64](tensor)
		if err != nil || !slices.Equal(values, []int64{1, 2, 3}) {
			t.Errorf("offset %d: %v, %v", offset, values, err)
		}
	}
}

func TestWrongElementTypeIsAnError(t *testing.T) {
	if values, err := pgkeras.Values[int32](pgkeras.NewTensor([]float32{1})); err == nil {
		t.Errorf("float32 was read as %v", values)
	}
}

func TestBadTensors(t *testing.T) {
	for _, vector := range read(t).BadTensors {
		t.Run(vector.Name, func(t *testing.T) {
			_, err := pgkeras.DecodeTensor(message(t, vector.Message, &pgkerasv1.Tensor{}), "tensor")
			var invalid *pgkeras.InvalidRequestError
			if !errors.As(err, &invalid) || invalid.Field != vector.Field {
				t.Errorf("got %v, not an error of %s", err, vector.Field)
			}
		})
	}
}

func TestSpaces(t *testing.T) {
	for _, vector := range read(t).Spaces {
		t.Run(vector.Name, func(t *testing.T) {
			space := message(t, vector.Message, &pgkerasv1.Space{})
			fromJSON := &pgkerasv1.Space{}
			if err := protojson.Unmarshal(vector.JSON, fromJSON); err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(space, fromJSON) {
				t.Errorf("got %v, not %v", space, fromJSON)
			}
		})
	}
}

func TestDistributions(t *testing.T) {
	for _, vector := range read(t).Distributions {
		t.Run(vector.Name, func(t *testing.T) {
			found, err := pgkeras.DecodeDistribution(message(t, vector.Message, &pgkerasv1.Distribution{}))
			if err != nil {
				t.Fatal(err)
			}
			if found.Kind != vector.Kind || len(found.Parameters) != len(vector.Parameters) {
				t.Errorf("got %v", found)
			}
			for name, parameter := range vector.Parameters {
				compare(t, parameter, found.Parameters[name])
			}
		})
	}
}

func kind(err error) (string, *float64) {
	seconds := func(delay time.Duration) *float64 {
		found := delay.Seconds()
		return &found
	}
	switch typed := err.(type) {
	case *pgkeras.InvalidRequestError:
		return "invalid_request", nil
	case *pgkeras.PolicyNotFoundError:
		return "policy_not_found", nil
	case *pgkeras.SpecMismatchError:
		return "spec_mismatch", nil
	case *pgkeras.ServerBusyError:
		return "server_busy", seconds(typed.RetryAfter)
	case *pgkeras.DeadlineExceededError:
		return "deadline_exceeded", nil
	case *pgkeras.ServerUnavailableError:
		return "server_unavailable", seconds(typed.RetryAfter)
	case *pgkeras.UnauthenticatedError:
		return "unauthenticated", nil
	case *pgkeras.ServerFailedError:
		return "server_failed", nil
	}
	return "no typed error", nil
}

func TestErrors(t *testing.T) {
	for _, vector := range read(t).Errors {
		t.Run(vector.Name, func(t *testing.T) {
			answer := status.New(codes.Code(vector.Code), vector.Message)
			details := &spb.Status{}
			if vector.Status != nil && proto.Unmarshal(vector.Status, details) == nil {
				answer = status.FromProto(details) // as gRPC reads the trailer if it can be decoded
			}
			err := pgkeras.ErrorFromStatus(answer)
			found, retryAfter := kind(err)
			if found != vector.Expected.Error {
				t.Fatalf("got %s (%v), not %s", found, err, vector.Expected.Error)
			}
			if want := vector.Expected.RetryAfterSeconds; want != nil && *retryAfter != *want {
				t.Errorf("retry after %v, not %v", *retryAfter, *want)
			}
			var invalid *pgkeras.InvalidRequestError
			if errors.As(err, &invalid) {
				got := []string{invalid.Field, invalid.Expected, invalid.Got}
				for i, want := range []*string{vector.Expected.Field, vector.Expected.Expected, vector.Expected.Got} {
					if want != nil && got[i] != *want {
						t.Errorf("got %q, not %q", got[i], *want)
					}
				}
			}
			if status.Code(errors.Unwrap(err)) != codes.Code(vector.Code) {
				t.Errorf("the wrapped error is %v, not gRPC's status", errors.Unwrap(err))
			}
		})
	}
}
