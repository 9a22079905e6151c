package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/internal/control"
	"wsd/internal/testutil"
)

// fakeSurveyor says what the test wants, and notes what it was asked.
type fakeSurveyor struct {
	clients  control.ClientsState
	channels control.ChannelsState
	asked    []any
}

func (f *fakeSurveyor) Clients(_ context.Context, q control.ClientsQuery) (control.ClientsState, error) {
	f.asked = append(f.asked, q)
	return f.clients, nil
}

func (f *fakeSurveyor) Channels(_ context.Context, q control.ChannelsQuery) (control.ChannelsState, error) {
	f.asked = append(f.asked, q)
	return f.channels, nil
}

func TestClients(t *testing.T) {
	f := &fakeSurveyor{clients: control.ClientsState{Total: 9, AtLeast: true, Unheard: control.Unheard{Missing: []int{2}, Busy: []int{3, 4}}, Clients: []control.ClientState{
		{Client: "ab", Shard: 3, Address: "10.0.0.1:5", User: "a\x1b[2J", Dialect: "json", TLS: true, Channels: 2, WaitingBytes: 77, Blocked: true,
			Subscribed: []control.ClientInState{{Channel: "news", Offset: 5, Epoch: "e"}, {Channel: "x", Server: true}}},
	}}}
	socket := serveControl(t, control.NewHandler(http.NotFoundHandler(), nil, nil, nil, f, nil))
	code, stdout, stderr := call("clients", "--waiting", "--max", "5", "--control.socket", socket)
	require.Equal(t, command.OK, code, stderr)
	require.Equal(t, []any{control.ClientsQuery{Waiting: true, Max: 5}}, f.asked)
	require.Contains(t, stdout, `ab      3      10.0.0.1:5  "a\x1b[2J"  json+tls  2         77       blocked`)
	require.Contains(t, stdout, "and at least 8 more clients: see --max\nno answer from shards [2] in time")
	require.Contains(t, stdout, "shards [3 4] are asked too much at the same time")
	require.NotContains(t, stdout, "news")

	code, stdout, stderr = call("clients", "--client", "ab", "--user", "u", "--channel", "c", "--control.socket", socket)
	require.Equal(t, command.OK, code, stderr)
	require.Equal(t, control.ClientsQuery{Client: "ab", User: "u", Channel: "c", Max: 100}, f.asked[1])
	require.Contains(t, stdout, "CHANNEL  OFFSET  EPOCH  BY\n\"news\"   5       e      client\n\"x\"      -       -      server\n")

	code, stdout, stderr = call("clients", "--json", "--control.socket", socket)
	require.Equal(t, command.OK, code, stderr)
	var state control.ClientsState
	require.NoError(t, json.Unmarshal([]byte(stdout), &state))
	require.Equal(t, f.clients, state)

	f.clients = control.ClientsState{}
	code, stdout, stderr = call("clients", "--client", "ab", "--control.socket", socket)
	require.Equal(t, command.OK, code, stderr)
	require.Contains(t, stdout, "The client has gone.")
	code, _, stderr = call("clients", "--max", "1001", "--control.socket", socket)
	require.Equal(t, command.Usage, code)
	require.Contains(t, stderr, "--max 1001 must be from 1 to 1000")
}

func TestChannels(t *testing.T) {
	f := &fakeSurveyor{channels: control.ChannelsState{Total: 3, Channels: []control.ChannelState{
		{Channel: "news", Subscribers: 4, Shards: 2, Records: 10, Deliveries: 38},
	}}}
	socket := serveControl(t, control.NewHandler(http.NotFoundHandler(), nil, nil, nil, f, nil))
	code, stdout, stderr := call("channels", "--traffic", "--prefix", "n", "--control.socket", socket)
	require.Equal(t, command.OK, code, stderr)
	require.Equal(t, []any{control.ChannelsQuery{Prefix: "n", ByTraffic: true, Max: 100}}, f.asked)
	require.Equal(t, "CHANNEL  SUBSCRIBERS  SHARDS  RECORDS  DELIVERIES\n\"news\"   4            2       10       38\nand 2 more channels: see --max\n", stdout)
}

