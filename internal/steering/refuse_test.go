package steering

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/testutil"
)

// try dials n times, one after the other, from a source address of 127.0.0.0/8 unless
// it is empty, and returns how many were refused. What is not refused stays open.
func (v *server) try(n int, source string) (refused int) {
	v.tb.Helper()
	d := net.Dialer{}
	if source != "" {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(source), 0))
	}
	for range n {
		c, err := d.DialContext(v.tb.Context(), "tcp", v.groups[0].Address.String())
		if err != nil {
			require.ErrorIs(v.tb, err, unix.ECONNREFUSED)
			refused++
			continue
		}
		v.tb.Cleanup(func() { c.Close() })
	}
	return refused
}

func TestAdmission(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, unpinned)
	require.Zero(t, v.try(20, ""))
	v.set("admission", 0, 100)
	require.Equal(t, 20, v.try(20, ""))
	require.EqualValues(t, 20, v.counted()["refused_admission"])
	v.set("admission_dry_run", 0, 1)
	require.Zero(t, v.try(20, ""))
	require.EqualValues(t, 20, v.counted()["dry_run_admission"])
	v.set("admission_dry_run", 0, 0)

	// wsd's own level is apart, and the stricter holds.
	v.set("admission", 0, 0)
	require.NoError(t, v.SetAdmission(100))
	require.Equal(t, 10, v.try(10, ""))
	require.NoError(t, v.SetAdmission(0))

	// A server that refuses everybody does so whatever its level is meanwhile.
	require.NoError(t, v.Refuse(true))
	require.NoError(t, v.SetAdmission(10))
	require.Equal(t, 10, v.try(10, ""))
	require.NoError(t, v.Refuse(false))
	level, err := v.Admission()
	require.NoError(t, err)
	require.EqualValues(t, 10, level)
	require.NoError(t, v.SetAdmission(0))
	require.Zero(t, v.try(20, ""))

	v.set("admission", 0, 50)
	require.InDelta(t, 200, v.try(400, ""), 60, "six times the standard deviation")
	require.NoError(t, v.SetAdmission(20))
	require.InDelta(t, 200, v.try(400, ""), 60)
	require.NoError(t, v.SetAdmission(90))
	require.InDelta(t, 180, v.try(200, ""), 26)
}

// What waits to be accepted survives its listener, although all accept queues are full
// and nobody new may come.
func TestMigrateWhileClosed(t *testing.T) {
	testutil.RequireBPF(t)
	const shards, queue = 4, 500
	v := mustServeBacklog(t, shards, unpinned, queue-1, func(*Options) {}) // A queue holds one more than its backlog.
	clients := v.dial(0, shards*queue, 2)
	for shard := range shards {
		require.EqualValues(t, queue, v.acceptQueue(shard))
	}
	v.set("admission", 0, 100)
	v.set("source_rate", 0, 1)
	v.Slot(2).SetDraining(true)
	v.closeListener(2)
	require.Equal(t, 5, v.try(5, ""))
	got := v.accept(shards * queue)
	v.hello(clients)
	require.Zero(t, got[2])
	count := v.counted()
	require.EqualValues(t, queue, count["migrated"])
	require.Zero(t, count["select_failed"])
	for _, shard := range []int{0, 1, 3} {
		require.InDelta(t, shards*queue/3.0, got[shard], 1, "%d", got)
	}
}

