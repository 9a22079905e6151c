package server

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/control"
	"wsd/internal/steering"
	"wsd/internal/testutil"
)

func TestReadChange(t *testing.T) {
	at := func(shard int) *int { return &shard }
	for _, c := range []struct {
		change control.SteerChange
		value  uint32
		want   string // Empty: no error.
	}{
		{control.SteerChange{Setting: "policy", Value: "p2c"}, 2, ""},
		{control.SteerChange{Setting: "stall_bound", Value: "150ms"}, 150, ""},
		{control.SteerChange{Setting: "weight", Shard: at(2), Value: "200"}, 200, ""},
		{control.SteerChange{Setting: "drain", Shard: at(0), Value: "true"}, 1, ""},
		{control.SteerChange{Setting: "wait", Value: "1"}, 0, `no setting is named "wait"; the settings are policy, weight`},
		{control.SteerChange{Setting: "policy", Shard: at(0), Value: "p2c"}, 0, "policy of shard 0: all shards share one policy"},
		{control.SteerChange{Setting: "weight", Value: "200"}, 0, "weight: each shard has its own; name a shard from 0 to 2"},
		{control.SteerChange{Setting: "weight", Shard: at(3), Value: "200"}, 0, "weight of shard 3: the shard must be from 0 to 2"},
		{control.SteerChange{Setting: "weight", Shard: at(-1), Value: "200"}, 0, "weight of shard -1: the shard must be from 0 to 2"},
		{control.SteerChange{Setting: "weight", Shard: at(65536), Value: "200"}, 0, "the shard must be from 0 to 2"},
		{control.SteerChange{Setting: "weight", Shard: at(2), Value: "heavy"}, 0, `weight "heavy" must be a whole number from 0 to 10000`},
		{control.SteerChange{Setting: "policy", Value: ""}, 0, "must be one of least-loaded"},
	} {
		setting, shard, value, err := readChange(c.change, 3)
		if c.want != "" {
			require.ErrorContains(t, err, c.want)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, c.change.Setting, setting.Name)
		require.Equal(t, c.value, value)
		if c.change.Shard != nil {
			require.EqualValues(t, *c.change.Shard, shard)
		}
	}
}

func TestStallOf(t *testing.T) {
	const at, bound, ramp = 100 * time.Second, time.Second, 3 * time.Second
	ago := func(d time.Duration) uint64 { return uint64(at - d) }
	for name, c := range map[string]struct {
		f           steering.Figures
		bound, ramp time.Duration
		stalled     time.Duration
		ramping     bool
	}{
		"waits":             {steering.Figures{}, bound, ramp, 0, false},
		"busy":              {steering.Figures{BusySince: ago(bound)}, bound, ramp, 0, false},
		"stalled":           {steering.Figures{BusySince: ago(bound + 1)}, bound, ramp, bound + 1, false},
		"no bound":          {steering.Figures{BusySince: ago(time.Minute)}, 0, ramp, 0, false},
		"turn began since":  {steering.Figures{BusySince: ago(-1)}, bound, ramp, 0, false},
		"back":              {steering.Figures{StalledUntil: ago(ramp - 1)}, bound, ramp, 0, true},
		"back for long":     {steering.Figures{StalledUntil: ago(ramp)}, bound, ramp, 0, false},
		"no ramp":           {steering.Figures{StalledUntil: ago(0)}, bound, 0, 0, false},
		"stalled once more": {steering.Figures{BusySince: ago(2 * bound), StalledUntil: ago(2 * bound)}, bound, ramp, 2 * bound, false},
	} {
		stalled, ramping := stallOf(c.f, at, c.bound, c.ramp)
		require.Equal(t, c.stalled, stalled, name)
		require.Equal(t, c.ramping, ramping, name)
	}
}

