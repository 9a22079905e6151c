package steering

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/listen"
	"wsd/internal/testutil"
)

// mustLookAt reads the figures of another process's server by its pins.
func mustLookAt(tb testing.TB, pins string, shards int) *server {
	tb.Helper()
	load := func(name string) *ebpf.Map {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pins, name), nil)
		require.NoError(tb, err)
		tb.Cleanup(func() { m.Close() })
		return m
	}
	table, err := mapTable(load(steerMapSlotsV2))
	require.NoError(tb, err)
	s := &Steering{slots: table.slice(shards), objects: &objects{outcomes: load(steerMapOutcomesV2)}}
	return &server{tb: tb, Steering: s, accepted: make([][]int, shards)}
}

// storm is clients that connect to a server while it is killed and comes again.
type storm struct {
	address string
	most    int           // Connects of one client to the first server, at most.
	enough  int64         // Connects of all clients to the first server before it is killed.
	each    int           // Connections of one client to the second server.
	greeted atomic.Int64  // Of the first server.
	reached chan struct{} // Closed after enough.
	dead    chan struct{} // Closed when the first server is.
}

// client closes connections that the first server has greeted, and returns those of
// the second. It holds one at a time on its way.
func (s *storm) client(ctx context.Context) (kept []net.Conn, err error) {
	deadline, _ := ctx.Deadline()
	for first := 0; len(kept) < s.each; {
		if first == s.most {
			select {
			case <-s.dead:
			case <-ctx.Done():
				return kept, ctx.Err()
			}
		}
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.address)
		if err != nil {
			if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ECONNRESET) {
				return kept, err
			}
			time.Sleep(100 * time.Microsecond) // The servers need the CPUs, too.
			continue
		}
		_ = c.SetDeadline(deadline)
		_ = c.(*net.TCPConn).SetLinger(0)
		hello := make([]byte, 1)
		if _, err := io.ReadFull(c, hello); err != nil {
			c.Close()
			if !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
				return kept, err
			}
			continue
		}
		if hello[0] == '2' {
			kept = append(kept, c)
			continue
		}
		c.Close()
		first++
		if s.greeted.Add(1) == s.enough {
			close(s.reached)
		}
	}
	return kept, nil
}

// The hash chooses from the first listener's listen to its entry into the program's
// map, and has that one alone; from then on the program does.
func TestFirstMoment(t *testing.T) {
	testutil.RequireBPF(t)
	const shards = 3
	s, err := New(testOptions(shards, unpinned, &lines{}))
	require.NoError(t, err)
	v := &server{tb: t, Steering: s, accepted: make([][]int, shards), closed: map[int]bool{}}
	t.Cleanup(v.stop)
	dial := func(fd int) {
		name, err := unix.Getsockname(fd)
		require.NoError(t, err)
		mustDial(t, fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port))
	}
	var seen []map[string]uint64
	v.groups, err = listen.Open(listen.Options{
		Addresses: []string{"127.0.0.1:0"}, Shards: shards, Opened: s.Attach,
		Listening: func(group, fd int) error {
			dial(fd)
			seen = append(seen, v.counted())
			err := s.Add(group, fd)
			dial(fd)
			return err
		},
	})
	require.NoError(t, err)
	require.Equal(t, []map[string]uint64{
		{"select_failed": 1}, {"select_failed": 1, "picked_least_loaded": 2}, {"select_failed": 1, "picked_least_loaded": 4},
	}, seen)
	require.Equal(t, []int{3, 2, 1}, v.accept(6))
	for shard, uncounted := range []uint64{1, 0, 0} {
		require.Equal(t, uncounted, v.figures(shard).Uncounted)
	}
	v.dial(0, 6, 1)
	require.Equal(t, []int{1, 2, 3}, v.accept(6))
}

// A server is killed and comes again while clients connect: all of them get in, and
// the next one places all of them but those that come before its first listener is
// in the program's map.
func TestRestartUnderLoad(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, clients, each = 4, 4, 500
	ns, dir := testutil.NewNetNS(t), testutil.BPFFS(t)
	s := &storm{address: "127.0.0.1:8000", most: 500, enough: 400, each: each, reached: make(chan struct{}), dead: make(chan struct{})}
	serve := func(hello byte) (report childReport, end func()) {
		require.NoError(t, ns.Do(func() error {
			report, end = mustServeAlone(t, alone{PinDir: dir, PinGroup: -1, Shards: shards, Address: s.address, Hello: hello}, mortal...)
			return nil
		}))
		require.Equal(t, Pinned, report.Status.Mode, "%+v", report)
		return report, end
	}
	first, endFirst := serve('1')

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	kept, errs := make([][]net.Conn, clients), make([]error, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			errs[i] = ns.Do(func() (err error) {
				kept[i], err = s.client(ctx)
				return err
			})
		})
	}
	select {
	case <-s.reached:
	case <-ctx.Done():
		require.FailNow(t, "no storm", "%d greeted", s.greeted.Load())
	}
	mustDie(t, first, endFirst)
	close(s.dead)
	second, endSecond := serve('2')
	wg.Wait()
	t.Cleanup(func() { closeAll(kept) })
	require.NoError(t, errors.Join(errs...))
	require.Len(t, second.Log, 1)
	require.Contains(t, second.Log[0], "replaced the pins")

	// A client waits for its greeting, which comes when all listeners are there. So each
	// has at most one connection from before the first of them was in the program's map,
	// and that went where the hash had to send it. It may also have sent a packet of a
	// connection to the first server.
	v := mustLookAt(t, filepath.Join(dir, "8000"), shards)
	count := v.counted()
	require.Subset(t, []string{"picked_least_loaded", "picked_fallback", "select_failed", "placed"}, keys(count))
	require.LessOrEqual(t, count["select_failed"], uint64(2*clients))
	uncounted := v.figures(0).Uncounted
	require.LessOrEqual(t, uncounted, min(count["select_failed"], clients))
	require.Equal(t, clients*each-uncounted, count["picked_least_loaded"]+count["picked_fallback"])
	for shard := range shards {
		f := v.figures(shard)
		require.Zero(t, f.Pending())
		require.Zero(t, f.Lost)
		require.True(t, shard == 0 || f.Uncounted == 0, "the hash had the first listener alone")
	}
	loads := v.loads()
	require.LessOrEqual(t, slices.Max(loads)-slices.Min(loads), int64(1+clients), "%d", loads)
	t.Logf("%d greeted by the first; of the second %v, loads %d", s.greeted.Load(), count, loads)
	endSecond()
	require.Empty(t, tree(t, dir))
}

