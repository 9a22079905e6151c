package steering

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/listen"
	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// childReport is what a child prints, as a line of JSON.
type childReport struct {
	Status Status
	Err    string
	Log    []string
	Picks  int

	// Of a child that serves (see alone).
	PID     int
	Address string
}

func TestMain(m *testing.M) { testutil.Main(m, child) }

// child starts steering with a mode, a number of shards and a pin directory, dials
// once, reports, and waits for the end of its input without Close, as a process
// does that is killed. With "serve " and the JSON of an alone it serves instead.
func child(arg string) error {
	if text, serves := strings.CutPrefix(arg, "serve "); serves {
		return serveAlone(text)
	}
	part := strings.SplitN(arg, ":", 3)
	shards, err := strconv.Atoi(part[1])
	if err != nil {
		return err
	}
	log := &lines{}
	o := testOptions(shards, part[2], log)
	o.Mode = Mode(part[0])
	s, groups, err := start(o, "127.0.0.1:0")
	report := childReport{Log: log.all()}
	if err != nil {
		report.Err = err.Error()
	} else {
		conn, err := net.Dial("tcp", groups[0].Address.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		report.Status = s.Status()
		for i := range shards {
			report.Picks += int(s.Slot(routing.ShardID(i)).Figures().Picked)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// mustChild runs a child until it has reported; end lets it die. A wrapper is a
// command before it.
func mustChild(tb testing.TB, arg string, wrapper ...string) (report childReport, end func()) {
	tb.Helper()
	_, stdout, end := testutil.Child(tb, arg, wrapper...)
	require.NoError(tb, json.NewDecoder(stdout).Decode(&report))
	return report, end
}

// lines collects what a logger writes.
type lines struct{ testutil.Buffer }

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) all() []string {
	return strings.FieldsFunc(l.String(), func(r rune) bool { return r == '\n' })
}

// testOptions are Options that every test begins with.
func testOptions(shards int, pinDir string, log *lines) Options {
	return Options{
		Mode: ModeRequire, PinDir: pinDir, PinGroup: -1, Port: 8000, Shards: shards, Groups: 1, Values: DefaultValues(shards), Logger: log.logger(),
	}
}

// start opens listeners that are steered from the first connection on, as a server does.
func start(o Options, addresses ...string) (*Steering, []listen.Group, error) {
	return startWithBacklog(o, 0, addresses...)
}

func startWithBacklog(o Options, backlog int, addresses ...string) (*Steering, []listen.Group, error) {
	o.Groups = len(addresses)
	s, err := New(o)
	if err != nil {
		return nil, nil, err
	}
	groups, err := listen.Open(listen.Options{Addresses: addresses, Shards: o.Shards, Backlog: backlog, Opened: s.Attach, Listening: s.Add})
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	s.Publish(8000)
	return s, groups, nil
}

// server is listeners that are steered, and the clients of the test.
type server struct {
	*Steering
	tb       testing.TB
	groups   []listen.Group
	log      *lines
	accepted [][]int // Descriptors, per shard.
	closed   map[int]bool
}

// mustServe starts with pins below pinDir, unpinned when it is none, at
// ephemeral ports of 127.0.0.1 unless other addresses are given.
func mustServe(tb testing.TB, shards int, pinDir string, addresses ...string) *server {
	tb.Helper()
	return mustServeWith(tb, shards, pinDir, func(*Options) {}, addresses...)
}

// mustServeIn serves in a network namespace, without pins.
func mustServeIn(tb testing.TB, ns *testutil.NetNS, shards int, addresses ...string) (v *server) {
	tb.Helper()
	require.NoError(tb, ns.Do(func() error {
		v = mustServe(tb, shards, unpinned, addresses...)
		return nil
	}))
	return v
}

// mustServeWith is mustServe with options that change alters.
func mustServeWith(tb testing.TB, shards int, pinDir string, change func(*Options), addresses ...string) *server {
	tb.Helper()
	return mustServeBacklog(tb, shards, pinDir, 0, change, addresses...)
}

// mustServeBacklog is mustServeWith with accept queues of a length; 0 is the kernel's.
func mustServeBacklog(tb testing.TB, shards int, pinDir string, backlog int, change func(*Options), addresses ...string) *server {
	tb.Helper()
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1:0"}
	}
	v := &server{tb: tb, log: &lines{}, accepted: make([][]int, shards), closed: map[int]bool{}}
	o := testOptions(shards, pinDir, v.log)
	change(&o)
	tb.Cleanup(v.stop)
	var err error
	v.Steering, v.groups, err = startWithBacklog(o, backlog, addresses...)
	require.NoError(tb, err)
	return v
}

func (v *server) stop() {
	for _, conns := range v.accepted {
		for _, fd := range conns {
			_ = unix.Close(fd)
		}
	}
	if v.Steering != nil {
		require.NoError(v.tb, v.Close())
	}
	for _, g := range v.groups {
		for _, fd := range g.FDs {
			if !v.closed[fd] {
				_ = unix.Close(fd)
			}
		}
	}
}

// closeListener closes one shard's listener of the first group.
func (v *server) closeListener(shard int) {
	v.tb.Helper()
	fd := v.groups[0].FDs[shard]
	v.closed[fd] = true
	require.NoError(v.tb, unix.Close(fd))
}

// dial opens n connections to a group, so many at a time. They stay open until
// the test ends, and leave no TIME_WAIT behind.
func (v *server) dial(group, n, at int) []net.Conn {
	v.tb.Helper()
	conns := make([]net.Conn, n)
	errs := make([]error, at)
	address := v.groups[group].Address.String()
	var wg sync.WaitGroup
	for worker := range at {
		wg.Go(func() {
			for i := worker; i < n; i += at {
				c, err := net.Dial("tcp", address)
				if err != nil {
					errs[worker] = err
					return
				}
				_ = c.(*net.TCPConn).SetLinger(0)
				conns[i] = c
			}
		})
	}
	wg.Wait()
	v.tb.Cleanup(func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	})
	require.NoError(v.tb, errors.Join(errs...))
	return conns
}

// accept takes exactly n connections in, wherever they are, and tells how many
// each shard had.
func (v *server) accept(n int) []int {
	v.tb.Helper()
	got := make([]int, len(v.accepted))
	var polled []unix.PollFd
	var shards []int
	for _, g := range v.groups {
		for shard, fd := range g.FDs {
			if !v.closed[fd] {
				polled, shards = append(polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}), append(shards, shard)
			}
		}
	}
	total := 0
	for end := time.Now().Add(5 * time.Second); total < n; {
		require.True(v.tb, time.Now().Before(end), "%d of %d connections were there to accept: %d", total, n, got)
		_, err := unix.Poll(polled, 100)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		require.NoError(v.tb, err)
		for i := range polled {
			for polled[i].Revents != 0 {
				fd, _, err := unix.Accept4(int(polled[i].Fd), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				require.NoError(v.tb, err)
				v.accepted[shards[i]] = append(v.accepted[shards[i]], fd)
				v.Slot(routing.ShardID(shards[i])).EndTurn(1, 0, 0)
				got[shards[i]]++
				total++
			}
		}
	}
	require.Equal(v.tb, n, total)
	return got
}

// loads are what the program compares.
func (v *server) loads() []int64 {
	all := make([]int64, len(v.accepted))
	for i := range all {
		all[i] = v.figures(i).Load()
	}
	return all
}

func (v *server) figures(shard int) Figures { return v.Slot(routing.ShardID(shard)).Figures() }

// counted are the outcomes and notes that are not 0.
func (v *server) counted() map[string]uint64 {
	all := make(map[string]uint64)
	ends, notes := v.Outcomes()
	for _, c := range append(ends, notes...) {
		if c.Count > 0 {
			all[c.Name] = c.Count
		}
	}
	return all
}

// set writes a setting as `wsd steer` does.
func (v *server) set(name string, shard int, value uint32) {
	v.tb.Helper()
	setting, err := SettingNamed(name)
	require.NoError(v.tb, err)
	require.NoError(v.tb, v.Set(setting, routing.ShardID(shard), value))
}

// end closes n of a shard's connections, as their clients would.
func (v *server) end(shard, n int) {
	v.tb.Helper()
	for _, fd := range v.accepted[shard][:n] {
		require.NoError(v.tb, unix.Close(fd))
	}
	v.accepted[shard] = v.accepted[shard][n:]
	v.Slot(routing.ShardID(shard)).EndTurn(0, uint64(n), 0)
}

// hello sends a byte from every accepted connection and has every client read
// it: none was reset.
func (v *server) hello(clients []net.Conn) {
	v.tb.Helper()
	for _, conns := range v.accepted {
		for _, fd := range conns {
			_, err := unix.Write(fd, []byte{'h'})
			require.NoError(v.tb, err)
		}
	}
	for _, c := range clients {
		require.NoError(v.tb, c.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(v.tb, err)
	}
}

// stray sends an ACK that belongs to no connection.
func stray(tb testing.TB, to netip.AddrPort, sourcePort uint16) {
	tb.Helper()
	require.NoError(tb, testutil.SendTCP(testutil.Segment{From: netip.AddrPortFrom(to.Addr(), sourcePort), To: to, Flags: testutil.ACK, Seq: 1, Ack: 1}))
}

// mustDial opens a connection that stays open until the test ends.
func mustDial(tb testing.TB, address string) {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
}

// dialOnCPU opens n connections from a thread that stays on one CPU. The calling
// goroutine must end after it: its thread does.
func dialOnCPU(tb testing.TB, address string, cpu, n int) error {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	for range n {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		tb.Cleanup(func() { c.Close() })
	}
	return nil
}

// monotonic is CLOCK_MONOTONIC, as the program reads it.
func monotonic(tb testing.TB) int64 {
	tb.Helper()
	var now unix.Timespec
	require.NoError(tb, unix.ClockGettime(unix.CLOCK_MONOTONIC, &now))
	return now.Nano()
}
