package kafka

import (
	"errors"
	"time"
)

// Record is one record. Its slices point into the batch, or into the window over a compressed one: they are valid until
// the walker moves on.
type Record struct {
	Offset   int64
	Millis   int64  // Its timestamp, in milliseconds of Unix time.
	Key      []byte // Nil for a Kafka null.
	Value    []byte // Nil for a Kafka null.
	Headers  []byte // Their number and the headers, encoded.
	TooLarge int64  // The record's size if it is above the limit, else 0. Such a record has no key, value or headers.
}

// Time returns when the record was made, or when the broker appended it, whichever the topic keeps.
func (r *Record) Time() time.Time { return time.UnixMilli(r.Millis) }

var (
	errRecord = errors.New("malformed record")
	errOrder  = errors.New("the offsets of the batch's records do not ascend")
)

// parse decodes b, which is a record of the batch without its length.
func (r *Record) parse(b []byte, batch *Batch) (err error) {
	if b, err = r.parseHead(b, batch); err != nil {
		return err
	}
	var ok bool
	if r.Key, b, ok = NullBytes(b); !ok {
		return errRecord
	}
	if r.Value, b, ok = NullBytes(b); !ok {
		return errRecord
	}
	r.Headers, r.TooLarge = b, 0
	return nil
}

// parseHead decodes what stands before the key. b has at least one byte.
func (r *Record) parseHead(b []byte, batch *Batch) (rest []byte, err error) {
	b = b[1:] // Kafka does not use a record's attributes.
	millis, b, ok := Varint(b)
	if !ok {
		return nil, errRecord
	}
	delta, b, ok := Varint(b)
	if !ok || delta < 0 || delta > int64(batch.lastDelta) {
		return nil, errRecord
	}
	r.Offset, r.Millis = batch.Base+delta, batch.firstTime+millis
	if batch.attributes&attrLogAppendTime != 0 {
		r.Millis = batch.maxTime
	}
	return b, nil
}
