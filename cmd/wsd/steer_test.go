package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/command"
	"wsd/internal/config"
	"wsd/internal/control"
	"wsd/internal/steering"
)

// fakeSteerer is a wsd of three shards that keeps what it is told in memory.
type fakeSteerer struct {
	mu         sync.Mutex
	state      control.SteerState // But for what follows from values.
	values     steering.Values
	configured steering.Values
	refuse     error
	skips      []control.SkipRequest
}

const fakeShards = 3

func newFakeSteerer() *fakeSteerer {
	f := &fakeSteerer{
		state: control.SteerState{
			Mode: steering.Pinned, PinPath: "/sys/fs/bpf/wsd/8000", Exempt: []string{"10.0.0.0/8", "2001:db8::/32"},
			Ends:  []control.SteerCount{{Name: "picked_least_loaded", Count: 120}, {Name: "refused_admission"}},
			Notes: []control.SteerCount{{Name: "skipped_stalled", Count: 3}},
		},
		values: steering.DefaultValues(fakeShards), configured: steering.DefaultValues(fakeShards),
	}
	for id := range fakeShards {
		f.state.Shards = append(f.state.Shards, control.SteerShard{ID: id, Connections: 40, Load: int64(40 + id), Pending: int64(id), Picked: 40})
	}
	return f
}

// SteerState implements control.Steerer.
func (f *fakeSteerer) SteerState() (control.SteerState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := f.state
	state.Shards, state.Settings = slices.Clone(state.Shards), nil
	for _, setting := range steering.AllSettings() {
		for i, value := range f.values[setting.Name] {
			began, counts := f.configured[setting.Name][i], setting.InForce(value)
			s := control.SteerSetting{
				Name: setting.Name, Value: value, Text: setting.Text(value), Configured: setting.Text(began), InForce: setting.Text(counts),
				Changed: value != began, Ignored: value != counts,
			}
			if setting.PerShard {
				s.Shard = &i
			}
			switch setting.Name {
			case "policy":
				state.Policy = s.InForce
			case "weight":
				state.Shards[i].Weight = counts
			case "drain":
				state.Shards[i].Drain = counts != 0
			}
			state.Settings = append(state.Settings, s)
		}
	}
	return state, nil
}

// Steer implements control.Steerer.
func (f *fakeSteerer) Steer(change control.SteerChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	bad := func(err error) error { return &control.Refusal{Status: http.StatusBadRequest, Text: err.Error()} }
	setting, err := steering.SettingNamed(change.Setting)
	if err != nil {
		return bad(err)
	}
	entry := 0
	if change.Shard != nil {
		entry = *change.Shard
	}
	if entry >= fakeShards {
		return bad(errors.New("name a shard from 0 to 2"))
	}
	value, err := setting.Parse(change.Value)
	if err != nil {
		return bad(err)
	}
	f.values[setting.Name][entry] = value
	return nil
}

// set writes a value as an operator may with bpftool.
func (f *fakeSteerer) set(name string, entry int, value uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values[name][entry] = value
}

// serveSteerer serves f until the test ends, and returns the socket.
func serveSteerer(t *testing.T, f *fakeSteerer) string {
	t.Helper()
	return serveControl(t, control.NewHandler(http.NotFoundHandler(), f, f, nil, nil, nil))
}

