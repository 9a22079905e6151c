package server

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"wsd/internal/control"
	"wsd/internal/epoll"
	"wsd/internal/routing"
	"wsd/internal/steering"
)

// SteerState returns how new connections are assigned to shards, for `wsd steer`. It costs one system call for each
// value of a setting. Any goroutine may call it.
func (s *Server) SteerState() (control.SteerState, error) {
	now, err := s.steering.Values()
	if err != nil {
		return control.SteerState{}, err
	}
	exempt, err := s.steering.Exempt()
	if err != nil {
		return control.SteerState{}, err
	}
	own, err := s.steering.Admission()
	if err != nil {
		return control.SteerState{}, err
	}
	st := s.steering.Status()
	state := control.SteerState{
		Mode: st.Mode, Reason: st.Reason, PinPath: st.PinPath, Policy: policyInForce(st, now), AdmissionWsd: own,
		Exempt: []string{},
	}
	for _, p := range exempt {
		state.Exempt = append(state.Exempt, p.String())
	}
	state.Settings = steerSettings(now, s.steering.Configured())
	state.Shards = s.steerShards(now)
	ends, notes := s.steering.Outcomes()
	state.Ends, state.Notes = steerCounts(ends), steerCounts(notes)
	return state, nil
}

// policyInForce returns the name of the policy that applies.
func policyInForce(st steering.Status, now steering.Values) string {
	if st.Mode == steering.Hash {
		return "hash"
	}
	return steering.Policies()[inForce(now, "policy", 0)]
}

// inForce returns the value that applies for an entry of a setting.
func inForce(now steering.Values, name string, entry int) uint32 {
	setting, err := steering.SettingNamed(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return setting.InForce(now[name][entry])
}

func steerSettings(now, configured steering.Values) (list []control.SteerSetting) {
	for _, setting := range steering.AllSettings() {
		for i, value := range now[setting.Name] {
			initial, applied := configured[setting.Name][i], setting.InForce(value)
			entry := control.SteerSetting{
				Name: setting.Name, Value: value, Text: setting.Text(value), Configured: setting.Text(initial),
				InForce: setting.Text(applied),
				Changed: value != initial, Ignored: value != applied,
			}
			if setting.PerShard {
				entry.Shard = &i
			}
			list = append(list, entry)
		}
	}
	return list
}

func (s *Server) steerShards(now steering.Values) []control.SteerShard {
	clock := sinceBoot(epoll.Monotonic())
	stallBound := time.Duration(inForce(now, "stall_bound", 0)) * time.Millisecond
	ramp := time.Duration(inForce(now, "ramp", 0)) * time.Millisecond
	pendingMax := int64(inForce(now, "pending_max", 0))
	list := make([]control.SteerShard, len(s.shards))
	for i := range list {
		f := s.steering.Slot(routing.ShardID(i)).Figures()
		open := int64(f.Accepted - f.Closed) //nolint:gosec // They may have been read at two moments.
		list[i] = control.SteerShard{
			ID: i, Connections: max(0, open), Load: f.Load(), Pending: f.Pending(),
			Picked: f.Picked, Migrated: f.Migrated, Accepted: f.Accepted, Closed: f.Closed, Uncounted: f.Uncounted,
			Lost:   f.Lost,
			Weight: inForce(now, "weight", i), Drain: inForce(now, "drain", i) != 0, Draining: f.Draining,
			Full: pendingMax > 0 && f.Pending() > pendingMax,
		}
		stalled, ramping := stallOf(f, clock, stallBound, ramp)
		list[i].StalledFor, list[i].Ramping = stalled.Seconds(), ramping
	}
	return list
}

// sinceBoot returns a time of CLOCK_MONOTONIC in nanoseconds.
func sinceBoot(nanos uint64) time.Duration { return time.Duration(nanos) } //nolint:gosec // Below 292 years.

// stallOf returns how long a shard's current turn has taken if that is a stall, else 0. ramping reports whether its
// last stall ended less than ramp ago. clock is CLOCK_MONOTONIC.
func stallOf(f steering.Figures, clock, stallBound, ramp time.Duration) (stalled time.Duration, ramping bool) {
	if busy := clock - sinceBoot(f.BusySince); f.BusySince != 0 && stallBound > 0 && busy > stallBound {
		return busy, false
	}
	return 0, f.StalledUntil != 0 && clock-sinceBoot(f.StalledUntil) < ramp
}

func steerCounts(counters []steering.Counter) []control.SteerCount {
	list := make([]control.SteerCount, len(counters))
	for i, c := range counters {
		list[i] = control.SteerCount{Name: c.Name, Count: c.Count}
	}
	return list
}

// Steer changes a setting for `wsd steer`, until wsd ends. Any goroutine may call it.
func (s *Server) Steer(change control.SteerChange) error {
	setting, shard, value, err := readChange(change, len(s.shards))
	if err != nil {
		return &control.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	err = s.steering.Set(setting, shard, value)
	if errors.Is(err, steering.ErrNotSteering) {
		return &control.Refusal{Status: http.StatusConflict, Text: fmt.Sprintf("%v: %s", err,
			s.steering.Status().Reason)}
	}
	return err
}

// readChange parses and checks a change.
func readChange(change control.SteerChange, shards int) (setting steering.Setting, shard routing.ShardID, value uint32,
	err error) {
	if setting, err = steering.SettingNamed(change.Setting); err != nil {
		return setting, 0, 0, err
	}
	switch {
	case !setting.PerShard && change.Shard != nil:
		return setting, 0, 0, fmt.Errorf("%s of shard %d: all shards share one %s, so name no shard", setting.Name,
			*change.Shard, setting.Name)
	case setting.PerShard && change.Shard == nil:
		return setting, 0, 0, fmt.Errorf("%s: each shard has its own; name a shard from 0 to %d", setting.Name,
			shards-1)
	case setting.PerShard && (*change.Shard < 0 || *change.Shard >= shards):
		return setting, 0, 0, fmt.Errorf("%s of shard %d: the shard must be from 0 to %d", setting.Name, *change.Shard,
			shards-1)
	case setting.PerShard:
		shard = routing.ShardID(*change.Shard) //nolint:gosec // It was checked.
	}
	value, err = setting.Parse(change.Value)
	return setting, shard, value, err
}
