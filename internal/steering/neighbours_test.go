package steering

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/listen"
	"wsd/internal/testutil"
)

// connect tells whether a server takes a connection.
func connect(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	return c.Close()
}

// Two servers on different ports share a directory, and nothing else.
func TestNeighbours(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	a := mustServe(t, 2, dir)
	b := mustServeWith(t, 3, dir, func(o *Options) {
		o.Port, o.Values["policy"][0] = 8001, uint32(steerPolicyKindPOLICY_WEIGHTED)
	})
	require.Equal(t, Status{Mode: Pinned, PinPath: filepath.Join(dir, "8000")}, a.Status())
	require.Equal(t, Status{Mode: Pinned, PinPath: filepath.Join(dir, "8001")}, b.Status())
	require.Empty(t, append(a.log.all(), b.log.all()...))
	for name := range tree(t, a.Status().PinPath) {
		require.NotEqual(t, mapID(t, filepath.Join(a.Status().PinPath, name)), mapID(t, filepath.Join(b.Status().PinPath, name)), name)
	}

	mustPut(t, filepath.Join(a.Status().PinPath, "policy"), 0, uint32(steerPolicyKindPOLICY_P2C))
	mustPut(t, filepath.Join(a.Status().PinPath, "drain"), 1, 1)
	mustPut(t, filepath.Join(b.Status().PinPath, "weight"), 0, 200)
	a.dial(0, 10, 1)
	require.Equal(t, []int{10, 0}, a.accept(10))
	require.Equal(t, []int64{0, 0, 0}, b.loads())
	require.Empty(t, b.counted())
	b.dial(0, 40, 1)
	require.Equal(t, []int{20, 10, 10}, b.accept(40))
	require.Equal(t, []int64{10, 0}, a.loads())
	require.Equal(t, map[string]uint64{"picked_weighted": 40}, b.counted())
	for _, c := range []struct {
		v    *server
		want string
	}{{a, "policy is p2c"}, {b, "weight of shard 0 is 200"}} {
		report, err := c.v.Report()
		require.NoError(t, err)
		require.Contains(t, fmt.Sprint(report.Changed), c.want)
	}
	mustPut(t, filepath.Join(a.Status().PinPath, "admission"), 0, 100)
	require.Equal(t, 3, a.try(3, ""))
	require.Zero(t, b.try(3, ""))
	b.accept(3)

	// One ends, and comes again.
	before := tree(t, b.Status().PinPath)
	require.NoError(t, a.Close())
	require.NoDirExists(t, filepath.Join(dir, "8000"))
	require.Equal(t, before, tree(t, b.Status().PinPath))
	require.NoError(t, connect(b.groups[0].Address.String()))
	again := mustServe(t, 2, dir)
	require.Equal(t, Pinned, again.Status().Mode)
	require.Equal(t, []uint32{0}, again.Configured()["admission"])
	again.steers()
	require.Equal(t, before, tree(t, b.Status().PinPath))
}

// Servers that start at once do not wait for each other's programs, and the first to
// publish has the pins.
func TestStartTogether(t *testing.T) {
	testutil.RequireBPF(t)
	dir := testutil.BPFFS(t)
	load := func(port int) (*Steering, *lines) {
		log := &lines{}
		o := testOptions(2, dir, log)
		o.Port = port
		s, err := New(o)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		return s, log
	}
	slow, _ := load(8000)
	neighbour := mustServeWith(t, 2, dir, func(o *Options) { o.Port = 8001 })
	require.Equal(t, Pinned, neighbour.Status().Mode, neighbour.Status().Reason)
	faster, _ := load(8000) // In another network namespace it could be.
	faster.Publish(8000)
	require.Equal(t, Pinned, faster.Status().Mode, faster.Status().Reason)
	before, id := tree(t, dir), mapID(t, filepath.Join(dir, "8000", "slots_v2"))
	slow.Publish(8000)
	require.Equal(t, Unpinned, slow.Status().Mode)
	require.Contains(t, slow.Status().Reason, "in use by pid ")
	require.NoError(t, slow.Close())
	require.Equal(t, before, tree(t, dir))
	require.Equal(t, id, mapID(t, filepath.Join(dir, "8000", "slots_v2")))
	require.NoError(t, faster.Close())

	// The same where an owner has died: who takes its sockarrays over replaces it.
	dead, end := mustServeAlone(t, alone{PinDir: dir, PinGroup: -1, Shards: 2, Address: "127.0.0.1:0"}, mortal...)
	mustDie(t, dead, end)
	heir, log := load(8000)
	late, _ := load(8000)
	late.Publish(8000)
	require.Equal(t, Unpinned, late.Status().Mode)
	require.DirExists(t, filepath.Join(dir, "8000"))
	heir.Publish(8000)
	require.Equal(t, Pinned, heir.Status().Mode, heir.Status().Reason)
	require.Contains(t, log.all()[0], fmt.Sprintf("pid %d in", dead.PID))
	require.NoError(t, heir.Close())

	// What it found is removed by hand, and another server pins before it does.
	dead, end = mustServeAlone(t, alone{PinDir: dir, PinGroup: -1, Shards: 2, Address: "127.0.0.1:0"}, mortal...)
	mustDie(t, dead, end)
	slow, _ = load(8000)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "8000")))
	faster, _ = load(8000)
	faster.Publish(8000)
	require.Equal(t, Pinned, faster.Status().Mode, faster.Status().Reason)
	id = mapID(t, filepath.Join(dir, "8000", "slots_v2"))
	slow.Publish(8000)
	require.Equal(t, Unpinned, slow.Status().Mode)
	require.Equal(t, id, mapID(t, filepath.Join(dir, "8000", "slots_v2")))
}