// serveControl serves a handler on a control socket until the test ends, and returns the socket.
func serveControl(t *testing.T, handler http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wsd") //nolint:usetesting // A socket's path is short, and t.TempDir holds the test's name.
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s, err := control.Start(control.Options{
		Path: filepath.Join(dir, "wsd.sock"), Handler: handler, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s.Path()
}

// steer calls `wsd steer` with the words of args.
func steer(socket, args string) (code int, stdout, stderr string) {
	return call(append(append([]string{"steer"}, strings.Fields(args)...), "--control.socket", socket)...)
}

func TestSteerStatus(t *testing.T) {
	f := newFakeSteerer()
	socket := serveSteerer(t, f)
	code, stdout, stderr := steer(socket, "")
	require.Equal(t, command.OK, code, stderr)
	require.Equal(t, `mode ebpf-pinned, policy least-loaded, pins /sys/fs/bpf/wsd/8000

SHARD  CONNECTIONS  LOAD  PENDING  WEIGHT  STATE
0      40           40    0        100     ok
1      40           41    1        100     ok
2      40           42    2        100     ok

Settings that differ from the configuration:
  none

Outcomes:
  picked_least_loaded  120
  skipped_stalled      3
`, stdout)

	f.state.Ends, f.state.Notes = f.state.Ends[1:], nil
	code, stdout, stderr = steer(socket, "status")
	require.Equal(t, command.OK, code, stderr)
	require.Contains(t, stdout, "Outcomes:\n  none\n")

	f.state.Mode, f.state.PinPath, f.state.Reason = steering.Unpinned, "", "no bpffs"
	f.state.Shards[0].Draining, f.state.Shards[1].StalledFor, f.state.Shards[2].Ramping, f.state.Shards[2].Full = true, 1.23, true, true
	f.state.AdmissionWsd = 30
	f.set("policy", 0, 2)
	f.set("weight", 1, 20000)
	f.set("drain", 1, 1)
	code, stdout, stderr = steer(socket, "status")
	require.Equal(t, command.OK, code, stderr)
	for _, want := range []string{
		"mode ebpf, policy p2c, reason: no bpffs\n",
		"0      40           40    0        100     drained by wsd\n", "100     draining, stalled 1.23s\n", "100     full, ramping\n",
		"  admission by wsd itself  30     (the higher of this and admission applies)\n",
		"  policy                   p2c    (configured least-loaded)\n",
		"  weight of shard 1        20000  (out of range, 100 applies instead; configured 100)\n",
		"  drain of shard 1         true   (configured false)\n",
	} {
		require.Contains(t, stdout, want)
	}

	code, stdout, stderr = steer(socket, "--json")
	require.Equal(t, command.OK, code, stderr)
	want, err := f.SteerState()
	require.NoError(t, err)
	var got control.SteerState
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Equal(t, want, got)
}

func TestSteerChanges(t *testing.T) {
	socket := serveSteerer(t, newFakeSteerer())
	const keep = ", until wsd restarts; to keep it, set %s in the configuration (wsd steer show --yaml)"
	for _, c := range []struct{ args, want, key string }{
		{"set weight 1 200", "weight of shard 1: 100 → 200", "steering.weights"},
		{"set policy weighted", "policy: least-loaded → weighted", "steering.policy"},
		{"set weight 1 300", "weight of shard 1: 200 → 300", "steering.weights"},
		{"set admission 5", "admission: 0 → 5", "steering.limits.admission"},
		{"set limit stall_bound 150ms", "stall_bound: 0s → 150ms", "steering.stall_bound"},
		{"set limit source_dry_run true", "source_dry_run: false → true", "steering.limits.source_dry_run"},
	} {
		code, stdout, stderr := steer(socket, c.args)
		require.Equal(t, command.OK, code, stderr)
		want := c.want + fmt.Sprintf(keep, c.key)
		if c.args == "set weight 1 200" {
			want += "; no effect yet: it applies only under the policy weighted, and the policy is least-loaded"
		}
		require.Equal(t, want+"\n", stdout, c.args)
	}
	for _, c := range []struct{ args, want string }{
		{"drain 2", "Shard 2 is now draining. This ends when wsd restarts; it cannot be configured.\n"},
		{"undrain 2", "Shard 2 is no longer draining.\n"},
		{"drain 0", "Shard 0 is now draining. This ends when wsd restarts; it cannot be configured.\n"},
		{"drain 1", "Shard 1 is now draining. This ends when wsd restarts; it cannot be configured.\n"},
		{"drain 2", "Shard 2 is now draining. This ends when wsd restarts; it cannot be configured. All shards are draining, " +
			"so new connections are spread as if none were; to refuse them, use wsd drain or wsd steer set admission 100.\n"},
		{"undrain 2", "Shard 2 is no longer draining.\n"},
		{"set policy hash", "policy: weighted → hash" + fmt.Sprintf(keep, "steering.policy") + "\n"},
		{"drain 2", "Shard 2 is now draining. This ends when wsd restarts; it cannot be configured. No effect yet: the policy is " +
			"hash, which ignores drains.\n"},
		{"set policy least-loaded", "policy: hash → least-loaded, as configured\n"},
	} {
		code, stdout, stderr := steer(socket, c.args)
		require.Equal(t, command.OK, code, stderr)
		require.Equal(t, c.want, stdout)
	}
}

func TestSteerErrors(t *testing.T) {
	f := newFakeSteerer()
	socket := serveSteerer(t, f)
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"bogus", command.Usage, "unknown command bogus"},
		{"set", command.Usage, "expected one of"},
		{"set weight 1", command.Usage, "<weight>"},
		{"set weight one 1", command.Usage, "<shard>"},
		{"set weight -1 1", command.Usage, "-1"},
		{"set weight 3 1", command.Usage, "wsd: name a shard from 0 to 2\n"},
		{"set weight 0 10001", command.Usage, `wsd: weight "10001" must be a whole number from 0 to 10000`},
		{"set policy random", command.Usage, `wsd: policy "random" must be one of least-loaded, weighted`},
		{"set admission 5%", command.Usage, `admission "5%" must be a whole number from 0 to 100`},
		{"set limit policy hash", command.Usage, `no limit is named "policy"; the limits are stall_bound, ramp`},
		{"set limit ramp 5", command.Usage, `ramp "5" must be a duration`},
		{"drain", command.Usage, "<shard>"},
		{"drain 3", command.Usage, "name a shard from 0 to 2"},
		{"watch --interval 50ms", command.Usage, "--interval 50ms must be at least 100ms"},
		{"watch --count=-1", command.Usage, "--count -1 must be at least 0"},
	} {
		code, stdout, stderr := steer(socket, c.args)
		require.Equal(t, c.code, code, "%s\n%s", c.args, stderr)
		require.Empty(t, stdout, c.args)
		require.Contains(t, stderr, c.want, c.args)
	}
	f.refuse = &control.Refusal{Status: http.StatusConflict, Text: "the kernel's hash chooses the shards, so settings have no effect"}
	code, stdout, stderr := steer(socket, "drain 1")
	require.Equal(t, command.Failed, code)
	require.Empty(t, stdout)
	require.Equal(t, "wsd: "+f.refuse.Error()+"\n", stderr)

	for _, args := range []string{"", "status --json", "drain 0", "show", "watch --count 1", "set policy p2c"} {
		code, _, stderr := steer(filepath.Join(t.TempDir(), "none.sock"), args)
		require.Equal(t, command.Failed, code, args)
		require.Contains(t, stderr, "Is wsd running?", args)
	}
}

