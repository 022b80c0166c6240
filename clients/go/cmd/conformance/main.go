// Command conformance is the conformance program of the Go client. conformance/README.md specifies it.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/pgkeras/pgkeras/clients/go/internal/vectors"
	"github.com/pgkeras/pgkeras/clients/go/pgkeras"
)

type options struct {
	target, vectors, slowTarget, deadTarget, busyTarget, tlsTarget, ca, token, only string
}

// Why a scenario cannot be run.
type skip string

func (s skip) Error() string { return string(s) }

type program struct {
	options options
	vectors *vectors.Vectors
	client  *pgkeras.Client
	input   *bufio.Reader
}

type scenario struct {
	name string
	run  func(*program) error
}

var scenarios = []scenario{
	{"describe", (*program).describe},
	{"single", (*program).single},
	{"batch", (*program).batch},
	{"seeded_calls", (*program).seededCalls},
	{"seeded_sessions", (*program).seededSessions},
	{"session_goes_on", (*program).sessionGoesOn},
	{"unknown_policy", (*program).unknownPolicy},
	{"bad_shape", (*program).badShape},
	{"image", (*program).image},
	{"masks", (*program).masks},
	{"memory", (*program).memory},
	{"structured", (*program).structured},
	{"structured_observations", (*program).structuredObservations},
	{"deadline", (*program).deadline},
	{"nobody", (*program).nobody},
	{"busy", (*program).busy},
	{"tls_and_token", (*program).tlsAndToken},
	{"restart", (*program).restart},
}

func parse() options {
	var o options
	for name, value := range map[string]*string{
		"target": &o.target, "vectors": &o.vectors, "slow-target": &o.slowTarget, "dead-target": &o.deadTarget,
		"busy-target": &o.busyTarget, "tls-target": &o.tlsTarget, "ca": &o.ca, "token": &o.token, "only": &o.only,
	} {
		flag.StringVar(value, name, "", "see conformance/README.md")
	}
	flag.Parse()
	return o
}

func run() (failed bool, err error) {
	p := &program{options: parse(), input: bufio.NewReader(os.Stdin)}
	if p.vectors, err = vectors.Read(p.options.vectors); err != nil {
		return false, err
	}
	if p.client, err = pgkeras.Dial(p.options.target, pgkeras.WithPolicy("cartpole-v1")); err != nil {
		return false, err
	}
	defer func() { _ = p.client.Close() }()
	for _, s := range scenarios {
		if p.options.only != "" && p.options.only != s.name {
			continue
		}
		err := s.run(p)
		var skipped skip
		switch {
		case err == nil:
			fmt.Printf("PASS %s\n", s.name)
		case errors.As(err, &skipped):
			fmt.Printf("SKIP %s: %v\n", s.name, err)
		default:
			failed = true
			fmt.Printf("FAIL %s: %s\n", s.name, strings.ReplaceAll(err.Error(), "\n", " "))
		}
	}
	return failed, nil
}

func main() {
	failed, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}
