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

// ErrorKind says roughly what went wrong. It is a metric's label.
type ErrorKind uint8

// The kinds of errors.
const (
	ErrorConnect      ErrorKind = iota // There is no connection: refused, unknown host, TLS.
	ErrorAuth                          // SASL failed, or a permission is missing.
	ErrorDisconnect                    // The connection ended.
	ErrorTimeout                       // There was no response in time.
	ErrorLeader                        // Another broker leads the partition, or none does.
	ErrorUnknownTopic                  // The broker does not know the topic, its id or the partition.
	ErrorOffset                        // The offset is outside the log.
	ErrorCorrupt                       // A batch could not be read.
	ErrorBroker                        // Any other error code.
	ErrorKindCount                     // The number of kinds.
)

// String returns the kind as metrics and logs name it.
func (k ErrorKind) String() string {
	return [ErrorKindCount]string{"connect", "auth", "disconnect", "timeout", "not_leader", "unknown_topic",
		"offset_out_of_range", "corrupt", "broker"}[k]
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

// KindError is an error whose kind is known to whoever made it.
type KindError struct {
	Kind ErrorKind
	Err  error
}

// NewError returns err as an error of the kind.
func NewError(kind ErrorKind, err error) error { return &KindError{Kind: kind, Err: err} }

func (e *KindError) Error() string { return e.Err.Error() }
func (e *KindError) Unwrap() error { return e.Err }

// Code is an error code of a broker. Its text is kafka-go's: the code in brackets, its name and what it means.
type Code = kafkago.Error

// The codes that callers distinguish.
const (
	OffsetOutOfRange        = kafkago.OffsetOutOfRange
	UnknownTopicOrPartition = kafkago.UnknownTopicOrPartition
	UnknownTopicID          = kafkago.UnknownTopicID
	InvalidTopic            = kafkago.InvalidTopic
	LeaderNotAvailable      = kafkago.LeaderNotAvailable
	GroupIDNotFound         = kafkago.GroupIdNotFound
	UnknownMemberID         = kafkago.UnknownMemberId
	IllegalGeneration       = kafkago.IllegalGeneration
	RebalanceInProgress     = kafkago.RebalanceInProgress
)

// KindOf returns the kind of an error from a connection or a broker.
func KindOf(err error) ErrorKind {
	var ke *KindError
	var code Code
	var ne net.Error
	switch {
	case errors.As(err, &ke):
		return ke.Kind
	case errors.As(err, &code):
		return KindOfCode(code)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &ne) && ne.Timeout():
		return ErrorTimeout
	default:
		return ErrorDisconnect
	}
}

// KindOfCode returns the kind of a broker's error code.
func KindOfCode(code Code) ErrorKind {
	switch code {
	case kafkago.OffsetOutOfRange:
		return ErrorOffset
	case kafkago.UnknownTopicOrPartition, kafkago.UnknownTopicID, kafkago.InconsistentTopicID:
		return ErrorUnknownTopic
	case kafkago.NotLeaderForPartition, kafkago.LeaderNotAvailable, kafkago.ReplicaNotAvailable,
		kafkago.FencedLeaderEpoch, kafkago.UnknownLeaderEpoch,
		kafkago.KafkaStorageError, kafkago.OffsetNotAvailable:
		return ErrorLeader
	case kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.IllegalSASLState:
		return ErrorAuth
	case kafkago.InvalidMessage:
		return ErrorCorrupt
	default:
		return ErrorBroker
	}
}

// Describe adds to err what was being done. It describes the end of a connection in words, because "unexpected EOF"
// helps nobody.
func Describe(during string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &closedError{during: during, err: err}
	}
	return fmt.Errorf("%s: %w", during, err)
}

// closedError is the end of a connection by the broker.
type closedError struct {
	during string
	err    error
}

func (e *closedError) Error() string { return e.during + ": the broker closed the connection" }
func (e *closedError) Unwrap() error { return e.err }
