package steering

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
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
}

func TestMain(m *testing.M) { testutil.Main(m, child) }

// child starts steering with a mode, a number of shards and a pin directory, dials
// once, reports, and waits for the end of its input without Close, as a process
// does that is killed.
func child(arg string) error {
	part := strings.SplitN(arg, ":", 3)
	shards, err := strconv.Atoi(part[1])
	if err != nil {
		return err
	}
	groups, err := listen.Open(listen.Options{Addresses: []string{"127.0.0.1:0"}, Shards: shards})
	if err != nil {
		return err
	}
	log := &lines{}
	s, err := Start(Options{Mode: Mode(part[0]), PinDir: part[2], Port: 8000, Shards: shards, Groups: fds(groups), Logger: log.logger()})
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
			report.Picks += int(s.Slot(routing.ShardID(i)).Picked())
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
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.buf.String(), func(r rune) bool { return r == '\n' })
}

func fds(groups []listen.Group) [][]int {
	all := make([][]int, len(groups))
	for i, g := range groups {
		all[i] = g.FDs
	}
	return all
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

// mustServe starts with pins below pinDir, unpinned when it is empty, at
// ephemeral ports of 127.0.0.1 unless other addresses are given.
func mustServe(tb testing.TB, shards int, pinDir string, addresses ...string) *server {
	tb.Helper()
	if len(addresses) == 0 {
		addresses = []string{"127.0.0.1:0"}
	}
	v := &server{tb: tb, log: &lines{}, accepted: make([][]int, shards), closed: map[int]bool{}}
	var err error
	v.groups, err = listen.Open(listen.Options{Addresses: addresses, Shards: shards})
	require.NoError(tb, err)
	tb.Cleanup(v.stop)
	v.Steering, err = Start(Options{
		Mode: ModeRequire, PinDir: pinDir, Port: 8000, Shards: shards, Groups: fds(v.groups), Logger: v.log.logger(),
	})
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
		all[i] = v.Slot(routing.ShardID(i)).Load()
	}
	return all
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
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	require.NoError(tb, err)
	defer unix.Close(fd)
	address := to.Addr().As4()
	// Version and length, protocol, addresses; the kernel fills in the rest.
	ip := append([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, unix.IPPROTO_TCP, 0, 0, 127, 0, 0, 1}, address[:]...)
	tcp := []byte{
		byte(sourcePort >> 8), byte(sourcePort), byte(to.Port() >> 8), byte(to.Port()),
		0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 0x10, 1, 0, 0, 0, 0, 0,
	}
	var sum uint32
	for _, part := range [][]byte{ip[12:20], {0, unix.IPPROTO_TCP, 0, byte(len(tcp))}, tcp} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(part[i])<<8 | uint32(part[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	tcp[16], tcp[17] = byte(^sum>>8), byte(^sum)
	require.NoError(tb, unix.Sendto(fd, append(ip, tcp...), 0, &unix.SockaddrInet4{Addr: address}))
}

// mustDial opens a connection that stays open until the test ends.
func mustDial(tb testing.TB, address string) {
	tb.Helper()
	c, err := net.Dial("tcp", address)
	require.NoError(tb, err)
	tb.Cleanup(func() { c.Close() })
}
