package source

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"wsd/internal/bus"
	"wsd/internal/route"
	"wsd/internal/routing"
)

// Start says where reading begins in the partitions that exist when the source first sees the cluster. The zero value
// means the end. Partitions and topics that appear later are always read from their beginning.
type Start struct {
	Mode StartMode
	// For StartTime: begin at the first record with this timestamp or a later one, or at the end if there is none.
	Time time.Time
}

// StartMode is a way to choose the first offset.
type StartMode uint8

// The ways to choose the first offset.
const (
	StartLatest StartMode = iota
	StartEarliest
	StartTime
	StartCommitted // Begin at CommitGroup's positions, or at the end in topics that it has no position of.
)

// Route is a rule that says where records go.
type Route = route.Rule

// Options is what a source is built from.
type Options struct {
	Brokers []string // Addresses (host:port) of brokers from which the source learns the cluster. At least one.
	Topics  []string // Names of topics and patterns for names, see route.ParseTopic. At least one, none twice.
	Start   Start

	// The consumer group that keeps the positions in Kafka. Empty means none. The source does not join it.
	CommitGroup    string
	CommitInterval time.Duration // The shortest time between two commits. Default 1 s.
	// A position that has not changed is committed again after one to two times this. Default 1 h.
	CommitAgain time.Duration

	// Reports whether clients publish to the topic, so that the headers of its records say who did. Nil means none.
	Published func(topic string) bool

	TopicsMax int // How many topics may be read, including those that patterns find. Default 1000.
	// How many topics are listed one by one in Stats, see TopicStats.Listed. Negative means none. Default 200.
	TopicsListedMax int
	// The id that the cluster must have. Default: the one that the first broker names. Another cluster is not read.
	ClusterID string
	ClientID  string // Default "wsd".
	// The rack that wsd is in. Partitions are then read from the nearest replica that their leaders name (KIP-392).
	// Empty means from the leaders.
	Rack string
	// Read records of transactions before their end, and of those that are aborted.
	ReadUncommitted bool
	TLS             func() *tls.Config // For each connection, see kafka.Dialer. Nil means plain text.
	SASL            sasl.Mechanism     // Nil means no authentication.
	Routes          []Route            // Default: one rule with the channel "{topic}".

	Overrides *route.Overrides   // Headers by which a record chooses where it goes. Nil means none.
	ClientIDs *routing.ClientIDs // Of this process's connections; nil if it has none.

	// How long a broker holds a fetch for which it has no record. It costs no latency. Default 500 ms.
	FetchMaxWait  time.Duration
	FetchMaxBytes int // How many bytes of one partition a response may have. Default 1 MiB.
	// How many bytes a response may have, except for a single larger batch. Default 8 × FetchMaxBytes.
	FetchTotalBytes int
	// The size of the largest accepted record batch, also when decompressed. A larger one is lost. Default 128 MiB.
	BatchBytesMax  int
	RecordBytesMax int // The size of the largest delivered record: key, value and headers. Default 1 MiB.
	// How deep the arrays and objects of a value may be nested for JSON clients to get it. Default 128.
	JSONDepthMax int
	// The time between two refreshes of the metadata. An error that hints at a change causes one sooner. Default 2 s.
	MetadataInterval time.Duration
	DialTimeout      time.Duration // For connecting, TLS and SASL together. Default 10 s.
	// The longest time without progress until a response is complete, on top of the FetchMaxWait that a fetch may wait.
	// Default 10 s.
	RequestTimeout time.Duration
	// The first wait after an error. Each further wait is twice as long, with jitter. Default 10 ms.
	BackoffMin time.Duration
	BackoffMax time.Duration // The longest wait after an error. Default 1 s.
	// How many bytes of the last batches are kept for Recent. Default 0, which keeps none.
	RecentBytesMax int
	// How long subscribers of a topic that was created again may take to resubscribe before it is read. Default 1 s.
	ReturnWait time.Duration
	// After how long without records, although the broker has some, the source reconnects. Default 10 s.
	StallAfter  time.Duration
	LogInterval time.Duration // The shortest time between two log lines about one lasting problem. Default 30 s.
	// How long a topic may be behind the end of what it could read before Status and the log name it. Default 0: they
	// never do.
	BehindMax time.Duration

	Interest *routing.Interest
	// The table remembers a channel without subscribers for one to two times this. Default 30 s.
	SweepInterval time.Duration
	Ring          *bus.Ring
	Builder       bus.BuilderOptions
	Keys          bool // Whether the bus keeps the keys of records, which costs a copy of each.
	// How long a record may wait in Kafka for a batch to fill, if records come fast. See gatherer. Default 0.
	BatchAge time.Duration
	// How many shards a record must go to for it to count as broadcast. Default: all of the ring's.
	Shards int
	Logger *slog.Logger

	sessionMin int // See the constant, which is the default.
}

