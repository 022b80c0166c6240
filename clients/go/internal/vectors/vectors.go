// Package vectors reads conformance/vectors.json, for the tests and the conformance program.
package vectors

import (
	"encoding/json"
	"os"
)

// Vectors holds the sections of the file.
type Vectors struct {
	Tensors []struct {
		Array
		Name          string
		Message, Data []byte
	}
	BadTensors []struct {
		Name, Field string
		Message     []byte
	} `json:"bad_tensors"`
	Spaces []struct {
		Name, Kind, DType string
		Shape             []int64
		Message           []byte
		JSON              json.RawMessage
	}
	Distributions []struct {
		Name, Kind string
		Message    []byte
		Parameters map[string]Array
	}
	Errors []struct {
		Name, Message string
		Code          uint32
		Status        []byte
		Expected      struct {
			Error                         string
			Field, Expected, Got, Message *string
			RetryAfterSeconds             *float64 `json:"retry_after_seconds"`
		}
	}
	BadAnswers []struct {
		Name, Says string
		Message    []byte
	} `json:"bad_answers"`
	Policy struct {
		Name             string
		Version          int64
		SpecHash         string  `json:"spec_hash"`
		ObservationShape []int64 `json:"observation_shape"`
		Actions          int64
		Distribution     string
		ObservationDType string `json:"observation_dtype"`
	}
	Calls []struct {
		Name, Mode    string
		Seed          *string
		Observation   Observation
		Action        json.RawMessage
		LogProb       json.RawMessage `json:"log_prob"`
		Entropy       json.RawMessage
		Probabilities json.RawMessage
	}
	Sessions []struct {
		Name, Seed   string
		Environments int
		Steps        []struct {
			Observation           Observation
			Reward                []float32
			Terminated, Truncated []bool
			Action                []int64
		}
	}
	StructuredObservations struct {
		Seed          string
		Action        []int64
		Probabilities [][]float32
	} `json:"structured_observations"`
}

// Array is an array whose elements are encoded as in conformance/README.md.
type Array struct {
	DType  string
	Shape  []int
	Values []json.RawMessage
}

// Observation is a float32 array.
type Observation struct {
	Shape  []int
	Data   []byte
	Values []float32
}

// Read reads the file.
func Read(path string) (*Vectors, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var found Vectors
	return &found, json.Unmarshal(content, &found)
}
