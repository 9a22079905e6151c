package steering

import (
	"fmt"
	"net/netip"
)

// Report is the current settings, compared with the configured ones.
type Report struct {
	Values  Values   // Values in the maps, out of range or not.
	Changed []string // One sentence for each entry that differs from its configured value.
	Ignored []string // One sentence for each entry that is out of range and therefore has no effect.
}

// Report reads the settings and compares them with the configured ones. It costs as much as Values and Exempt. Any
// goroutine may call it.
func (s *Steering) Report() (Report, error) {
	now, changed, ignored, err := s.compare()
	return Report{Values: now, Changed: texts(changed), Ignored: texts(ignored)}, err
}

// remark is a sentence about one entry of a setting.
type remark struct{ entry, text string }

func texts(remarks []remark) []string {
	var list []string
	for _, r := range remarks {
		list = append(list, r.text)
	}
	return list
}

// compare reads the settings. It returns a remark on each entry that differs from its configured value, and one on each
// entry that is out of range.
func (s *Steering) compare() (now Values, changed, ignored []remark, err error) {
	if now, err = s.Values(); err != nil {
		return nil, nil, nil, err
	}
	for _, setting := range settings {
		for i, value := range now[setting.Name] {
			entry := setting.Name
			if setting.PerShard {
				entry = fmt.Sprintf("%s of shard %d", entry, i)
			}
			if value > setting.Max {
				ignored = append(ignored, remark{entry, fmt.Sprintf("%s is %d in its map, but the maximum is %d: %s "+
					"applies instead",
					entry, value, setting.Max, setting.Text(setting.Instead))})
			}
			if configured := s.configured[setting.Name][i]; value != configured {
				changed = append(changed, remark{entry, fmt.Sprintf("%s is %s, configured is %s", entry,
					setting.Text(value), setting.Text(configured))})
			}
		}
	}
	exempt, err := s.Exempt()
	return now, append(changed, s.compareExempt(exempt)...), ignored, err
}

// compareExempt returns a remark on each prefix that was added to the map or removed from it.
func (s *Steering) compareExempt(now []netip.Prefix) (changed []remark) {
	missing := make(map[netip.Prefix]bool)
	for _, p := range s.options.Exempt {
		missing[p] = true
	}
	for _, p := range now {
		if !missing[p] {
			changed = append(changed, exemptRemark(p, "%s contains %v, which is not configured"))
		}
		delete(missing, p)
	}
	for _, p := range s.options.Exempt {
		if missing[p] {
			changed = append(changed, exemptRemark(p, "%s lacks %v, which is configured"))
		}
	}
	return changed
}

func exemptRemark(p netip.Prefix, format string) remark {
	return remark{fmt.Sprintf("%s %v", steerMapSourceExempt, p), fmt.Sprintf(format, steerMapSourceExempt, p)}
}

// Watched returns how many entries differed from their configured value and how many were out of range at the last call
// of Watch. It makes no system call. Any goroutine may call it.
func (s *Steering) Watched() (changed, ignored int) {
	return int(s.watched.changed.Load()), int(s.watched.ignored.Load())
}

// Watch reads the settings and checks the pins. It logs what has changed since the last call, and passes a new
// stall_bound on to the shards. Call it about once a second, always from the same goroutine. It does nothing where the
// kernel's hash chooses.
func (s *Steering) Watch() {
	if s.Status().Mode == Hash {
		return
	}
	log := s.options.Logger
	s.watchPins()
	now, changed, ignored, err := s.compare()
	if err != nil {
		log.Warn("cannot read the steering settings", "error", err)
		return
	}
	s.setStallBound(now)
	s.watched.changed.Store(int64(len(changed)))
	s.watched.ignored.Store(int64(len(ignored)))
	s.reported.ignored = logChanges(s.reported.ignored, ignored,
		func(text string) { log.Warn("steering setting is out of range", "setting", text) },
		func(entry string) { log.Info("steering setting is in range again", "setting", entry) })
	s.reported.changed = logChanges(s.reported.changed, changed,
		func(text string) { log.Info("steering setting changed", "setting", text) },
		func(entry string) { log.Info("steering setting is as configured again", "setting", entry) })
}

// watchPins checks whether someone has removed the pins or replaced them with others.
func (s *Steering) watchPins() {
	st := s.Status()
	if st.Mode != Pinned {
		return
	}
	if ours, err := sameDir(s.pins.claim, s.pins.dir); ours || err != nil {
		return
	}
	gone := Status{Mode: Unpinned, Reason: fmt.Sprintf("the pins in %s were removed; restart wsd to restore them",
		s.pins.dir)}
	s.status.Store(&gone)
	s.options.Logger.Warn("steering without pins: bpftool can find the maps only by id", "reason", gone.Reason)
}

// logChanges calls changed with the text of each remark that is new or differs from before, and gone with each entry
// that no longer has a remark. It returns the remarks by entry, which are before of the next call.
func logChanges(before map[string]string, now []remark, changed, gone func(string)) map[string]string {
	next := make(map[string]string)
	for _, r := range now {
		next[r.entry] = r.text
		if before[r.entry] != r.text {
			changed(r.text)
		}
	}
	for entry := range before {
		if _, still := next[entry]; !still {
			gone(entry)
		}
	}
	return next
}

// setStallBound passes stall_bound on to the shards, which record the end of a turn that was longer.
func (s *Steering) setStallBound(v Values) {
	bound := v[steerMapStallBound][0]
	if bound > uint32(steerLimitSTALL_BOUND_MAX) {
		bound = 0 // As bpf/settings.h says.
	}
	s.slots[0].table.stallBound.Store(uint64(bound) * 1e6)
}
