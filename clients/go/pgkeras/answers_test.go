package pgkeras_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

func zeros(dtype pgkerasv1.DataType, size int, shape ...int64) *pgkerasv1.Tensor {
	count := 1
	for _, length := range shape {
		count *= int(length)
	}
	return &pgkerasv1.Tensor{Dtype: dtype, Shape: shape, Data: make([]byte, size*count)}
}

func acting(response *pgkerasv1.ActResponse) *pgkerasv1.PlayResponse {
	return &pgkerasv1.PlayResponse{Result: &pgkerasv1.PlayResponse_Act{Act: response}}
}

// Malformed responses to a single environment that the vectors do not cover, keyed by part of the error message.
func wrong() map[string]*pgkerasv1.PlayResponse {
	const f32, i64 = pgkerasv1.DataType_DATA_TYPE_FLOAT32, pgkerasv1.DataType_DATA_TYPE_INT64
	row := func() *pgkerasv1.Tensor { return zeros(i64, 8, 1) }
	probabilities := &pgkerasv1.Distribution_Categorical{Categorical: &pgkerasv1.Categorical{Probabilities: zeros(f32, 4)}}
	text := &pgkerasv1.Value{Kind: &pgkerasv1.Value_Texts{Texts: &pgkerasv1.Texts{Texts: []string{"a"}}}}
	return map[string]*pgkerasv1.PlayResponse{
		"it has no action": acting(&pgkerasv1.ActResponse{}),
		"shape [0]":        acting(&pgkerasv1.ActResponse{Action: row(), GreedyAction: zeros(i64, 8, 0)}),
		"shape [3]":        acting(&pgkerasv1.ActResponse{Action: row(), LogProb: zeros(f32, 4, 3)}),
		"one observation with an array of shape []":              acting(&pgkerasv1.ActResponse{Action: row(), Distribution: &pgkerasv1.Distribution{Kind: probabilities}}),
		"the server's answer cannot be read: structured_action.": acting(&pgkerasv1.ActResponse{StructuredAction: text}),
		"OK: all is well": {Result: &pgkerasv1.PlayResponse_Error{Error: &pgkerasv1.PlayError{Message: "all is well"}}},
	}
}

func TestBadAnswers(t *testing.T) {
	for _, vector := range read(t).BadAnswers {
		t.Run(vector.Name, func(t *testing.T) {
			isTheServersFailure(t, message(t, vector.Message, &pgkerasv1.PlayResponse{}), vector.Says)
		})
	}
}

func TestAMalformedResponseIsAServerFailure(t *testing.T) {
	for words, answer := range wrong() {
		t.Run(words, func(t *testing.T) { isTheServersFailure(t, answer, words) })
	}
}

// Checks that a step with this response fails with this message and leaves the session open.
func isTheServersFailure(t *testing.T, answer *pgkerasv1.PlayResponse, words string) {
	t.Helper()
	session := open(t, serve(t, &scripted{play: func(request *pgkerasv1.PlayRequest) (*pgkerasv1.PlayResponse, error) {
		if request.GetId() > 1 {
			return actionOf(request), nil
		}
		answer.Id = request.GetId()
		return answer, nil
	}}))
	answered, err := session.Step(context.Background(), row, nil, nil, nil)
	failsWith[*pgkeras.ServerFailedError](t, err)
	if !strings.Contains(err.Error(), words) || answered != nil {
		t.Errorf("%v, %v", answered, err)
	}
	var invalid *pgkeras.InvalidRequestError
	if errors.As(err, &invalid) {
		t.Error("it is an InvalidRequestError")
	}
	step(t, session, row, 2) // the session is still open
}

func TestAMalformedResponseToACallIsAServerFailure(t *testing.T) {
	_, err := serve(t, &scripted{response: &pgkerasv1.ActResponse{}}).Act(context.Background(), row)
	failsWith[*pgkeras.ServerFailedError](t, err)
}
