package steering

import (
	"fmt"
	"net/netip"
)

// Report is what the settings are, compared with what they began with.
type Report struct {
	Values  Values
	Changed []string // A sentence for each entry that an operator has set to something else.
	Ignored []string // A sentence for each value out of range, which does not count.
}

// Report reads the settings and compares them with what they began with. It costs
// what Values and Exempt do. Any goroutine may call it.
func (s *Steering) Report() (Report, error) {
	now, changed, ignored, err := s.compare()
	return Report{Values: now, Changed: texts(changed), Ignored: texts(ignored)}, err
}

// remark is what there is to say of one entry.
type remark struct{ entry, text string }

func texts(remarks []remark) []string {
	var list []string
	for _, r := range remarks {
		list = append(list, r.text)
	}
	return list
}

// compare reads the settings and remarks on each entry that differs from what it
// began with, and on each that is out of range.
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
			if value > setting.Most {
				ignored = append(ignored, remark{entry, fmt.Sprintf("%s is %d in its map, at most %d is in range: %s counts instead",
					entry, value, setting.Most, setting.Text(setting.Instead))})
			}
			if began := s.configured[setting.Name][i]; value != began {
				changed = append(changed, remark{entry, fmt.Sprintf("%s is %s, the configuration says %s", entry, setting.Text(value), setting.Text(began))})
			}
		}
	}
	exempt, err := s.Exempt()
	return now, append(changed, s.compareExempt(exempt)...), ignored, err
}

// compareExempt remarks on each prefix that was added or removed.
func (s *Steering) compareExempt(now []netip.Prefix) (changed []remark) {
	began := make(map[netip.Prefix]bool)
	for _, p := range s.options.Exempt {
		began[p] = true
	}
	for _, p := range now {
		if !began[p] {
			changed = append(changed, exemptRemark(p, "%s has %v, the configuration has not"))
		}
		delete(began, p)
	}
	for _, p := range s.options.Exempt {
		if began[p] {
			changed = append(changed, exemptRemark(p, "%s lacks %v, which the configuration has"))
		}
	}
	return changed
}

func exemptRemark(p netip.Prefix, format string) remark {
	return remark{fmt.Sprintf("%s %v", steerMapSourceExempt, p), fmt.Sprintf(format, steerMapSourceExempt, p)}
}

// Watched returns how many entries differed from what they began with, and how many
// were out of range, when Watch last looked. It costs nothing. Any goroutine may call
// it.
func (s *Steering) Watched() (changed, ignored int) {
	return int(s.watched.changed.Load()), int(s.watched.ignored.Load())
}

// Watch looks at the settings and the pins: it logs what has changed since the last
// call, and lets shards know of a new stall_bound. Call it about once a second,
// always from the same goroutine. It does nothing where the kernel's hash chooses.
func (s *Steering) Watch() {
	if s.Status().Mode == Hash {
		return
	}
	log := s.options.Logger
	s.watchPins()
	now, changed, ignored, err := s.compare()
	if err != nil {
		log.Warn("the steering settings cannot be read", "error", err)
		return
	}
	s.setStallBound(now)
	s.watched.changed.Store(int64(len(changed)))
	s.watched.ignored.Store(int64(len(ignored)))
	s.reported.ignored = news(s.reported.ignored, ignored,
		func(text string) { log.Warn("a steering setting is out of range", "setting", text) },
		func(entry string) { log.Info("a steering setting is in range again", "setting", entry) })
	s.reported.changed = news(s.reported.changed, changed,
		func(text string) { log.Info("a steering setting was changed", "setting", text) },
		func(entry string) { log.Info("a steering setting is as configured again", "setting", entry) })
}

// watchPins notices that somebody has removed the pins, or put others in their place.
func (s *Steering) watchPins() {
	st := s.Status()
	if st.Mode != Pinned {
		return
	}
	if ours, err := sameDir(s.pins.claim, s.pins.dir); ours || err != nil {
		return
	}
	gone := Status{Mode: Unpinned, Reason: fmt.Sprintf("the pins in %s were removed: start wsd again to have them back", s.pins.dir)}
	s.status.Store(&gone)
	s.options.Logger.Warn("steering without pins: bpftool finds the maps by id only", "reason", gone.Reason)
}

// news tells of each remark that is new or another, and of each entry that there is
// no remark on any more. It returns what to call it with the next time.
func news(before map[string]string, now []remark, tell, tellGone func(string)) map[string]string {
	next := make(map[string]string)
	for _, r := range now {
		next[r.entry] = r.text
		if before[r.entry] != r.text {
			tell(r.text)
		}
	}
	for entry := range before {
		if _, still := next[entry]; !still {
			tellGone(entry)
		}
	}
	return next
}

// setStallBound lets shards know what they are to call a stall.
func (s *Steering) setStallBound(v Values) {
	bound := v[steerMapStallBound][0]
	if bound > uint32(steerLimitSTALL_BOUND_MAX) {
		bound = 0 // As bpf/settings.h says.
	}
	s.slots[0].table.stallBound.Store(uint64(bound) * 1e6)
}
