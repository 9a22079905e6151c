package tidy

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// readsStatistic is a counter of a Stats that is read.
var readsStatistic = regexp.MustCompile(`\b(?:stats|st|Stats\(\))\.(\w+)(?:\[[^]]*\])?\.Load\(\)`)

// shown are the places that may read a counter because they only show it, or compare it with itself.
var shown = []string{
	"internal/shard/loop.go TurnMaxNanos",         // The maximum so far.
	"internal/shard/crash.go Turns",               // A log line.
	"internal/shard/recall.go Subscriptions",      // A log line.
	"internal/source/status.go LeftOut",           // Shown by /health.
	"internal/server/health.go Connections",       // The same.
	"internal/server/health.go Clients",           //
	"internal/server/health.go Subscriptions",     //
	"internal/server/health.go Deliveries",        //
	"internal/server/server.go Clients",           // A log line at the end.
	"internal/server/apibackend.go Clients",       // Shown by the method info.
	"internal/server/apibackend.go Subscriptions", //
}

// A counter that metrics read decides nothing (invariant 16): who needs the figure has state of its own.
func TestStatisticsDecideNothing(t *testing.T) {
	for _, name := range files(t) {
		if filepath.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") || !strings.HasPrefix(name, "internal/") ||
			strings.HasPrefix(name, "internal/metrics/") {
			continue
		}
		for _, m := range readsStatistic.FindAllStringSubmatch(string(content(t, name)), -1) {
			if !slices.Contains(shown, name+" "+m[1]) {
				t.Errorf("%s reads the counter %s: let its owner keep state for that", name, m[1])
			}
		}
	}
}
