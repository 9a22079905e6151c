package produce

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	kafkasasl "github.com/segmentio/kafka-go/sasl"
)

// AnyPartition is the partition of a record whose key decides, or that may be in any if it has none.
const AnyPartition = -1

// Options are the options of a Producer.
type Options struct {
	Brokers  []string // HOST:PORT of the brokers to learn the cluster from.
	ClientID string
	// Returns the configuration for one connection. An empty ServerName becomes each broker's host. Nil means plain
	// text.
	TLS  func() *tls.Config
	SASL kafkasasl.Mechanism // Nil means no authentication. It is asked to start at each login.
	// For connecting to a broker, with TLS.
	DialTimeout time.Duration
	// How long a broker may take to acknowledge. After that the request is made again, on another connection.
	RequestTimeout time.Duration
	// How long a record may wait for its acknowledgement. Then it is answered with a Timeout. What was not sent is
	// given up then, or after a second if that is longer.
	Timeout time.Duration
	// The records, and the bytes of their keys, values and headers, that may be under way.
	RecordsMax, BytesMax int
	// Size of the largest record, and of those of topics for which another one holds. A batch has no more bytes than
	// that, and batchOverhead: a topic must take as much (max.message.bytes), or refuses records together of which it
	// would take each.
	RecordBytesMax   int
	RecordBytesMaxOf map[string]int
	// Chooses the partition of a key, among n. Nil means murmur2, as the Java clients do.
	Partition func(key []byte, n int32) int32
	Logger    *slog.Logger

	linger time.Duration // For tests. 0 means gatherFor.
}

// Header is a header of a record.
type Header struct {
	Name  string
	Value []byte
}

// Record is what to write. The Producer keeps its slices until the callback.
type Record struct {
	Topic     string
	Partition int32  // AnyPartition: the key decides.
	Key       []byte // Nil means none.
	Value     []byte
	Headers   []Header
	// Chooses the partition of a record without a key and a partition, so that records with the same Order keep theirs.
	Order []byte
	// If it is not nil, it completes the record in the Producer's goroutine before it is sent, for work that the caller
	// must not do. It may set Topic, Partition and Key, and must not block. Its error answers the record.
	Prepare func(*Record) error
	// If it is not nil, it is called with the outcome of a record that was answered with a Timeout, once the outcome is
	// known. That may take as long as Kafka is away.
	Late func(Ack, error)
}

// recordOverhead is what a record takes beside its bytes, roughly.
const recordOverhead = 400

// size returns what the record counts for.
func (r *Record) size() int {
	n := recordOverhead + len(r.Topic) + len(r.Key) + len(r.Value) + len(r.Order)
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value)
	}
	return n
}

// Ack is where an acknowledged record is.
type Ack struct {
	Partition int32
	Offset    int64
}

// recordBytesMax returns the size of the largest record of a topic.
func (o *Options) recordBytesMax(topic string) int {
	if size, ok := o.RecordBytesMaxOf[topic]; ok {
		return size
	}
	return o.RecordBytesMax
}

// dial connects to a broker.
func (o *Options) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil || o.TLS == nil {
		return conn, err
	}
	cfg := o.TLS().Clone()
	if cfg.ServerName == "" {
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS handshake with broker %s (does it expect TLS on this port?): %w", addr, err)
	}
	return t, nil
}