func TestSteerHelp(t *testing.T) {
	for args, want := range map[string]string{
		"": "steer undrain", "set": "steer set limit", "set policy": "cpu-local", "set weight": "<weight>", "set admission": "<percent>",
		"set limit": "stall_bound, ramp,", "drain": "<shard>", "undrain": "<shard>", "watch": "SPREAD", "show": "--yaml", "status": "--json",
	} {
		code, stdout, stderr := call(append(append([]string{"steer"}, strings.Fields(args)...), "--help")...)
		require.Equal(t, command.OK, code, stderr)
		require.Contains(t, strings.Join(strings.Fields(stdout), " "), want, args)
		require.Contains(t, stdout, "--control.socket")
		require.NotContains(t, stdout, "--kafka.brokers")
	}
}

// Every setting can be set by a command, and all but drain have a key in the configuration.
func TestSteerNames(t *testing.T) {
	own := []string{"policy", "weight", "drain", "admission"}
	for _, setting := range steering.AllSettings() {
		require.Equal(t, !slices.Contains(own, setting.Name), slices.Contains(limitNames, setting.Name), setting.Name)
		require.Equal(t, setting.Name == "drain", configKey(setting.Name) == "", setting.Name)
	}
	require.Len(t, limitNames, len(steering.AllSettings())-len(own))
}

func TestSteerShow(t *testing.T) {
	f := newFakeSteerer()
	socket := serveSteerer(t, f)
	f.set("weight", 2, 300)
	code, stdout, stderr := steer(socket, "show")
	require.Equal(t, command.OK, code, stderr)
	for _, want := range []string{
		"policy             least-loaded  (as configured)\n", "weight of shard 0  100           (as configured)\n",
		"weight of shard 2  300           (configured 100)\n", "source_exempt      2001:db8::/32\n",
	} {
		require.Contains(t, stdout, want)
	}
}

// load loads what `wsd steer show --yaml` prints.
func load(t *testing.T, socket string) (config.Steering, string) {
	t.Helper()
	code, stdout, stderr := steer(socket, "show --yaml")
	require.Equal(t, command.OK, code, stderr)
	file := filepath.Join(t.TempDir(), "wsd.yaml")
	require.NoError(t, os.WriteFile(file, []byte(stdout), 0o600))
	loaded, err := config.Load(config.Input{File: file})
	require.NoError(t, err, stdout)
	return loaded.Config.Steering, stdout
}