// reading is what wsd says at a time, seconds after the start.
func reading(seconds int, deliveries, records uint64) topReading {
	r := topReading{read: time.Unix(1e9, 0).Add(time.Duration(seconds) * time.Second)}
	body := `{"status":"ok","version":"v1","uptime_seconds":` + strings.Repeat("9", seconds/10+1) + `,"steering":{"mode":"ebpf","policy":"p2c"},
		"kafka":{"topics":[{"lag":5},{"lag":-1}]},"process":{"pid":7,"cpus":2}}`
	if err := json.Unmarshal([]byte(body), &r.health); err != nil {
		panic(err)
	}
	for id := range 64 {
		r.health.Shards = append(r.health.Shards, topHealthShard{ID: id, Clients: 2, Deliveries: deliveries * uint64(id)})
	}
	r.channels.Channels = []control.ChannelState{{Channel: "a", Subscribers: 9}, {Channel: "b", Records: records, Deliveries: records * 3}}
	return r
}

func TestTop(t *testing.T) {
	u := topOf(reading(0, 100, 50), reading(10, 200, 70))
	require.Equal(t, topChannel{Channel: "b", RecordsRate: 2, DeliveriesRate: 6}, u.Channels[0])
	require.Equal(t, topShard{ID: 63, Clients: 2, DeliveriesRate: 630}, u.Shards[0])
	require.EqualValues(t, 128, u.Clients)
	require.EqualValues(t, 5, u.Lag)
	require.Equal(t, "ebpf, p2c", u.Steering)

	// Where the last subscribers on a shard have left, its part of the counts is missing.
	u = topOf(reading(0, 100, 70), reading(10, 200, 50))
	require.Zero(t, u.Channels[0].DeliveriesRate)
	require.Zero(t, u.Channels[1].DeliveriesRate)

	// After a restart the counts begin anew.
	restarted := reading(20, 10, 7)
	restarted.health.Process.PID = 8
	u = topOf(reading(10, 200, 70), restarted)
	require.InDelta(t, 63, u.Shards[0].DeliveriesRate, 0.01)
	require.InDelta(t, 2.1, u.Channels[0].DeliveriesRate, 0.01)
	// What a client or a record has chosen may be wide, or combine.
	u.Channels[0].Channel = strings.Repeat("世界", 60) + strings.Repeat("é", 60)
	u.Missing, u.Busy = []int{5}, []int{6}
	for _, lines := range []int{1, 5, 12, 24, 60, 300} {
		var b bytes.Buffer
		require.NoError(t, drawTop(&b, u, nil, lines, 80))
		text := b.String()
		require.True(t, strings.HasPrefix(text, cursorHome))
		require.LessOrEqual(t, strings.Count(text, "\n")+1, lines, "%d lines", lines)
		if lines >= 24 {
			require.Contains(t, text, "! no answer from shards [5] in time")
			require.Contains(t, text, "! shards [6] are asked too much")
			require.NotContains(t, text, strings.Repeat("世界", 20)) // That is 80 columns, beside the quote.
		}
		for line := range strings.SplitSeq(text, "\n") {
			columns := 0
			for _, r := range strings.NewReplacer(eraseRight, "", cursorHome, "", eraseBelow, "").Replace(line) {
				columns += columnsOf(r)
			}
			require.LessOrEqual(t, columns, 80)
		}
	}
}

