package pgkeras_test

import (
	"context"
	"strings"
	"testing"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
	pgkerasv1 "github.com/pgkeras/pgkeras/clients/go/pgkeras/v1"
)

func TestATokenIsPrintableASCII(t *testing.T) {
	for _, token := range []string{"", "two\nlines", "sécret", " before", "after ", "\t", "\x7f"} {
		_, err := pgkeras.Dial("127.0.0.1:1", pgkeras.WithToken(token))
		if invalid := failsWith[*pgkeras.InvalidRequestError](t, err); invalid.Field != "token" {
			t.Errorf("%q: the error is of %s", token, invalid.Field)
		} else if strings.TrimSpace(token) != "" && strings.Contains(err.Error(), strings.TrimSpace(token)) {
			t.Errorf("the message contains the token: %v", err)
		}
	}
	connect(t, "127.0.0.1:1", pgkeras.WithToken("two words~!"))
}

func TestAVersionWithALabelIsRefused(t *testing.T) {
	version, label := pgkeras.WithVersion(3), pgkeras.WithLabel("stable")
	for _, options := range [][]pgkeras.Option{{version, label}, {label, version}} {
		_, err := pgkeras.Dial("127.0.0.1:1", options...)
		if invalid := failsWith[*pgkeras.InvalidRequestError](t, err); invalid.Field != "policy" {
			t.Errorf("the error is of %s", invalid.Field)
		}
	}
	connect(t, "127.0.0.1:1", version)
	connect(t, "127.0.0.1:1", label)
}

func TestOptionsThatACallDoesNotSupportAreRefused(t *testing.T) {
	client := serve(t, &scripted{response: &pgkerasv1.ActResponse{Action: zeros(pgkerasv1.DataType_DATA_TYPE_INT64, 8)}})
	session := open(t, client)
	mask := pgkeras.Mask(pgkeras.NewTensor([]bool{true, true}))
	state, starts, seed := pgkeras.State([]byte{1}), pgkeras.EpisodeStart(true), pgkeras.Seed(1)
	declare := pgkeras.Declare(pgkeras.Simulator{
		ObservationSpace: pgkeras.DiscreteSpace(2), ActionSpace: pgkeras.DiscreteSpace(2),
	})
	act := func(option pgkeras.CallOption) error {
		_, err := client.Act(context.Background(), row, option)
		return err
	}
	play := func(option pgkeras.CallOption) error {
		opened, err := client.Play(context.Background(), option)
		if err == nil {
			opened.Close()
		}
		return err
	}
	steps := func(option pgkeras.CallOption) error {
		_, err := session.Step(context.Background(), row, nil, nil, nil, option)
		return err
	}
	for name, call := range map[string]struct {
		make           func(option pgkeras.CallOption) error
		taken, useless []pgkeras.CallOption
	}{
		"Act":  {act, []pgkeras.CallOption{mask, state, seed}, []pgkeras.CallOption{starts, declare}},
		"Play": {play, []pgkeras.CallOption{seed, declare}, []pgkeras.CallOption{mask, state, starts}},
		"Step": {steps, []pgkeras.CallOption{mask, starts}, []pgkeras.CallOption{state, seed, declare}},
	} {
		for i, option := range call.useless {
			if invalid := failsWith[*pgkeras.InvalidRequestError](t, call.make(option)); invalid.Field != "options" {
				t.Errorf("%s: the error of option %d is of %s", name, i, invalid.Field)
			}
		}
		for i, option := range call.taken {
			if err := call.make(option); err != nil {
				t.Errorf("%s: option %d is refused: %v", name, i, err)
			}
		}
	}
	if session.Over() {
		t.Error("an option has ended the session")
	}
}