func TestSteerShowYAML(t *testing.T) {
	f := newFakeSteerer()
	socket := serveSteerer(t, f)
	s, text := load(t, socket)
	require.NotContains(t, text, "weights")
	require.NotContains(t, text, "# Drained")
	require.Equal(t, "least-loaded", s.Policy)
	require.Equal(t, []string{"10.0.0.0/8", "2001:db8::/32"}, s.Limits.SourceExempt)

	for i, setting := range steering.AllSettings() { // Another value for each.
		f.set(setting.Name, 0, min(uint32(i)+1, setting.Max))
	}
	f.set("policy", 0, 1)
	f.set("weight", 1, 20000) // Out of range: not what is kept.
	s, text = load(t, socket)
	require.Contains(t, text, "# Drained shards, which cannot be configured: 0.\n")
	require.Equal(t, config.Steering{
		Mode: "auto", PinDir: "/sys/fs/bpf/wsd", Policy: "weighted", Weights: []int{2, 100, 100}, StallBound: 4 * time.Millisecond, Ramp: 5 * time.Millisecond,
		PendingMax: 6, CPULocalBound: 7,
		Limits: config.Limits{
			Admission: 8, AdmissionDryRun: true, SourceRate: 10, SourceBurst: 11, SourcePrefix4: 12, SourcePrefix6: 13, SourceDryRun: true,
			SourceExempt: []string{"10.0.0.0/8", "2001:db8::/32"}, SourcesMax: 65536,
		},
	}, s)
	for _, setting := range steering.AllSettings() {
		f.set(setting.Name, 0, ^uint32(0))
	}
	f.set("pending_max", 0, 1<<31-1)
	f.set("cpu_local_bound", 0, 1<<31-1)
	s, _ = load(t, socket)
	require.Equal(t, 1<<31-1, s.PendingMax)
	f.state.Exempt = nil
	s, _ = load(t, socket)
	require.Empty(t, s.Limits.SourceExempt)
	f.configured["weight"][2] = 300 // The file says so, and has to be overruled.
	s, _ = load(t, socket)
	require.Equal(t, []int{100, 100, 100}, s.Weights)
}

func TestSteerWatch(t *testing.T) {
	f := newFakeSteerer()
	f.state.Shards[1].StalledFor = 2
	socket := serveSteerer(t, f)
	code, stdout, stderr := steer(socket, "watch --interval 100ms --count 2")
	require.Equal(t, command.OK, code, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 3)
	require.Equal(t, []string{"TIME", "PICKED/S", "REFUSED/S", "CONNECTIONS", "SPREAD", "PENDING", "STALLED"}, strings.Fields(lines[0]))
	require.Equal(t, []string{"0.0", "0.0", "120", "2", "3", "1"}, strings.Fields(lines[2])[1:])

	var screen bytes.Buffer
	code = run([]string{"steer", "watch", "--interval", "100ms", "--count", "1", "--control.socket", socket}, env{stdout: &screen, screen: true})
	require.Equal(t, command.OK, code)
	require.Equal(t, 2, strings.Count(screen.String(), cursorHome), "at once, and after an interval")
	require.Contains(t, screen.String(), "SHARD  CONNECTIONS")
	require.NotContains(t, screen.String(), "\n\n", "what was there before is erased, line by line")
}

func TestPace(t *testing.T) {
	state := func(picked, refused uint64) control.SteerState {
		return control.SteerState{
			Ends: []control.SteerCount{
				{Name: "picked_p2c", Count: picked}, {Name: "picked_hash", Count: 1}, {Name: "placed", Count: 77},
				{Name: "refused_source", Count: refused}, {Name: "refused_admission", Count: 1},
			},
		}
	}
	require.Equal(t, pace{picked: 10, refused: 2}, paceOf(state(100, 5), state(120, 9), 2*time.Second))
	require.Equal(t, pace{picked: 11, refused: 3}, paceOf(state(100, 5), state(10, 2), time.Second), "another wsd")
}

// A signal is how watching ends.
func TestSteerWatchSignal(t *testing.T) {
	socket := serveSteerer(t, newFakeSteerer())
	for _, signal := range []os.Signal{unix.SIGINT, unix.SIGTERM} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "steer", "watch", "--interval", "100ms", "--control.socket", socket)
		cmd.Env = append(os.Environ(), asWSD+"=1")
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		_, err = out.Read(make([]byte, 1)) // The head is there, so signals are caught.
		require.NoError(t, err)
		require.NoError(t, cmd.Process.Signal(signal))
		require.NoError(t, cmd.Wait(), "exit code 0")
	}
}
