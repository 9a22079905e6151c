package metrics

import (
	"strconv"
	"strings"
	"sync"

	"wsd/internal/routing"
	"wsd/internal/steering"
)

func (o Options) steering() []family {
	slot := func(name, help string, k kind, value func(steering.Figures) float64) family {
		return family{name: name, help: help, kind: k, labels: []string{"shard"},
			values: func(emit func(float64, ...string)) {
				for i := range o.Shards {
					emit(value(o.Steering.Slot(routing.ShardID(i)).Figures()), strconv.Itoa(i))
				}
			}}
	}
	outcomes := sync.OnceValues(o.Steering.Outcomes)
	return []family{
		{
			name: "wsd_steering_mode", help: "1 for the current mode: ebpf-pinned, ebpf or hash.",
			labels: []string{"mode"},
			values: func(emit func(float64, ...string)) {
				for _, mode := range []string{steering.Pinned, steering.Unpinned, steering.Hash} {
					emit(boolean(o.Steering.Status().Mode == mode), mode)
				}
			},
		},
		slot("wsd_steering_picks_total", "SYNs for which the program chose the shard.", counter,
			func(f steering.Figures) float64 { return float64(f.Picked) }),
		slot("wsd_steering_migrated_total", "Connections moved to the shard because their listener was closed before "+
			"it accepted them.", counter,
			func(f steering.Figures) float64 { return float64(f.Migrated) }),
		slot("wsd_steering_uncounted_total", "Accepted connections the program had not assigned: because of a SYN "+
			"cookie, the kernel's own hash, or because the assignment had already been written off as lost.", counter,
			func(f steering.Figures) float64 { return float64(f.Uncounted) }),
		slot("wsd_steering_lost_total", "Picks written off because they had not become a connection after two "+
			"seconds. If one still does, it counts as uncounted.", counter,
			func(f steering.Figures) float64 { return float64(f.Lost) }),
		slot("wsd_steering_load", "Load that the program compares: open and pending connections.", gauge,
			func(f steering.Figures) float64 { return float64(f.Load()) }),
		slot("wsd_steering_pending", "Pending connections of the shard: picked, but not accepted yet.", gauge,
			func(f steering.Figures) float64 { return float64(f.Pending()) }),
		{
			name: "wsd_steering_outcomes_total", help: "Runs of the program, by outcome " +
				"(docs/steering-reference.md explains each).", kind: counter,
			labels: []string{"outcome"}, values: func(emit func(float64, ...string)) {
				ends, _ := outcomes()
				emitCounters(emit, ends)
			},
		},
		{
			name: "wsd_steering_refused_total", help: "SYNs refused in the kernel, by reason.", kind: counter,
			labels: []string{"reason"},
			values: func(emit func(float64, ...string)) {
				ends, _ := outcomes()
				for _, c := range ends {
					if reason, ok := strings.CutPrefix(c.Name, "refused_"); ok {
						emit(float64(c.Count), reason)
					}
				}
			},
		},
		{
			name: "wsd_steering_notes_total", help: "Conditions that runs of the program met, whatever their outcome " +
				"(docs/steering-reference.md explains each).", kind: counter,
			labels: []string{"note"}, values: func(emit func(float64, ...string)) {
				_, notes := outcomes()
				emitCounters(emit, notes)
			},
		},
		{
			name: "wsd_steering_settings_changed", help: "Entries of steering settings that differ from the " +
				"configuration.",
			values: func(emit func(float64, ...string)) { changed, _ := o.Steering.Watched(); emit(float64(changed)) },
		},
		{
			name: "wsd_steering_settings_ignored", help: "Entries of steering settings that are out of range and " +
				"therefore have no effect.",
			values: func(emit func(float64, ...string)) { _, ignored := o.Steering.Watched(); emit(float64(ignored)) },
		},
	}
}

func emitCounters(emit func(float64, ...string), counters []steering.Counter) {
	for _, c := range counters {
		emit(float64(c.Count), c.Name)
	}
}