// A short answer leaves out shards and topics. Then those of the update before stand, and no rate is made up.
func TestTopOfShortHealth(t *testing.T) {
	short := reading(10, 0, 70)
	short.health.Short, short.health.Shards, short.health.Kafka.Topics = true, nil, nil
	shown := topOf(reading(0, 100, 50), reading(10, 200, 70))
	u := topOf(reading(0, 100, 50), short)
	require.Empty(t, u.Shards)
	u.keep(shown)
	require.Equal(t, shown.Shards, u.Shards)
	require.Equal(t, shown.DeliveriesRate, u.DeliveriesRate)
	require.EqualValues(t, 5, u.Lag)
	u = topOf(short, reading(20, 200, 90))
	require.Len(t, u.Shards, 64)
	require.Zero(t, u.DeliveriesRate)
}

// A wsd that stops and comes back is said so once, and followed on.
func TestTopGoesOn(t *testing.T) {
	body := `{"status":"ok","version":"v1","uptime_seconds":1,"process":{"pid":7,"cpus":2}}`
	answers := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
	dir, err := os.MkdirTemp("", "wsd") //nolint:usetesting // A socket's path is short, and t.TempDir holds the test's name.
	require.NoError(t, err)
	defer func() { _ = os.RemoveAll(dir) }()
	path := filepath.Join(dir, "wsd.sock")
	serve := func() *control.Server {
		s, err := control.Start(control.Options{
			Path: path, Handler: control.NewHandler(answers, nil, nil, nil, &fakeSurveyor{}, nil), Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		return s
	}
	for _, screen := range []bool{false, true} {
		var out, errs testutil.Buffer
		server := serve()
		ended := make(chan error, 1)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			c := topCmd{Interval: 20 * time.Millisecond}
			ended <- c.follow(ctx, env{stdout: &out, stderr: &errs, screen: screen}, path)
		}()
		says := func(b *testutil.Buffer, text string, times int) {
			t.Helper()
			require.Eventually(t, func() bool { return strings.Count(b.String(), text) >= times }, waitMax, time.Millisecond, text)
		}
		says(&out, "ok", 2)
		require.NoError(t, server.Close())
		if screen {
			says(&out, "! no answer, what follows is old: ", 2)
		} else {
			says(&errs, "no update: ", 1)
		}
		seen := strings.Count(out.String(), "ok")
		server = serve()
		says(&out, "ok", seen+2)
		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.NoError(t, server.Close())
		require.LessOrEqual(t, strings.Count(errs.String(), "no update: "), 1)
	}
}

// fakeDisconnecter notes what it was asked.
type fakeDisconnecter struct {
	asked []control.DisconnectRequest
	scope string
}

func (f *fakeDisconnecter) Disconnect(_ context.Context, r control.DisconnectRequest) (control.DisconnectResult, error) {
	f.asked = append(f.asked, r)
	return control.DisconnectResult{Scope: f.scope}, nil
}

func TestDisconnect(t *testing.T) {
	const id = "00112233445566778899aabbccddeeff"
	f := &fakeDisconnecter{scope: "node"}
	socket := serveControl(t, control.NewHandler(http.NotFoundHandler(), nil, nil, nil, nil, f))
	for args, want := range map[string]control.DisconnectRequest{
		"ann":                            {User: "ann", Code: 3503},
		id:                               {Client: id, Code: 3503},
		"--user " + id:                   {User: id, Code: 3503},
		"ann --code 4000 --reason=again": {User: "ann", Code: 4000, Reason: "again"},
	} {
		f.asked = nil
		code, stdout, stderr := call(append(append([]string{"disconnect"}, strings.Fields(args)...), "--control.socket", socket)...)
		require.Equal(t, command.OK, code, stderr)
		require.Equal(t, []control.DisconnectRequest{want}, f.asked)
		require.Regexp(t, "^this wsd has closed .*, if it had any\n$", stdout)
	}
	f.scope = "cluster"
	code, stdout, _ := call("disconnect", "ann", "--control.socket", socket)
	require.Equal(t, command.OK, code)
	require.Contains(t, stdout, "each wsd that reads commands.topic closes")
	code, _, stderr := call("disconnect", "--control.socket", socket)
	require.Equal(t, command.Usage, code)
	require.Contains(t, stderr, "user|client")
}
