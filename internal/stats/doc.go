// Package stats holds the counters that hot code updates and a metrics scrape reads.
//
// A value has one writer or few, and any number of readers; every method may be called from any goroutine. The package
// knows nothing of Prometheus: internal/metrics turns what it finds here into metrics.
package stats
