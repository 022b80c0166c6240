package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

func (p *program) unknownPolicy() error {
	client, err := pgkeras.Dial(p.options.target, pgkeras.WithPolicy("no-such-policy"))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	_, err = client.Act(background, row)
	missing, err := failure[*pgkeras.PolicyNotFoundError](err)
	if err != nil {
		return err
	}
	return check(strings.Contains(missing.Error(), "cartpole-v1"), "message %v", missing)
}

func (p *program) badShape() error {
	_, err := p.client.Act(background, badRow)
	invalid, err := failure[*pgkeras.InvalidRequestError](err)
	if err != nil {
		return err
	}
	return check(invalid.Field == "observation" && strings.Contains(invalid.Expected, "[4]"), "%v", invalid)
}

func (p *program) deadline() error {
	if p.options.slowTarget == "" {
		return skip("no --slow-target")
	}
	client, err := pgkeras.Dial(p.options.slowTarget, pgkeras.WithPolicy("cartpole-v1"), pgkeras.WithTimeout(20*time.Second))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	soon := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(background, 300*time.Millisecond)
	}
	begin := time.Now()
	ctx, cancel := soon()
	_, err = client.Act(ctx, row)
	cancel()
	if _, err := failure[*pgkeras.DeadlineExceededError](err); err != nil {
		return err
	}
	if err := check(time.Since(begin) < 900*time.Millisecond, "it came after %v", time.Since(begin)); err != nil {
		return err
	}
	if _, err := client.Act(background, row); err != nil {
		return err
	}
	session, err := client.Play(background)
	if err != nil {
		return err
	}
	defer session.Close()
	ctx, cancel = soon()
	defer cancel()
	_, err = session.Step(ctx, row, nil, nil, nil)
	_, err = failure[*pgkeras.DeadlineExceededError](err)
	return err
}

func (p *program) nobody() error {
	if p.options.deadTarget == "" {
		return skip("no --dead-target")
	}
	client, err := pgkeras.Dial(p.options.deadTarget, pgkeras.WithTimeout(2*time.Second))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	begin := time.Now()
	_, err = client.Act(background, row)
	var gone *pgkeras.ServerUnavailableError
	var late *pgkeras.DeadlineExceededError
	return all(
		check(errors.As(err, &gone) || errors.As(err, &late), "it failed with %v", err),
		check(time.Since(begin) < 4*time.Second, "it came after %v", time.Since(begin)),
		check(strings.Contains(fmt.Sprint(err), p.options.deadTarget), "message %v", err),
	)
}

func (p *program) busy() error {
	if p.options.busyTarget == "" {
		return skip("no --busy-target")
	}
	client, err := pgkeras.Dial(p.options.busyTarget, pgkeras.WithPolicy("cartpole-v1"))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	first, err := client.Play(background)
	if err != nil {
		return err
	}
	defer first.Close()
	if _, err := first.Step(background, row, nil, nil, nil); err != nil {
		return err
	}
	second, err := client.Play(background)
	if err != nil {
		return err
	}
	defer second.Close()
	_, err = second.Step(background, row, nil, nil, nil)
	full, err := failure[*pgkeras.ServerBusyError](err)
	if err := all(
		err,
		check(full != nil && full.RetryAfter > 0, "retry after %v", full),
		check(second.Over() && !first.Over(), "the second session is not over, or the first one is"),
	); err != nil {
		return err
	}
	first.Close()
	for range 10 {
		time.Sleep(full.RetryAfter)
		if err = stepOnce(client); !errors.As(err, &full) {
			return err
		}
	}
	return err
}

// Opens a session and makes one step.
func stepOnce(client *pgkeras.Client) error {
	session, err := client.Play(background)
	if err != nil {
		return err
	}
	defer session.Close()
	_, err = session.Step(background, row, nil, nil, nil)
	return err
}

func (p *program) tlsAndToken() error {
	if p.options.tlsTarget == "" || p.options.ca == "" || p.options.token == "" {
		return skip("no --tls-target, --ca or --token")
	}
	pem, err := os.ReadFile(p.options.ca)
	if err != nil {
		return err
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(pem) {
		return errors.New("--ca has no certificate")
	}
	act := func(options ...pgkeras.Option) error {
		client, err := pgkeras.Dial(p.options.tlsTarget, append(options, pgkeras.WithPolicy("cartpole-v1"))...)
		if err != nil {
			return err
		}
		defer func() { _ = client.Close() }()
		if _, err := client.Act(background, row); err != nil {
			return err
		}
		return stepOnce(client)
	}
	secured, token := pgkeras.WithTLS(&tls.Config{RootCAs: authorities}), pgkeras.WithToken(p.options.token)
	if err := act(secured, token); err != nil {
		return err
	}
	if _, err := failure[*pgkeras.UnauthenticatedError](act(secured)); err != nil {
		return err
	}
	return check(act(token) != nil, "it was answered without TLS")
}

func (p *program) restart() error {
	session, err := p.client.Play(background, pgkeras.Greedy())
	if err != nil {
		return err
	}
	if err := tenSteps(session, true); err != nil {
		return err
	}
	fmt.Println("WAIT restart")
	if _, err := p.input.ReadString('\n'); err != nil {
		return err
	}
	if _, err := failure[*pgkeras.ServerUnavailableError](tenSteps(session, false)); err != nil {
		return err
	}
	session.Close()
	ctx, cancel := context.WithTimeout(background, 30*time.Second)
	defer cancel()
	if _, err := p.client.Act(ctx, row); err != nil {
		return err
	}
	if session, err = p.client.Play(background, pgkeras.Greedy()); err != nil {
		return err
	}
	defer session.Close()
	return tenSteps(session, true)
}

func tenSteps(session *pgkeras.Session, first bool) error {
	for i := range 10 {
		var err error
		if first && i == 0 {
			_, err = session.Step(background, row, nil, nil, nil)
		} else {
			_, err = session.Step(background, row, rewards, going, going)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Returns the expected typed error, or an error that describes what was returned instead.
func failure[T error](err error) (T, error) {
	var wanted T
	if errors.As(err, &wanted) {
		return wanted, nil
	}
	return wanted, fmt.Errorf("expected %T, got %v", wanted, err)
}
