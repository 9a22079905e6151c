package steering

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// What the whole program costs for a real connection, as the kernel counts it
// (BPF_ENABLE_STATS): ns/run. ns/op is a connection from dial to accept and close, of a
// storm of two clients at a time on one machine, and steering/% the program's part of it.
// Between two connections the processor's caches have seen all that a handshake needs, so
// this is several times BenchmarkChoose. With "limited" a source rate is in force too.
func BenchmarkSteer(b *testing.B) {
	testutil.RequireBPF(b)
	for _, shards := range []int{1, 7, 64, routing.ShardsMax} {
		for policy, name := range Policies() {
			benchmarkSteer(b, shards, name, func(v *server) { v.set("policy", 0, uint32(policy)) })
		}
		benchmarkSteer(b, shards, "least-loaded,limited", func(v *server) { v.set("source_rate", 0, 1_000_000) })
	}
}

func benchmarkSteer(b *testing.B, shards int, name string, set func(*server)) {
	b.Run(fmt.Sprintf("shards=%d/policy=%s", shards, name), func(b *testing.B) {
		v := mustServe(b, shards, unpinned)
		set(v)
		stats := mustStats(b)
		defer stats.Close()
		program := v.objects.groups[0].program
		b.ResetTimer()
		before, err := program.Stats()
		require.NoError(b, err)
		const batch = 200
		for n := 0; n < b.N; n += batch {
			conns := v.dial(0, batch, 2)
			for shard, n := range v.accept(batch) {
				v.end(shard, n)
			}
			for _, c := range conns {
				c.Close()
			}
		}
		after, err := program.Stats()
		require.NoError(b, err)
		spent := float64(after.Runtime - before.Runtime)
		b.ReportMetric(spent/float64(after.RunCount-before.RunCount), "ns/run")
		b.ReportMetric(100*spent/float64(b.Elapsed().Nanoseconds()), "steering/%")
	})
}