func TestSourceRate(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServeWith(t, 2, unpinned, func(o *Options) {
		o.Values["source_rate"][0], o.Values["source_burst"][0] = 1, 5
		o.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.7.0/24"), netip.MustParsePrefix("fd00::/8")}
	})
	exempt, err := v.Exempt()
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.7.0/24"), netip.MustParsePrefix("fd00::/8")}, exempt)

	// A burst, then one a second; each source has its own bucket.
	for _, source := range []string{"127.0.0.2", "127.0.0.3"} {
		require.InDelta(t, 15, v.try(20, source), 1, "%s: a second may pass meanwhile", source)
	}
	require.Zero(t, v.try(20, "127.0.7.9"), "exempt")
	require.InDelta(t, 30, v.counted()["refused_source"], 2)

	// Shorter prefixes put sources together.
	v.set("source_prefix4", 0, 24)
	require.InDelta(t, 1, v.try(3, "127.0.1.1")+v.try(3, "127.0.1.2"), 1)
	require.InDelta(t, 3, v.try(3, "127.0.1.3"), 1)

	v.set("source_dry_run", 0, 1)
	require.Zero(t, v.try(20, "127.0.0.2"))
	require.NotZero(t, v.counted()["dry_run_source"])
	v.set("source_dry_run", 0, 0)
	v.set("source_rate", 0, 0)
	require.Zero(t, v.try(20, "127.0.0.2"))

	// Without a burst of its own a source may bring as many as the rate at once.
	v.set("source_rate", 0, 3)
	v.set("source_burst", 0, 0)
	require.InDelta(t, 7, v.try(10, "127.0.9.4"), 1)
}

func TestSourceRateIPv6(t *testing.T) {
	home, peer := testutil.NewNetNS(t), testutil.NewNetNS(t)
	testutil.Link(t, home, peer, "fd99::/64")
	home.Route("2001:db8::/32", "fd99::2")
	v := mustServeIn(t, home, 2, "[fd99::1]:0")
	v.set("source_rate", 0, 1)
	v.set("source_burst", 0, 10)
	// 1000 addresses of one /64 are one source; of 100 /64 each has its burst.
	flood := func(prefix string, n, count int) uint64 {
		before := v.counted()["refused_source"]
		_, err := peer.Flood(t.Context(), v.groups[0].Address, count, testutil.Sources(t, prefix, n))
		require.NoError(t, err)
		return v.counted()["refused_source"] - before
	}
	require.InDelta(t, 990, flood("2001:db8:1::/64", 1000, 1000), 3)
	v.set("source_prefix6", 0, 128)
	require.Zero(t, flood("2001:db8:2::/64", 1000, 1000))
	require.InDelta(t, 1000, flood("2001:db8:2::/64", 10, 1100), 30, "each has had one of ten")
}

// More sources than are remembered: nobody is refused for that, and who comes often
// is limited all the same.
func TestSourcesExhausted(t *testing.T) {
	home, peer := testutil.NewNetNS(t), testutil.NewNetNS(t)
	testutil.Link(t, home, peer, "10.99.0.0/24")
	home.Route("198.18.0.0/15", "10.99.0.2")
	var v *server
	require.NoError(t, home.Do(func() error {
		v = mustServeWith(t, 2, unpinned, func(o *Options) {
			o.SourcesMax = 1024
			o.Values["source_rate"][0], o.Values["source_burst"][0] = 1, 2
		}, "10.99.0.1:0")
		return nil
	}))
	sent, err := peer.Flood(t.Context(), v.groups[0].Address, 60_000, testutil.Sources(t, "198.18.0.0/16", 60_000))
	require.NoError(t, err)
	count := v.counted()
	require.Zero(t, count["refused_source"])
	require.Greater(t, count["picked_least_loaded"]+count["picked_fallback"], uint64(sent*9/10), "all, but for what the link lost")
	clients := 0
	for range 10 {
		c, err := peer.Dial(t.Context(), "tcp", v.groups[0].Address.String())
		if err == nil {
			c.Close()
			clients++
			continue
		}
		require.ErrorIs(t, err, unix.ECONNREFUSED)
	}
	require.InDelta(t, 2, clients, 1)
	require.NotZero(t, v.counted()["refused_source"])
}

// What was charged by other settings than those in force is forgotten, rather than
// held against a source for as long as those would have.
func TestSourceRateChanged(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, unpinned)
	v.set("source_rate", 0, 1)
	v.set("source_burst", 0, 1000)
	require.Zero(t, v.try(300, "127.0.0.2"))
	v.set("source_burst", 0, 10)
	v.set("source_rate", 0, 1000)
	require.Zero(t, v.try(5, "127.0.0.2"), "it would have been refused for 300 s")
	v.set("source_rate", 0, 1)
	require.NotZero(t, v.try(30, "127.0.0.2"), "and is limited by the new ones")
}
