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

// Answers of no use to a single environment, with words that the error has.
func wrong() map[string]*pgkerasv1.PlayResponse {
	const f32, i64 = pgkerasv1.DataType_DATA_TYPE_FLOAT32, pgkerasv1.DataType_DATA_TYPE_INT64
	row := func() *pgkerasv1.Tensor { return zeros(i64, 8, 1) }
	probabilities := &pgkerasv1.Distribution_Categorical{Categorical: &pgkerasv1.Categorical{Probabilities: zeros(f32, 4)}}
	text := &pgkerasv1.Value{Kind: &pgkerasv1.Value_Texts{Texts: &pgkerasv1.Texts{Texts: []string{"a"}}}}
	return map[string]*pgkerasv1.PlayResponse{
		"answer without actions: is the server newer":         {},
		"without actions: is the server newer than this":      acting(&pgkerasv1.ActResponse{}),
		"answered with an array of shape []":                  acting(&pgkerasv1.ActResponse{Action: zeros(i64, 8)}),
		"answered with an array of shape [2]":                 acting(&pgkerasv1.ActResponse{Action: zeros(i64, 8, 2)}),
		"answered with an array of shape [0]":                 acting(&pgkerasv1.ActResponse{Action: row(), GreedyAction: zeros(i64, 8, 0)}),
		"one observation was answered with an array of":       acting(&pgkerasv1.ActResponse{Action: row(), LogProb: zeros(f32, 4, 3)}),
		"was answered with an array of shape []":              acting(&pgkerasv1.ActResponse{Action: row(), Distribution: &pgkerasv1.Distribution{Kind: probabilities}}),
		"log_prob.dtype: expected DATA_TYPE_FLOAT32":          acting(&pgkerasv1.ActResponse{Action: row(), LogProb: row()}),
		"entropy.dtype: expected DATA_TYPE_FLOAT32":           acting(&pgkerasv1.ActResponse{Action: row(), Entropy: row()}),
		"a wrong answer: structured_action":                   acting(&pgkerasv1.ActResponse{StructuredAction: text}),
		"action.data: expected":                               acting(&pgkerasv1.ActResponse{Action: &pgkerasv1.Tensor{Dtype: i64, Shape: []int64{1}}}),
		"hold.dtype: expected DATA_TYPE_BOOL":                 {Result: acting(&pgkerasv1.ActResponse{Action: row()}).Result, Hold: row()},
		"OK: all is well":                                     {Result: &pgkerasv1.PlayResponse_Error{Error: &pgkerasv1.PlayError{Message: "all is well"}}},
		"observation was answered with an array of shape [2]": {Result: acting(&pgkerasv1.ActResponse{Action: row()}).Result, Hold: zeros(pgkerasv1.DataType_DATA_TYPE_BOOL, 1, 2)},
	}
}

func TestAWrongAnswerIsTheServersFailure(t *testing.T) {
	for words, answer := range wrong() {
		t.Run(words, func(t *testing.T) {
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
				t.Error("it is said to be the request's")
			}
			step(t, session, row, 2) // the session goes on
		})
	}
}

func TestAWrongAnswerToACallIsTheServersFailure(t *testing.T) {
	_, err := serve(t, &scripted{response: &pgkerasv1.ActResponse{}}).Act(context.Background(), row)
	failsWith[*pgkeras.ServerFailedError](t, err)
}