// A value out of range is shown as the number that it is, and does not count.
func TestSteerSettings(t *testing.T) {
	configured, now := steering.DefaultValues(2), steering.DefaultValues(2)
	now["weight"][1], now["ramp"][0] = 20000, 500
	list := steerSettings(now, configured)
	one := 1
	require.Contains(t, list, control.SteerSetting{
		Name: "weight", Shard: &one, Value: 20000, Text: "20000", Configured: "100", InForce: "100", Changed: true, Ignored: true,
	})
	require.Contains(t, list, control.SteerSetting{Name: "ramp", Value: 500, Text: "500ms", Configured: "0s", InForce: "500ms", Changed: true})
	require.Contains(t, list, control.SteerSetting{Name: "policy", Text: "least-loaded", Configured: "least-loaded", InForce: "least-loaded"})
	require.Len(t, list, len(steering.AllSettings())+2, "two are of both shards")
}

// Where the kernel's hash chooses there is a state, and nothing to set.
func TestSteerStateHash(t *testing.T) {
	r := newRig(t, map[string]any{"shards": "2", "steering.mode": "off", "steering.policy": "p2c", "steering.weights": "100,300",
		"steering.limits.source_exempt": "192.0.2.0/24"})
	state, err := r.server.SteerState()
	require.NoError(t, err)
	require.Equal(t, "hash", state.Mode)
	require.Equal(t, "hash", state.Policy)
	require.Contains(t, steering.Policies(), state.Policy)
	require.NotEmpty(t, state.Reason)
	require.Len(t, state.Shards, 2)
	require.EqualValues(t, 300, state.Shards[1].Weight)
	require.Equal(t, []string{"192.0.2.0/24"}, state.Exempt)
	for _, setting := range state.Settings {
		require.False(t, setting.Changed, setting.Name)
	}
	err = r.server.Steer(control.SteerChange{Setting: "policy", Value: "p2c"})
	require.Equal(t, &control.Refusal{
		Status: http.StatusConflict, Text: "the kernel's hash chooses the shards, so settings have no effect: steering.mode is off",
	}, err)
	err = r.server.Steer(control.SteerChange{Setting: "policy", Value: "p3c"})
	var refusal *control.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, http.StatusBadRequest, refusal.Status)
}

// What `wsd steer` sets through the socket is what the program does from the next connection on.
func TestSteerBySocket(t *testing.T) {
	testutil.RequireBPF(t)
	const shards = 3
	r := newRig(t, map[string]any{
		"shards": fmt.Sprint(shards), "steering.mode": "require", "steering.pin_dir": testutil.BPFFS(t),
		"steering.limits.source_exempt": []string{"192.0.2.0/24", "2001:db8::1"}, "steering.stall_bound": "0s", "steering.ramp": "0s",
	})
	socket := r.server.cfg.Control.Socket
	ask := func(setting string, shard *int, value string) control.SteerState {
		t.Helper()
		state, err := control.Steer(t.Context(), socket, control.SteerChange{Setting: setting, Shard: shard, Value: value})
		require.NoError(t, err)
		return state
	}
	state, err := control.Steering(t.Context(), socket)
	require.NoError(t, err)
	require.Equal(t, steering.Pinned, state.Mode)
	require.Equal(t, []string{"192.0.2.0/24", "2001:db8::1/128"}, state.Exempt)

	for id := range shards - 1 {
		state = ask("drain", &id, "true")
		require.True(t, state.Shards[id].Drain)
		require.False(t, state.Shards[id].Draining, "wsd itself has nothing against it")
	}
	for range 10 {
		require.Equal(t, "2", r.dial("/ws?channel=a").shard)
	}
	r.eventually("all are counted", func() bool {
		state, err := r.server.SteerState()
		return err == nil && state.Shards[2].Connections == 10 && state.Shards[2].Pending == 0
	})
	ask("drain", new(int), "false")
	require.Equal(t, "0", r.dial("/ws?channel=a").shard)
	require.Equal(t, "p2c", ask("policy", nil, "p2c").Policy)
	_, err = control.Steer(t.Context(), socket, control.SteerChange{Setting: "admission", Value: "101"})
	require.EqualError(t, err, `admission "101" must be a whole number from 0 to 100`)
}
