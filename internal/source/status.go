package source

import (
	"slices"
	"sync"
	"time"
)

// TopicState is how a configured topic was found at the last look.
type TopicState string

// The states of a topic.
const (
	TopicUnknown TopicState = "unknown" // The cluster has not been asked yet.
	TopicPresent TopicState = "present"
	TopicMissing TopicState = "missing" // Does not exist, or no more; it is read from its beginning when it appears.
	TopicFailed  TopicState = "failed"  // The cluster answered with an error, such as a missing permission.
)

// TopicStatus is a topic as the cluster last described it.
type TopicStatus struct {
	Name       string            `json:"name"`
	Found      bool              `json:"found"` // By a pattern: that it is missing is no fault.
	State      TopicState        `json:"state"`
	Error      string            `json:"error,omitempty"`
	Current    bool              `json:"current"` // Every partition can be read, and was to its end at its last fetch.
	Partitions []PartitionStatus `json:"partitions"`
}

// PartitionStatus is where one partition stands.
type PartitionStatus struct {
	Partition     int32  `json:"partition"`
	Leader        int32  `json:"leader"`   // Broker id; -1: none known.
	Position      int64  `json:"position"` // Next Kafka offset to be read; -1 before the first one is known.
	HighWatermark int64  `json:"high_watermark"`
	Lag           int64  `json:"lag"`
	Error         string `json:"error,omitempty"` // The last error; empty after the next good answer. What stopped it stays.
	Stopped       bool   `json:"stopped"`         // A rule with on_error: stop ended the reading.
}

// BrokerStatus is the connection to one broker that leads partitions of ours.
type BrokerStatus struct {
	ID        int32  `json:"id"`
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"`
}

// Status is what the source knows about Kafka at one moment.
type Status struct {
	Ready    bool           `json:"ready"`           // See Source.Ready.
	Error    string         `json:"error,omitempty"` // Why the cluster's metadata could not be read at the last try.
	Metadata time.Time      `json:"metadata"`        // When it was last read; zero: never.
	Topics   []TopicStatus  `json:"topics"`
	LeftOut  int64          `json:"left_out"` // Topics that a pattern finds but that are not read, as there are TopicsMax already.
	Brokers  []BrokerStatus `json:"brokers"`
}

// view is the layout that Status shows: replaced as a whole by the watcher, read by any goroutine. Live figures come from the
// partitions' own atomics.
type view struct {
	mu       sync.Mutex
	err      string
	metadata time.Time
	topics   []viewTopic
	fetchers []*fetcher
	seeds    []string // Addresses to ask for what any broker knows.
}

type viewTopic struct {
	name  string
	found bool
	state TopicState
	err   string
	parts []*partition
}

// Status returns what is known now. Any goroutine may call it; it never waits for Kafka or the bus.
func (s *Source) Status() Status {
	v := &s.view
	v.mu.Lock()
	st := Status{Error: v.err, Metadata: v.metadata, LeftOut: s.stats.LeftOut.Load()}
	topics, fetchers := v.topics, v.fetchers
	v.mu.Unlock()

	st.Ready = s.Ready()
	st.Brokers = []BrokerStatus{}
	connected := make(map[int32]bool, len(fetchers))
	for _, f := range fetchers {
		b := f.status()
		st.Brokers = append(st.Brokers, b)
		connected[b.ID] = b.Connected
	}
	for _, t := range topics {
		ts := TopicStatus{Name: t.name, Found: t.found, State: t.state, Error: t.err, Current: t.state == TopicPresent, Partitions: []PartitionStatus{}}
		for _, p := range t.parts {
			ps := p.stats()
			ts.Partitions = append(ts.Partitions, PartitionStatus{
				Partition: p.id, Leader: p.leaderSeen.Load(), Position: ps.Position, HighWatermark: ps.HighWatermark, Lag: ps.Lag, Error: p.errorText(), Stopped: ps.Stopped,
			})
			ts.Current = ts.Current && ps.Position >= 0 && ps.HighWatermark >= 0 && p.caughtUp.Load() && connected[p.leaderSeen.Load()] && p.lastError.Load() == nil
		}
		st.Topics = append(st.Topics, ts)
	}
	return st
}

// Ready reports whether the cluster has been seen and every configured topic has a first position in each of its partitions, but for
// topics that do not exist, so that a subscriber from now on misses nothing. Once it does it stays so: what appears later is read from its
// beginning. Any goroutine may call it.
func (s *Source) Ready() bool {
	if s.begun.Load() {
		return true
	}
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	if !ready(s.view.metadata, s.view.topics) {
		return false
	}
	s.begun.Store(true)
	return true
}

func ready(metadata time.Time, topics []viewTopic) bool {
	if metadata.IsZero() {
		return false
	}
	for _, t := range topics {
		if (t.state == TopicFailed || t.state == TopicPresent) && len(t.parts) == 0 {
			return false // It may have partitions: then records are missed until they are known.
		}
		for _, p := range t.parts {
			if p.routed.Load() < 0 {
				return false
			}
		}
	}
	return true
}

// partitionsSeen returns the partitions of the topics that are read. Any goroutine.
func (s *Source) partitionsSeen() (list []*partition) {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	for _, t := range s.view.topics {
		list = append(list, t.parts...)
	}
	return list
}

// Channels returns the channels that topic and partition alone name, as far as the topics have been seen, in no order. Those named by
// a key or header are known only to who produces them. Any goroutine.
func (s *Source) Channels() []string {
	s.view.mu.Lock()
	topics := s.view.topics
	s.view.mu.Unlock()
	var names []string
	for _, t := range topics {
		for _, p := range t.parts {
			if p.channel != nil && !slices.Contains(names, string(p.channel)) {
				names = append(names, string(p.channel))
			}
		}
	}
	return names
}
