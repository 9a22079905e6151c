package produce

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Kind says why a record was not written. It is a metric's label.
type Kind uint8

// The kinds of errors.
const (
	Full         Kind = iota // Too much is under way. Temporary.
	Timeout                  // There is no acknowledgement in time. The record may be written all the same. Temporary.
	Closed                   // The Producer is closed, or was before the outcome was known. Temporary.
	TooLarge                 // The record is larger than Options.RecordBytesMax or than the topic allows.
	UnknownTopic             // There is no such topic or partition.
	Denied                   // Kafka refuses to write to the topic. A refused login is tried again until Timeout.
	Failed                   // Any other error of the brokers. Temporary.
	Refused                  // Record.Prepare refused it.
	KindCount                // The number of kinds.
)

// Kinds returns every kind, for a metric that starts at zero.
func Kinds() []Kind {
	list := make([]Kind, KindCount)
	for i := range list {
		list[i] = Kind(i)
	}
	return list
}

// String returns the kind as metrics and logs name it.
func (k Kind) String() string {
	return [KindCount]string{"full", "timeout", "closed", "too_large", "unknown_topic", "denied", "broker",
		"refused"}[k]
}

// Temporary reports whether the same record may be written later, without anything being changed.
func (k Kind) Temporary() bool {
	return k != TooLarge && k != UnknownTopic && k != Denied && k != Refused
}

// Error is why a record was not written.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

var (
	errFull      = &Error{Full, errors.New("too many records wait for Kafka (publish.under_way_max, publish.memory)")}
	errTimeout   = &Error{Timeout, errors.New("no acknowledgement by Kafka in time (publish.timeout)")}
	errPartition = &Error{UnknownTopic, errors.New("the topic has no such partition")}
	errClosed    = &Error{Closed, errors.New("the producer is closed")}
)

// kindOf sorts an error of the client.
func kindOf(err error) *Error {
	kind := Failed
	var prepared *preparedError
	switch {
	case errors.As(err, &prepared):
		return &Error{Refused, prepared.err}
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, context.DeadlineExceeded):
		kind = Timeout
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, context.Canceled):
		kind = Closed
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		kind = TooLarge
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID),
		errors.Is(err, kerr.InvalidTopicException):
		kind = UnknownTopic
	case errors.Is(err, kerr.TopicAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed),
		errors.Is(err, kerr.SaslAuthenticationFailed), errors.Is(err, kerr.TransactionalIDAuthorizationFailed):
		kind = Denied
	}
	return &Error{kind, err}
}
