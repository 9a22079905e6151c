package steering

import (
	"fmt"
	"maps"
	"slices"
)

// Report is what the settings are, compared with what they began with.
type Report struct {
	Changed []string // A sentence for each entry that an operator has set to something else.
	Ignored []string // A sentence for each value out of range, which does not count.
}

// Report reads the settings and compares them with what they began with. It costs
// what Values does. Any goroutine may call it.
func (s *Steering) Report() (Report, error) {
	now, err := s.Values()
	if err != nil {
		return Report{}, err
	}
	return s.Compare(now), nil
}

// Compare is Report for values that were read already.
func (s *Steering) Compare(now Values) Report {
	changed, ignored := s.compare(now)
	return Report{Changed: sorted(changed), Ignored: sorted(ignored)}
}

func sorted(by map[string]string) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(by)) {
		list = append(list, by[key])
	}
	return list
}

// compare returns a sentence for each entry that differs, and for each out of range,
// by a name of the entry.
func (s *Steering) compare(now Values) (changed, ignored map[string]string) {
	changed, ignored = make(map[string]string), make(map[string]string)
	for _, setting := range settings {
		for i, value := range now[setting.Name] {
			name, key := setting.Name, setting.Name
			if setting.PerShard {
				name, key = fmt.Sprintf("%s of shard %d", name, i), fmt.Sprintf("%s %03d", name, i)
			}
			if value > setting.Most {
				ignored[key] = fmt.Sprintf("%s is %d in its map, at most %d is in range: %s counts instead", name, value, setting.Most,
					setting.Text(setting.Instead))
			}
			if began := s.configured[setting.Name][i]; value != began {
				changed[key] = fmt.Sprintf("%s is %s, the configuration says %s", name, setting.Text(value), setting.Text(began))
			}
		}
	}
	return changed, ignored
}

// Watch looks at the settings: it logs what has changed since the last call, and lets
// shards know of a new stall_bound. Call it about once a second, always from the same
// goroutine. It does nothing where the kernel's hash chooses.
func (s *Steering) Watch() {
	if s.Status().Mode == Hash {
		return
	}
	now, err := s.Values()
	if err != nil {
		s.options.Logger.Warn("the steering settings cannot be read", "error", err)
		return
	}
	bound := settings[slices.IndexFunc(settings, func(x Setting) bool { return x.Name == steerMapStallBound })].InForce(now[steerMapStallBound][0])
	s.slots[0].table.stallBound.Store(uint64(bound) * 1e6)
	changed, ignored := s.compare(now)
	log := s.options.Logger
	seen := make(map[string]string)
	s.news(seen, "ignored ", ignored, func(text string) { log.Warn("a steering setting is out of range", "setting", text) })
	s.news(seen, "changed ", changed, func(text string) { log.Info("a steering setting was changed", "setting", text) })
	for key := range s.reported {
		if _, still := seen[key]; !still {
			log.Info("a steering setting is as configured again", "setting", key)
		}
	}
	s.reported = seen
}

// news tells of each entry that was not reported like this before, and notes all.
func (s *Steering) news(seen map[string]string, kind string, entries map[string]string, tell func(text string)) {
	for key, text := range entries {
		seen[kind+key] = text
		if s.reported[kind+key] != text {
			tell(text)
		}
	}
}
