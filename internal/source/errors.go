package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	kafka "github.com/segmentio/kafka-go"
)

// ErrorKind is what went wrong, coarsely: a metric's label.
type ErrorKind uint8

// The kinds of errors in reading from Kafka.
const (
	ErrorConnect      ErrorKind = iota // No connection: refused, unknown host, TLS.
	ErrorAuth                          // SASL refused, or no permission.
	ErrorDisconnect                    // The connection ended.
	ErrorTimeout                       // No answer in time.
	ErrorLeader                        // The partition is led elsewhere, or by nobody.
	ErrorUnknownTopic                  // The topic, its id or the partition is unknown to the broker.
	ErrorOffset                        // The offset is outside the log.
	ErrorCorrupt                       // A batch could not be read.
	ErrorBroker                        // Any other error code.
	errorKindCount
)

// String returns the kind as metrics and logs name it.
func (k ErrorKind) String() string {
	return [errorKindCount]string{"connect", "auth", "disconnect", "timeout", "not_leader", "unknown_topic", "offset_out_of_range", "corrupt", "broker"}[k]
}

// LogValue implements slog.LogValuer.
func (k ErrorKind) LogValue() slog.Value { return slog.StringValue(k.String()) }

// AllErrorKinds returns every kind, for a metric that starts at zero.
func AllErrorKinds() []ErrorKind {
	kinds := make([]ErrorKind, errorKindCount)
	for i := range kinds {
		kinds[i] = ErrorKind(i)
	}
	return kinds
}

// kindError is an error whose kind its text and chain do not tell.
type kindError struct {
	kind ErrorKind
	err  error
}

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// codeError is an error code from a broker, in words.
func codeError(code int16) error { return kafka.Error(code) }

// kindOf sorts an error from a connection or a broker into its kind.
func kindOf(err error) ErrorKind {
	var ke *kindError
	var code kafka.Error
	var ne net.Error
	switch {
	case errors.As(err, &ke):
		return ke.kind
	case errors.As(err, &code):
		return kindOfCode(code)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return ErrorTimeout
	default:
		return ErrorDisconnect
	}
}

func kindOfCode(code kafka.Error) ErrorKind {
	switch code {
	case kafka.OffsetOutOfRange:
		return ErrorOffset
	case kafka.UnknownTopicOrPartition, kafka.UnknownTopicID, kafka.InconsistentTopicID:
		return ErrorUnknownTopic
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.ReplicaNotAvailable, kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch,
		kafka.KafkaStorageError, kafka.OffsetNotAvailable:
		return ErrorLeader
	case kafka.TopicAuthorizationFailed, kafka.GroupAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
		return ErrorAuth
	case kafka.InvalidMessage:
		return ErrorCorrupt
	default:
		return ErrorBroker
	}
}

// clearer says what was being done when err came, and turns the end of a connection into words: "unexpected EOF" helps nobody.
func clearer(during string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &closedError{during: during, err: err}
	}
	return fmt.Errorf("%s: %w", during, err)
}

// closedError is a connection that the broker ended.
type closedError struct {
	during string
	err    error
}

func (e *closedError) Error() string { return e.during + ": the broker closed the connection" }
func (e *closedError) Unwrap() error { return e.err }
