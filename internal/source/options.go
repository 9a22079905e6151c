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

// Start says where reading begins in the partitions that exist when the source first sees the cluster. The zero value is the
// end. Partitions and topics that appear later are always read from their beginning.
type Start struct {
	Mode StartMode
	Time time.Time // For StartTime: the first record with this timestamp or a later one; the end when there is none.
}

// StartMode is one way of choosing the first offset.
type StartMode uint8

// The ways to choose the first offset.
const (
	StartLatest StartMode = iota
	StartEarliest
	StartTime
	StartCommitted // Where CommitGroup stands; the end in topics that it has no position of.
)

// Route says where records go.
type Route = route.Rule

// Options is what a source is built from.
type Options struct {
	Brokers []string // host:port of brokers to learn the cluster from; at least one.
	Topics  []string // At least one, each once: names, and patterns of names (route.ParseTopic).
	Start   Start
	// CommitGroup is the consumer group under which positions are kept in Kafka, for Kafka's own tools and for StartCommitted;
	// empty: none. The source does not join it.
	CommitGroup    string
	CommitInterval time.Duration // Least time between two commits. Default 1 s.
	CommitAgain    time.Duration // After it a position is committed again though it has not moved, at most as long again later. Default 1 h.

	TopicsMax int            // Topics read at most, those that patterns find included. Default 1000.
	ClientID  string         // Default "wsd".
	TLS       *tls.Config    // nil: plain text. An empty ServerName becomes each broker's host.
	SASL      sasl.Mechanism // nil: none.
	Routes    []Route        // Default: one rule, channel "{topic}".

	Overrides *route.Overrides // Headers by which records choose their place; nil: none.
	Nonce     uint64           // That client ids of this process begin with.

	FetchMaxWait     time.Duration // How long a broker holds a fetch that has no record. Default 500 ms; costs no latency.
	FetchMaxBytes    int           // Bytes of one partition in one response. Default 1 MiB.
	FetchTotalBytes  int           // Bytes of one response, a single larger batch excepted. Default 8 × FetchMaxBytes.
	BatchBytesMax    int           // Largest record batch accepted, compressed or not; a larger one is skipped as lost. Default 128 MiB.
	RecordBytesMax   int           // Largest record delivered: its key, value and headers. Default 1 MiB.
	MetadataInterval time.Duration // Between two looks at the cluster's layout; at once after an error that hints at a change. Default 2 s.
	DialTimeout      time.Duration // For connecting, TLS and SASL together. Default 10 s.
	RequestTimeout   time.Duration // For an answer, beyond the FetchMaxWait that a fetch may wait. Default 10 s.
	BackoffMin       time.Duration // First wait after an error; doubles, with jitter. Default 10 ms.
	BackoffMax       time.Duration // Longest wait after errors. Default 1 s.
	RecentBytesMax   int           // Bytes of the batches read last that are kept for Recent. Default 0: none.
	ReturnWait       time.Duration // How long the subscribers of a topic that was created again have to come back before it is read. Default 1 s.
	StallAfter       time.Duration // Records are there but none comes for so long: reconnect. Default 10 s.
	LogInterval      time.Duration // Least time between two lines about one lasting problem. Default 30 s.

	Interest      *routing.Interest
	SweepInterval time.Duration // How long the interest table remembers a channel without subscribers: once to twice this. Default 30 s.
	Ring          *bus.Ring
	Builder       bus.BuilderOptions
	Keys          bool          // Whether the bus keeps the keys of records, which costs a copy of each. Default: no.
	BatchAge      time.Duration // How long a record may wait in Kafka for a batch to fill where records come fast, see gatherer. Default 0: not at all.
	Shards        int           // Tells a record for every shard (broadcast) from one for some (targeted). Default: as the ring has.
	Logger        *slog.Logger
}

// withDefaults returns o with every unset option set, or what is wrong with it.
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
		switch {
		case seen[t]:
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
	setInt(&o.FetchMaxBytes, 1<<20)
	setInt(&o.FetchTotalBytes, 8*o.FetchMaxBytes)
	setInt(&o.BatchBytesMax, 128<<20)
	setInt(&o.RecordBytesMax, 1<<20)
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
