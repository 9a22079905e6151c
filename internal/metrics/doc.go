// Package metrics exposes the counters of the other packages as Prometheus metrics. It reads them when it is scraped,
// and counts nothing itself. The table in families.go defines every metric; docs/metrics.md is generated from it.
//
// Thread rule: every function may be called from any goroutine.
package metrics