// Two servers on one port in different network namespaces, as containers have it.
func TestNamespaces(t *testing.T) {
	testutil.RequireBPF(t)
	const address = "127.0.0.1:8000"
	serve := func(ns *testutil.NetNS, dir string) (v *server) {
		require.NoError(t, ns.Do(func() error {
			v = mustServe(t, 2, dir, address)
			return nil
		}))
		return v
	}
	steers := func(ns *testutil.NetNS, v *server) {
		t.Helper()
		require.NoError(t, ns.Do(func() error {
			require.Zero(t, v.try(6, ""))
			return nil
		}))
		require.Equal(t, []int{3, 3}, v.accept(6))
		require.Equal(t, map[string]uint64{"picked_least_loaded": 6}, v.counted())
	}

	t.Run("a directory each", func(t *testing.T) {
		home, away := testutil.NewNetNS(t), testutil.NewNetNS(t)
		first, second := serve(home, testutil.BPFFS(t)), serve(away, testutil.BPFFS(t))
		require.Equal(t, Pinned, first.Status().Mode)
		require.Equal(t, Pinned, second.Status().Mode)
		steers(away, second)
		require.Empty(t, first.counted())
		steers(home, first)
	})
	t.Run("one directory", func(t *testing.T) {
		home, away := testutil.NewNetNS(t), testutil.NewNetNS(t)
		dir := testutil.BPFFS(t)
		var first childReport
		var inode uint64
		require.NoError(t, home.Do(func() error {
			inode = netns(t)
			first, _ = mustServeAlone(t, alone{PinDir: dir, PinGroup: -1, Shards: 2, Address: address})
			return nil
		}))
		require.Equal(t, Pinned, first.Status.Mode)
		before, id := tree(t, dir), mapID(t, filepath.Join(dir, "8000", "slots_v2"))
		second := serve(away, dir)
		require.Equal(t, Unpinned, second.Status().Mode)
		require.Contains(t, second.Status().Reason, fmt.Sprintf("in use by pid %d in network namespace %d", first.PID, inode))
		require.Len(t, second.log.all(), 1)
		steers(away, second)
		require.NoError(t, second.Close())
		require.Equal(t, before, tree(t, dir))
		require.Equal(t, id, mapID(t, filepath.Join(dir, "8000", "slots_v2")))
		require.NoError(t, home.Do(func() error { return connect(address) }))
	})
}

// Whatever the addresses: one load, one level of admission, one bucket for a source.
func TestFamilies(t *testing.T) {
	testutil.RequireBPF(t)
	const shards = 3
	for _, c := range []struct {
		name      string
		addresses []string
		hosts     []string // Of a wildcard.
	}{
		{"IPv4", []string{"127.0.0.1:0"}, nil},
		{"IPv6", []string{"[::1]:0"}, nil},
		{"both by a wildcard", []string{":0"}, []string{"127.0.0.1", "::1"}},
		{"several", []string{"127.0.0.1:0", "[::1]:0", "127.0.0.2:0"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := mustServe(t, shards, unpinned, c.addresses...)
			var targets []netip.AddrPort
			for _, g := range v.groups {
				targets = append(targets, g.Address)
			}
			if c.hosts != nil {
				targets = nil
				for _, host := range c.hosts {
					targets = append(targets, netip.AddrPortFrom(netip.MustParseAddr(host), v.groups[0].Address.Port()))
				}
			}
			refused := func(target netip.AddrPort, n int) int {
				source := "127.0.0.1"
				if target.Addr().Is6() {
					source = "::1"
				}
				return (&server{tb: t, groups: []listen.Group{{Address: target}}}).try(n, source)
			}

			for range 2 * shards {
				for _, target := range targets {
					require.Zero(t, refused(target, 1))
				}
			}
			n := 2 * len(targets)
			require.Equal(t, []int{n, n, n}, v.accept(shards*n))
			require.Equal(t, map[string]uint64{"picked_least_loaded": uint64(shards * n)}, v.counted())
			for shard := range shards {
				require.Zero(t, v.figures(shard).Uncounted)
			}

			v.set("admission", 0, 100)
			for _, target := range targets {
				require.Equal(t, 4, refused(target, 4), "%v", target)
			}
			require.EqualValues(t, 4*len(targets), v.counted()["refused_admission"])
			v.set("admission", 0, 0)

			v.set("source_rate", 0, 1)
			v.set("source_burst", 0, 2)
			limited := func(is6 bool) (admitted int) {
				for _, target := range targets {
					if target.Addr().Is6() == is6 {
						admitted += 20 - refused(target, 20)
					}
				}
				return admitted
			}
			for _, is6 := range []bool{false, true} {
				if first := limited(is6); first > 0 { // Else there is no such address.
					require.InDelta(t, 4, first, 2, "seconds may pass meanwhile")
				}
			}
			require.NotZero(t, v.counted()["refused_source"])
			require.NoError(t, writeExempt(v.objects.exempt, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}))
			for _, target := range targets {
				got := refused(target, 20)
				if target.Addr().Is4() {
					require.Zero(t, got, "%v", target)
				} else {
					require.Greater(t, got, 10, "%v", target)
				}
			}
			require.NoError(t, writeExempt(v.objects.exempt, []netip.Prefix{netip.MustParsePrefix("::1/128")}))
			for _, target := range targets {
				require.Zero(t, refused(target, 20), "%v", target)
			}
		})
	}
}