func closeAll(conns [][]net.Conn) {
	for _, c := range slices.Concat(conns...) {
		c.Close()
	}
}

func keys(m map[string]uint64) (list []string) {
	for key := range m {
		list = append(list, key)
	}
	return list
}

// Another program takes the place of the one of a group whose listeners live: each
// connection is placed and counted by one of them.
func TestProgramSwap(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, clients, each, swapEvery = 4, 4, 500, 10
	for _, c := range []struct {
		name string
		// next loads the other program, which shares the sockarray.
		next func(t *testing.T, v *server, sockets *ebpf.Map) *objects
		want string // What it counts.
	}{
		{"the same maps", nextWithSlots, "picked_least_loaded"},
		{"maps of its own", nextWithMaps, "picked_weighted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := mustServe(t, shards, unpinned)
			sockets, err := v.objects.groups[0].sockets.Clone()
			require.NoError(t, err)
			next := c.next(t, v, sockets)
			programs := []*ebpf.Program{next.groups[0].program, v.objects.groups[0].program}
			attach := func(i int) error {
				return unix.SetsockoptInt(v.groups[0].FDs[i%shards], unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, programs[i%2].FD())
			}

			// The first client swaps, so that there are connects before and after each.
			conns, errs := make([][]net.Conn, clients), make([]error, clients)
			var wg sync.WaitGroup
			for client := range clients {
				wg.Go(func() {
					for i := range each {
						if client == 0 && i%swapEvery == 0 {
							errs[client] = errors.Join(errs[client], attach(i/swapEvery))
						}
						conn, err := net.Dial("tcp", v.groups[0].Address.String())
						if err != nil {
							errs[client] = errors.Join(errs[client], err)
							return
						}
						_ = conn.(*net.TCPConn).SetLinger(0)
						conns[client] = append(conns[client], conn)
					}
				})
			}
			wg.Wait()
			t.Cleanup(func() { closeAll(conns) })
			require.NoError(t, errors.Join(errs...))
			got := v.accept(clients * each)
			v.hello(slices.Concat(conns...))

			by, other := v.counted(), (&server{Steering: &Steering{objects: next}}).counted()
			require.Equal(t, []string{"picked_least_loaded"}, keys(by))
			require.Equal(t, []string{c.want}, keys(other))
			require.EqualValues(t, clients*each, by["picked_least_loaded"]+other[c.want])
			require.GreaterOrEqual(t, by["picked_least_loaded"], uint64(each/2))
			require.GreaterOrEqual(t, other[c.want], uint64(each/2))
			if next.slots == v.objects.slots {
				require.LessOrEqual(t, slices.Max(got)-slices.Min(got), 1+clients, "%d", got)
			} else { // Each keeps its own even.
				require.LessOrEqual(t, slices.Max(got)-slices.Min(got), 2*(1+clients), "%d", got)
			}
		})
	}
}

// nextWithSlots loads a program that differs in what it counts in.
func nextWithSlots(t *testing.T, v *server, sockets *ebpf.Map) *objects {
	t.Helper()
	spec, err := loadSteer()
	require.NoError(t, err)
	require.NoError(t, adapt(spec, v.options))
	delete(spec.Maps, steerMapOwner)
	next := *v.objects
	next.outcomes, err = ebpf.NewMap(spec.Maps[steerMapOutcomesV2])
	require.NoError(t, err)
	t.Cleanup(func() { next.outcomes.Close() })
	g, err := next.createGroup(spec, sockets)
	require.NoError(t, err)
	t.Cleanup(func() { g.sockets.Close(); g.program.Close() })
	next.groups = []groupObjects{g}
	return &next
}

// nextWithMaps loads what another server would, that takes the sockarray over.
func nextWithMaps(t *testing.T, v *server, sockets *ebpf.Map) *objects {
	t.Helper()
	o := v.options
	o.Values = DefaultValues(o.Shards)
	o.Values["policy"][0] = uint32(steerPolicyKindPOLICY_WEIGHTED)
	nextSpec, err := newSpec(o)
	require.NoError(t, err)
	next, err := load(nextSpec, o, func(int, *ebpf.MapSpec) *ebpf.Map { return sockets })
	require.NoError(t, err)
	t.Cleanup(next.close)
	table, err := mapTable(next.slots)
	require.NoError(t, err)
	table.slice(o.Shards)
	return next
}
