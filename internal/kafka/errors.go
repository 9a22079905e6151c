package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	kafkago "github.com/segmentio/kafka-go"
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
	ErrorKindCount
)

// String returns the kind as metrics and logs name it.
func (k ErrorKind) String() string {
	return [ErrorKindCount]string{"connect", "auth", "disconnect", "timeout", "not_leader", "unknown_topic", "offset_out_of_range", "corrupt", "broker"}[k]
}

// LogValue implements slog.LogValuer.
func (k ErrorKind) LogValue() slog.Value { return slog.StringValue(k.String()) }

// AllErrorKinds returns every kind, for a metric that starts at zero.
func AllErrorKinds() []ErrorKind {
	kinds := make([]ErrorKind, ErrorKindCount)
	for i := range kinds {
		kinds[i] = ErrorKind(i)
	}
	return kinds
}

// KindError is an error whose kind its text and chain do not tell.
type KindError struct {
	Kind ErrorKind
	Err  error
}

// NewError returns err as one of the kind.
func NewError(kind ErrorKind, err error) error { return &KindError{Kind: kind, Err: err} }

func (e *KindError) Error() string { return e.Err.Error() }
func (e *KindError) Unwrap() error { return e.Err }

// Code is an error code that a broker answered with. Its text is kafka-go's: the code in brackets, its name and what it means.
type Code = kafkago.Error

// The codes that callers tell apart.
const (
	OffsetOutOfRange        = kafkago.OffsetOutOfRange
	UnknownTopicOrPartition = kafkago.UnknownTopicOrPartition
	UnknownTopicID          = kafkago.UnknownTopicID
	LeaderNotAvailable      = kafkago.LeaderNotAvailable
	GroupIDNotFound         = kafkago.GroupIdNotFound
	UnknownMemberID         = kafkago.UnknownMemberId
	IllegalGeneration       = kafkago.IllegalGeneration
	RebalanceInProgress     = kafkago.RebalanceInProgress
)

// KindOf sorts an error from a connection or a broker into its kind.
func KindOf(err error) ErrorKind {
	var ke *KindError
	var code Code
	var ne net.Error
	switch {
	case errors.As(err, &ke):
		return ke.Kind
	case errors.As(err, &code):
		return KindOfCode(code)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.As(err, &ne) && ne.Timeout():
		return ErrorTimeout
	default:
		return ErrorDisconnect
	}
}

// KindOfCode sorts an error code of a broker into its kind.
func KindOfCode(code Code) ErrorKind {
	switch code {
	case kafkago.OffsetOutOfRange:
		return ErrorOffset
	case kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID, kafkago.InconsistentTopicID:
		return ErrorUnknownTopic
	case kafkago.NotLeaderForPartition, kafkago.LeaderNotAvailable, kafkago.ReplicaNotAvailable, kafkago.FencedLeaderEpoch, kafkago.UnknownLeaderEpoch,
		kafkago.KafkaStorageError, kafkago.OffsetNotAvailable:
		return ErrorLeader
	case kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed, kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.IllegalSASLState:
		return ErrorAuth
	case kafkago.InvalidMessage:
		return ErrorCorrupt
	default:
		return ErrorBroker
	}
}

// Describe says what was being done when err came, and turns the end of a connection into words: "unexpected EOF" helps nobody.
func Describe(during string, err error) error {
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