// withDefaults returns o with defaults for the options that are not set. It returns an error if an option is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.Interest == nil || o.Ring == nil || o.Logger == nil {
		return o, errors.New("BUG: source options without an interest table, ring or logger")
	}
	if len(o.Brokers) == 0 {
		return o, errors.New("kafka.brokers is empty: name at least one host:port")
	}
	for _, b := range o.Brokers {
		if _, port, err := net.SplitHostPort(b); err != nil || port == "" {
			return o, fmt.Errorf("kafka.brokers %q is not host:port", b)
		}
	}
	if len(o.Topics) == 0 {
		return o, errors.New("kafka.topics is empty: name at least one topic")
	}
	seen := make(map[string]bool, len(o.Topics))
	for _, t := range o.Topics {
		if seen[t] {
			return o, fmt.Errorf("kafka.topics names %q twice", t)
		}
		if _, err := route.ParseTopic(t); err != nil {
			return o, fmt.Errorf("kafka.topics %q: %w", t, err)
		}
		seen[t] = true
	}
	if o.Start.Mode == StartTime && o.Start.Time.IsZero() {
		return o, errors.New("kafka.start is a time but none is set")
	}
	if o.Start.Mode == StartCommitted && o.CommitGroup == "" {
		return o, errGroupEmpty
	}
	if o.Start.Mode > StartCommitted {
		return o, fmt.Errorf("BUG: start mode %d", o.Start.Mode)
	}
	if o.ClientID == "" {
		o.ClientID = "wsd"
	}
	setInt(&o.TopicsMax, 1000)
	if o.TopicsListedMax == 0 {
		o.TopicsListedMax = 200
	}
	setInt(&o.FetchMaxBytes, 1<<20)
	setInt(&o.FetchTotalBytes, 8*o.FetchMaxBytes)
	setInt(&o.BatchBytesMax, 128<<20)
	setInt(&o.RecordBytesMax, 1<<20)
	setInt(&o.JSONDepthMax, 128)
	setInt(&o.sessionMin, sessionMin)
	setDuration(&o.FetchMaxWait, 500*time.Millisecond)
	setDuration(&o.MetadataInterval, 2*time.Second)
	setDuration(&o.DialTimeout, 10*time.Second)
	setDuration(&o.RequestTimeout, 10*time.Second)
	setDuration(&o.BackoffMin, 10*time.Millisecond)
	setDuration(&o.BackoffMax, time.Second)
	setDuration(&o.CommitInterval, commitInterval)
	setDuration(&o.CommitAgain, commitAgain)
	setDuration(&o.ReturnWait, time.Second)
	setDuration(&o.StallAfter, 10*time.Second)
	setDuration(&o.LogInterval, 30*time.Second)
	setDuration(&o.SweepInterval, 30*time.Second)
	return o, nil
}

func setInt(v *int, def int) {
	if *v <= 0 {
		*v = def
	}
}

func setDuration(v *time.Duration, def time.Duration) {
	if *v <= 0 {
		*v = def
	}
}
