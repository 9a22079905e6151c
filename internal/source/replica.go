package source

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// With Options.Rack, a leader may answer a fetch with the id of a replica that is nearer to us (KIP-392). The partition
// is then read from there, by the fetcher of that broker. Whatever is looked up about offsets is asked of the leader,
// and so is everything when the replica fails, does not have the position, or the leader changes.

const (
	// replicaFor is how long a replica is read before the leader is asked again which one is the nearest.
	replicaFor = 5 * time.Minute
	// leaderFor is how long a leader is read, without being asked for a nearer replica, after one has failed.
	leaderFor = 30 * time.Second
)

// readFromLocked returns the id of the broker to read p from: a replica that its leader has named, or the leader.
func (p *partition) readFromLocked(leader int32, addrs map[int32]string, now time.Time) int32 {
	if p.replica < 0 {
		return leader
	}
	if _, reachable := addrs[p.replica]; !reachable {
		p.leaveReplicaLocked(now)
	}
	if p.resolve != resolveNothing || now.After(p.replicaUntil) {
		p.replica = -1
	}
	if p.replica < 0 {
		return leader
	}
	return p.replica
}

// leaveReplicaLocked has p read from its leader from the next refresh on, because the replica is of no use.
func (p *partition) leaveReplicaLocked(now time.Time) {
	p.replica, p.leaderUntil = -1, now.Add(leaderFor)
}

// redirectLocked notes that the leader has named a replica to read p from. It reports false if it has not.
func (f *fetcher) redirectLocked(p *partition, rp *kmsg.FetchResponseTopicPartition) bool {
	to := rp.PreferredReadReplica
	if f.s.o.Rack == "" || to < 0 || to == f.id || p.replica >= 0 {
		return false
	}
	now := time.Now()
	p.replica, p.replicaUntil, p.progressAt = to, now.Add(replicaFor), now
	p.heldRefresh = f.s.refreshes // The refresh gives it to the replica's fetcher.
	f.s.kickWatcher()
	return true
}

// replicaFailedLocked has p read from its leader if f is the fetcher of another replica. It reports false if it is not.
func (f *fetcher) replicaFailedLocked(p *partition, err error) bool {
	if p.replica != f.id {
		return false
	}
	p.leaveReplicaLocked(time.Now())
	f.s.failLocked(p, err, true)
	return true
}

// leaveReplicas has the partitions that f does not read from their leader read from there.
func (s *Source) leaveReplicas(f *fetcher) {
	if s.o.Rack == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for _, p := range f.parts {
		if p.owner == f && p.replica == f.id {
			p.leaveReplicaLocked(now)
		}
	}
}
