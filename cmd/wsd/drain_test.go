package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/internal/control"
)

// fakeDrainer is the drain of a wsd: it takes every change.
type fakeDrainer struct {
	mu      sync.Mutex
	state   control.DrainState
	changes []control.DrainChange
	refuse  error
	asked   func(state *control.DrainState) // Changes the state each time that it is asked for; may be nil.
}

func (f *fakeDrainer) DrainState() control.DrainState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked != nil {
		f.asked(&f.state)
	}
	return f.state
}

func (f *fakeDrainer) Drain(change control.DrainChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, change)
	return f.refuse
}

// drains serves f, and returns a function that calls `wsd drain` with the words of args.
func drains(t *testing.T, f *fakeDrainer) func(args string) (code int, stdout, stderr string) {
	t.Helper()
	socket := serveControl(t, control.NewHandler(http.NotFoundHandler(), nil, nil, f, nil, nil))
	return func(args string) (int, string, string) {
		return call(append(append([]string{"drain"}, strings.Fields(args)...), "--control.socket", socket)...)
	}
}

func running(left int64) control.DrainState {
	since := time.Now().Add(-10 * time.Second)
	until := since.Add(time.Hour)
	return control.DrainState{Status: "draining", Clients: left, ClientsAtStart: 100, Closed: 60, Since: &since, Until: &until}
}

func TestDrainStart(t *testing.T) {
	f := &fakeDrainer{state: running(40)}
	drain := drains(t, f)
	for args, want := range map[string]control.DrainChange{
		"--over 60s":       {OverSeconds: 60},
		"start --over=90m": {OverSeconds: 5400},
		"--rate 500/s":     {Rate: 500},
		"--rate=0.5":       {Rate: 0.5},
		"stop":             {Stop: true},
	} {
		f.changes = nil
		code, stdout, stderr := drain(args)
		require.Equal(t, command.OK, code, stderr)
		require.Equal(t, []control.DrainChange{want}, f.changes)
		require.Regexp(t, `^draining: 40 of 100 clients left, 60 closed in 1\ds, the last one in 59m\d+s\n$`, stdout)
	}
	code, stdout, stderr := drain("status --json")
	require.Equal(t, command.OK, code, stderr)
	var state control.DrainState
	require.NoError(t, json.Unmarshal([]byte(stdout), &state))
	require.True(t, f.state.Since.Equal(*state.Since))

	f.state = control.DrainState{Status: "off", Clients: 7}
	code, stdout, _ = drain("status")
	require.Equal(t, command.OK, code)
	require.Equal(t, "off: 7 clients\n", stdout)
}

// A drain is never begun by a slip.
func TestDrainUsage(t *testing.T) {
	f := &fakeDrainer{}
	drain := drains(t, f)
	for args, says := range map[string]string{
		"":                       "say how fast to close the clients: --over 60s or --rate 500/s",
		"--over 60s --rate 10/s": "exclude each other",
		"--rate fast":            `--rate "fast" is not a number of clients a second: write it like 500/s`,
		"--rate 0":               "not a number of clients a second",
		"--rate=-5/s":            "not a number of clients a second",
		"--rate NaN":             "not a number of clients a second",
		"--over soon":            "--over",
		"now":                    "unknown command now",
	} {
		code, _, stderr := drain(args)
		require.Equal(t, command.Usage, code, args)
		require.Contains(t, stderr, says, args)
	}
	require.Empty(t, f.changes)
	f.refuse = &control.Refusal{Status: http.StatusBadRequest, Text: "too long"}
	code, _, stderr := drain("--over 60s")
	require.Equal(t, command.Usage, code)
	require.Contains(t, stderr, "too long")
	f.refuse = &control.Refusal{Status: http.StatusConflict, Text: "wsd is stopping"}
	code, _, stderr = drain("stop")
	require.Equal(t, command.Failed, code)
	require.Contains(t, stderr, "wsd is stopping")
}

func TestDrainWait(t *testing.T) {
	f := &fakeDrainer{state: running(3), asked: func(state *control.DrainState) {
		if state.Clients--; state.Clients == 0 {
			state.Status = "drained"
		}
	}}
	drain := drains(t, f)
	code, stdout, stderr := drain("--over 1h --wait")
	require.Equal(t, command.OK, code, stderr)
	require.Regexp(t, `^drained: 0 of 100 clients left, 60 closed in 1\ds\n$`, stdout)

	f.state = running(3)
	f.asked = func(state *control.DrainState) { state.Status = "off" }
	code, _, stderr = drain("--over 1h --wait")
	require.Equal(t, command.Failed, code)
	require.Contains(t, stderr, "the drain was stopped")
}

// A drain refuses new clients whatever admission says, so wsd health and wsd top do not say that all are accepted.
func TestHealthOfADrain(t *testing.T) {
	for status, admission := range map[string]bool{"ok": true, "draining": false} {
		var out bytes.Buffer
		require.NoError(t, summarise(env{stdout: &out}, []byte(`{"status":"`+status+`","admission":{"state":"accepting"}}`)))
		require.Contains(t, out.String(), status+": wsd")
		require.Equal(t, admission, strings.Contains(out.String(), "admission:"), out.String())

		out.Reset()
		require.NoError(t, drawTop(&out, topUpdate{Status: status, Admission: "accepting all new clients"}, nil, 25, 80))
		require.Equal(t, admission, strings.Contains(out.String(), "admission:"), out.String())
	}
}
