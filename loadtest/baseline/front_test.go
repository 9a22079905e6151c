package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/loadtest/baseline/shm"
)

func (s *system) dial(channel string) net.Conn {
	s.t.Helper()
	conn, _, _, err := ws.Dial(s.t.Context(), "ws://"+s.address.String()+"/ws?channel="+channel)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func loads(v *stats, n int) (list []int64) {
	for i := range n {
		list = append(list, v.shard(i)["connections"])
	}
	return list
}

// A new client goes to the shard with the fewest, also after others have left.
func TestLeastConnections(t *testing.T) {
	s := start(t, startKafka(t, "t0"), "--topics", "t0")
	var conns []net.Conn
	for range 30 {
		conns = append(conns, s.dial("t0"))
	}
	v := s.stats()
	require.Equal(t, []int64{10, 10, 10}, loads(&v, 3))
	// The shards were chosen in turn, so these leave two of them: every third stays.
	for i, c := range conns {
		if i%3 != 0 {
			require.NoError(t, c.Close())
		}
	}
	s.eventually("they have left", func(v *stats) bool { return v.sum("connections") == 10 && v.Processes["main"]["tunnels"] == 10 })
	for range 8 {
		s.dial("t0")
	}
	v = s.stats()
	got := loads(&v, 3)
	slices.Sort(got)
	require.Equal(t, []int64{4, 4, 10}, got)
}

// What is sent comes back as it should: a pong for a ping, a close frame for a close frame, 1009 for too much, and 1001
// for all when the system stops.
func TestFrames(t *testing.T) {
	for _, args := range [][]string{nil, {"--opt", "8"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			s := start(t, startKafka(t, "t0"), append([]string{"--topics", "t0"}, args...)...)
			conn := s.dial("t0")
			require.NoError(t, wsutil.WriteClientMessage(conn, ws.OpPing, []byte("hello")))
			f, err := ws.ReadFrame(conn)
			require.NoError(t, err)
			require.Equal(t, ws.OpPong, f.Header.OpCode)
			require.Equal(t, "hello", string(f.Payload))
			require.NoError(t, wsutil.WriteClientMessage(conn, ws.OpText, []byte("dropped")))
			require.NoError(t, wsutil.WriteClientMessage(conn, ws.OpClose, ws.NewCloseFrameBody(1000, "")))
			closed(t, conn, 1000)
			conn = s.dial("t0")
			require.NoError(t, wsutil.WriteClientMessage(conn, ws.OpText, bytes.Repeat([]byte("x"), 5000)))
			closed(t, conn, 1009)
			_, _, _, err = ws.Dial(t.Context(), "ws://"+s.address.String()+"/other")
			require.ErrorContains(t, err, "404")
			conn = s.dial("t0")
			silent, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.address.String())
			require.NoError(t, err)
			defer silent.Close()
			s.eventually("the silent one has its tunnel", func(v *stats) bool { return v.Processes["main"]["tunnels"] == 2 })
			go s.stop()
			closed(t, conn, 1001)
			s.stop()
		})
	}
}

func closed(t *testing.T, conn net.Conn, code ws.StatusCode) {
	t.Helper()
	f, err := ws.ReadFrame(conn)
	require.NoError(t, err)
	require.Equal(t, ws.OpClose, f.Header.OpCode)
	got, _ := ws.ParseCloseFrameData(f.Payload)
	require.Equal(t, code, got)
	require.NoError(t, conn.Close())
}

// A client that does not read is closed, and the others get everything.
func TestSlowClient(t *testing.T) {
	for _, args := range [][]string{nil, {"--opt", "8"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			broker := startKafka(t, "t0")
			s := start(t, broker, append([]string{"--topics", "t0", "--queue", "25"}, args...)...)
			f := newFeed(t, broker, 0, "t0")
			f.size(100 << 10)
			slow := s.dial("t0")
			h := f.connect(2, s.address)
			s.eventually("the slow client is closed", func(v *stats) bool {
				f.produce(20)
				h.eventually("the others keep up", func(n *clientCounters, _ bool) bool {
					return n.Deliveries == 2*int64(f.last()[0])
				})
				// Its queue is full, or a write to it takes too long.
				return v.sum("connections") == 2
			})
			h.complete()
			_ = slow.Close()
		})
	}
}

