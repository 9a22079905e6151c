package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/internal/control"
)

// Skip implements control.Skipper.
func (f *fakeSteerer) Skip(r control.SkipRequest) (control.SkipResult, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.skips = append(f.skips, r)
	return control.SkipResult{From: 7, Next: 9}, f.refuse
}

func TestKafkaSkip(t *testing.T) {
	f := newFakeSteerer()
	socket := serveSteerer(t, f)
	to := int64(9)
	for _, c := range []struct {
		args []string
		want control.SkipRequest
	}{
		{nil, control.SkipRequest{Topic: "a", Partition: 3}},
		{[]string{"--to", "9"}, control.SkipRequest{Topic: "a", Partition: 3, To: &to}},
		{[]string{"--to=end"}, control.SkipRequest{Topic: "a", Partition: 3, End: true}},
	} {
		code, out, errs := call(append([]string{"kafka", "skip", "a", "3", "--control.socket", socket}, c.args...)...)
		require.Equal(t, command.OK, code, errs)
		require.Equal(t, "skipped 2 offsets of a/3, from 7 to 8; reading goes on at 9\n", out)
		require.Equal(t, c.want, f.skips[len(f.skips)-1])
	}
	for _, to := range []string{"-1", "x", "1.5"} {
		code, _, errs := call("kafka", "skip", "a", "3", "--control.socket", socket, "--to="+to)
		require.Equal(t, command.Usage, code)
		require.Contains(t, errs, "must be an offset, from 0 on, or end")
	}
	f.refuse = &control.Refusal{Status: http.StatusNotFound, Text: "topic a has no partition 3 that wsd reads"}
	code, _, errs := call("kafka", "skip", "a", "3", "--control.socket", socket)
	require.Equal(t, command.Usage, code)
	require.Contains(t, errs, "topic a has no partition 3")
	f.refuse = &control.Refusal{Status: http.StatusConflict, Text: "not known yet"}
	code, _, errs = call("kafka", "skip", "a", "3", "--control.socket", socket)
	require.Equal(t, command.Failed, code)
	require.Contains(t, errs, "not known yet")
}
