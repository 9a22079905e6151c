package shard

import "flag"

// uncounted has nobody count how late deliveries are, so that benchmarks show what that costs:
//
//	go test -run '^$' -bench '^Benchmark(Fanout|Sparse)$' -count 10 ./internal/shard
//	go test -run '^$' -bench '^Benchmark(Fanout|Sparse)$' -count 10 ./internal/shard -uncounted
//
// Tests of what is counted fail with it.
var uncounted = flag.Bool("uncounted", false, "count no latencies of deliveries")