// The metrics page has every figure, and profiles of all processes are to be had.
func TestMetrics(t *testing.T) {
	s := start(t, startKafka(t, "t0"), "--topics", "t0", "--opt", "10")
	page := string(s.get(s.metrics + "/metrics"))
	for _, f := range figures {
		require.Contains(t, page, "baseline_"+f.name+`{process="main"} `)
		require.Contains(t, page, "baseline_"+f.name+`{process="2"} `)
	}
	require.Contains(t, page, `baseline_restarts_total{process="1"} 0`)
	require.Contains(t, string(s.get(s.metrics+"/debug/pprof/goroutine?debug=1")), "goroutine profile")
	require.Contains(t, string(s.get(s.metrics+"/shard/1/debug/pprof/goroutine?debug=1")), "bus.(*Receiver)")
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--opt 12", "--opt 12: must be between 1 and 11"},
		{"--opt 1 --all", "--all and --opt exclude each other"},
		{"--shards 0", "--shards 0 must be between 1 and 64"},
		{"--shards 65", "--shards 65 must be between 1 and 64"},
		{"--shards 1 --opt 9", "--opt 9 needs --shards 2"},
		{"--queue 0", "--queue 0 must be between"},
		{"--ping-interval 1ms", "--ping-interval 1ms must be at least 1s"},
		{"--cpu-max 0", "--cpu-max 0 must be above 0"},
		{"--stop 2h", "--stop 2h0m0s must be above 0, at most 1m"},
		{"--shard-host x", `--shard-host "x" is not an IP address`},
		{"--kafka x", `"x" is not HOST:PORT`},
		{"--connections-max 9999999", "--connections-max 9999999 must be between 1 and"},
		{"--group=", "--group must not be empty"},
		{"--none", "unknown flag"},
	} {
		var out, errs bytes.Buffer
		require.Equal(t, command.Usage, run(context.Background(), strings.Fields(c.args), &out, &errs), c.args)
		require.Contains(t, errs.String(), c.want)
	}
	var out, errs bytes.Buffer
	require.Equal(t, command.OK, run(context.Background(), []string{"--help"}, &out, &errs))
	help := strings.Join(strings.Fields(out.String()), " ")
	for _, o := range optimisations {
		require.Contains(t, help, o.Name+": "+o.Help)
	}
}

// Where consumers and clients are follows from the switches.
func TestRoles(t *testing.T) {
	for _, c := range []struct {
		on                   []int
		shards, kafka        int
		inShard, inMain, all int
	}{
		{nil, 3, 0, 1, 0, 3}, {nil, 7, 0, 1, 0, 7}, {[]int{5}, 7, 0, 0, 3, 1}, {[]int{9}, 3, 1, 1, 0, 1},
		{[]int{9}, 7, 2, 1, 0, 2}, {[]int{5, 9}, 3, 1, 3, 0, 1}, {[]int{5, 9}, 7, 2, 2, 0, 2}, {nil, 64, 0, 1, 0, 64},
	} {
		on, err := parseOpts(c.on, false)
		require.NoError(t, err)
		r := on.roles(c.shards, shm.Main)
		require.Equal(t, []int{c.kafka, c.inShard, c.inMain, c.all},
			[]int{r.kafkaShards, r.inShard, r.inMain, len(r.publishers)}, "%+v", c)
		for i := range c.shards {
			require.Equal(t, i < c.shards-c.kafka, r.hasClients(i))
		}
	}
}

// The document lists every figure, every switch and their effect.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/baseline.md")
	require.NoError(t, err)
	for _, f := range figures {
		require.Contains(t, string(text), "`baseline_"+f.name+"`")
	}
	for _, o := range optimisations {
		require.Contains(t, string(text), fmt.Sprintf("| %d | %s |", o.Number, o.Name))
	}
}
