package source

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// TopicState is the state in which the last refresh found a topic.
type TopicState string

// The states of a topic.
const (
	TopicUnknown TopicState = "unknown" // The cluster has not been asked yet.
	TopicPresent TopicState = "present"
	TopicMissing TopicState = "missing" // The topic does not exist. It is read from its beginning when it appears.
	TopicFailed  TopicState = "failed"  // The cluster sent an error, such as a missing permission.
)

// TopicStatus is a topic as the cluster last described it.
type TopicStatus struct {
	Name    string     `json:"name"`
	Found   bool       `json:"found"` // A pattern found the topic. If it is missing, nothing is wrong.
	State   TopicState `json:"state"`
	Error   string     `json:"error,omitempty"`
	Current bool       `json:"current"` // Every partition can be read, and its last fetch reached the end.
	// What describes that the topic has been behind for longer than Options.BehindMax, or "".
	Behind     string            `json:"behind,omitempty"`
	Partitions []PartitionStatus `json:"partitions"`
}

// PartitionStatus is where one partition stands.
type PartitionStatus struct {
	Partition     int32 `json:"partition"`
	Leader        int32 `json:"leader"`    // The id of the broker that leads it, or -1.
	ReadFrom      int32 `json:"read_from"` // The id of the broker that it is read from, or -1. See Options.Rack.
	Position      int64 `json:"position"`  // The next Kafka offset to read, or -1 if it is not known yet.
	HighWatermark int64 `json:"high_watermark"`
	// Up to where the log is committed. Nothing after it can be delivered yet. Or -1.
	LastStable int64 `json:"last_stable"`
	Lag        int64 `json:"lag"` // Or -1 while the position or the end is not known.
	// The last error, or the open transaction that holds records back. The next success clears it, unless a rule has
	// stopped the partition.
	Error   string `json:"error,omitempty"`
	Stopped bool   `json:"stopped"` // A rule with on_error: stop has stopped the partition.
}

// BrokerStatus is the connection to one broker that leads partitions.
type BrokerStatus struct {
	ID        int32  `json:"id"`
	Address   string `json:"address"`
	Connected bool   `json:"connected"`
	Error     string `json:"error,omitempty"`
}

// Status is what the source knows about Kafka.
type Status struct {
	Ready    bool          `json:"ready"`           // See Source.Ready.
	Error    string        `json:"error,omitempty"` // Why the cluster's metadata could not be read at the last try.
	Metadata time.Time     `json:"metadata"`        // When the metadata was last read. Zero means never.
	Topics   []TopicStatus `json:"topics"`
	// Topics that a pattern matches but that are not read, because there are TopicsMax already.
	LeftOut int64          `json:"left_out"`
	Brokers []BrokerStatus `json:"brokers"`
	// The brokers that hold wsd back by quotas, or did in the last ten seconds.
	Throttled []ThrottleStatus `json:"throttled,omitempty"`
}

// view is a copy of the topology. The watcher replaces it as a whole; any goroutine reads it. Live figures come from
// the partitions' own atomics.
type view struct {
	mu       sync.Mutex
	err      string
	metadata time.Time
	since    time.Time // When the metadata was first read.
	topics   []viewTopic
	fetchers []*fetcher
	addrs    map[int32]string // The addresses of the brokers. Nobody changes it.
	seeds    []string         // Addresses of brokers to ask for what any broker knows.
}

type viewTopic struct {
	name   string
	found  bool
	denied bool // See isDenied.
	state  TopicState
	err    string
	parts  []*partition
}

// Status returns what is known now. It never waits for Kafka or the bus. Any goroutine may call it.
func (s *Source) Status() Status {
	v := &s.view
	v.mu.Lock()
	st := Status{Error: v.err, Metadata: v.metadata, LeftOut: s.stats.LeftOut.Load()}
	topics, fetchers := v.topics, v.fetchers
	v.mu.Unlock()

	st.Ready = s.Ready()
	st.Brokers = []BrokerStatus{}
	st.Throttled = s.throttles.status(time.Now())
	connected := make(map[int32]bool, len(fetchers))
	for _, f := range fetchers {
		b := f.status()
		st.Brokers = append(st.Brokers, b)
		connected[b.ID] = b.Connected
	}
	for _, t := range topics {
		ts := TopicStatus{Name: t.name, Found: t.found, State: t.state, Error: t.err, Current: t.state == TopicPresent,
			Partitions: []PartitionStatus{}, Behind: s.describeBehind(t.parts)}
		for _, p := range t.parts {
			ps, problem, held := p.stats(), p.errorText(), p.heldBack(s.o.StallAfter)
			if problem == "" {
				problem = held
			}
			ts.Partitions = append(ts.Partitions, PartitionStatus{
				Partition: p.id, Leader: p.leaderSeen.Load(), ReadFrom: p.readSeen.Load(),
				Position: ps.Position, HighWatermark: ps.HighWatermark,
				LastStable: ps.LastStable, Lag: ps.Lag, Error: problem, Stopped: ps.Stopped,
			})
			read := ps.Position >= 0 && ps.HighWatermark >= 0 && p.caughtUp.Load()
			ts.Current = ts.Current && read && held == "" && connected[p.readSeen.Load()] && p.lastError.Load() == nil
		}
		st.Topics = append(st.Topics, ts)
	}
	return st
}

// partitionsSeen returns the partitions of all topics in the topology. Any goroutine may call it.
func (s *Source) partitionsSeen() (list []*partition) {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	for _, t := range s.view.topics {
		list = append(list, t.parts...)
	}
	return list
}

// Channels returns, in no order, the channels that topic and partition alone name, as far as the topics have been seen.
// Only producers know the channels that a record names. Any goroutine may call it.
func (s *Source) Channels() []string {
	s.view.mu.Lock()
	topics := s.view.topics
	s.view.mu.Unlock()
	names := make(map[string]bool)
	for _, t := range topics {
		for _, p := range t.parts {
			if p.channel != nil {
				names[string(p.channel)] = true
			}
		}
	}
	return slices.Collect(maps.Keys(names))
}
