// Package metrics turns what the other packages count into Prometheus metrics. It reads atomics when it is scraped and keeps no
// figure of its own; docs/metrics.md lists every metric, made from the table in families.go.
//
// Thread rule: everything may be called from any goroutine.
package metrics
