package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Batch is one record batch of format 2 (Kafka 0.11 and newer). Its records are still encoded.
type Batch struct {
	Kind BatchKind
	// The walk's position before the batch. If it is below Base, the offsets from Next to Base are missing.
	Next        int64
	Base        int64  // The offset of the first record when the batch was written.
	LeaderEpoch int32  // The leader epoch in which it was written.
	Count       int32  // The number of records.
	Raw         []byte // The whole batch.

	attributes int16
	lastDelta  int32
	firstTime  int64 // Milliseconds.
	maxTime    int64
	producerID int64
	records    []byte // Compressed as attributes say.
}

// BatchKind says what a batch holds.
type BatchKind uint8

// The kinds of batches.
const (
	BatchRecords BatchKind = iota // Records to deliver.
	BatchMarker                   // The end of a transaction: one control record, which nobody delivers.
	BatchAborted                  // Records of an aborted transaction, which nobody delivers.
)

// Last returns the batch's last offset. It does not change if compaction removes that record.
func (b *Batch) Last() int64 { return b.Base + int64(b.lastDelta) }

// MaxMillis returns the latest timestamp of the batch's records, in milliseconds of Unix time. It is negative if they
// have none.
func (b *Batch) MaxMillis() int64 { return b.maxTime }

// LogAppendTime reports whether the records' timestamps are the broker's (LogAppendTime) and not the producer's
// (CreateTime).
func (b *Batch) LogAppendTime() bool { return b.attributes&attrLogAppendTime != 0 }

// The bits of a batch's attributes.
const (
	attrCompression   = 7
	attrLogAppendTime = 1 << 3 // All records have the time at which the broker appended the batch.
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
)

// Where the fields of a batch's header stand.
const (
	batchStartBytes = 12 // Base offset and length. The length does not count these bytes.
	magicAt         = 16
	crcAt           = 17
	crcFrom         = 21 // The checksum covers everything from here on.
	batchHeadBytes  = 61
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errPartial: the data ends inside the batch. A broker ends a response at its limit; the next fetch begins with
	// this batch.
	errPartial = errors.New("the response ends inside the batch")
	// errFormat: a message format from before Kafka 0.11.
	errFormat = errors.New("message format older than Kafka 0.11 is not supported")
)

// parse decodes the batch at the start of data and returns what follows it. After an error other than errPartial, b
// holds what could be read of the header.
func (b *Batch) parse(data []byte) (rest []byte, err error) {
	*b = Batch{}
	if len(data) < batchStartBytes {
		return nil, errPartial
	}
	b.Base = int64At(data, 0)
	size := int64(int32At(data, 8))
	if size <= 0 {
		return nil, fmt.Errorf("batch length %d", size)
	}
	if int64(len(data)) < batchStartBytes+size {
		return nil, errPartial
	}
	if size < crcAt-batchStartBytes {
		return nil, fmt.Errorf("batch length %d is shorter than a header", size)
	}
	if magic := data[magicAt]; magic != 2 {
		return nil, fmt.Errorf("%w (format %d)", errFormat, magic)
	}
	if size < batchHeadBytes-batchStartBytes {
		return nil, fmt.Errorf("batch length %d is shorter than a header", size)
	}
	raw, rest := data[:batchStartBytes+size], data[batchStartBytes+size:]
	b.LeaderEpoch = int32At(raw, 12)
	b.attributes = int16At(raw, 21)
	b.lastDelta = int32At(raw, 23)
	b.firstTime = int64At(raw, 27)
	b.maxTime = int64At(raw, 35)
	b.producerID = int64At(raw, 43)
	b.Count = int32At(raw, 57)
	b.Raw, b.records = raw, raw[batchHeadBytes:]
	if want, got := binary.BigEndian.Uint32(raw[crcAt:]), crc32.Checksum(raw[crcFrom:], castagnoli); want != got {
		return nil, fmt.Errorf("checksum is %08x, the batch says %08x", got, want)
	}
	if b.lastDelta < 0 || b.Count < 0 || b.Base < 0 || int64(b.Count) > int64(b.lastDelta)+1 {
		return nil, fmt.Errorf("%d records in offsets %d to %d", b.Count, b.Base, b.Last())
	}
	return rest, nil
}

// BatchError is a batch that cannot be read.
type BatchError struct {
	// The batch's last offset according to its header, which may itself be damaged; -1 if the header has none.
	Last int64
	Err  error
}

func (e *BatchError) Error() string { return e.Err.Error() }
func (e *BatchError) Unwrap() error { return e.Err }

// Permanent reports whether reading the same batch again cannot help.
func (e *BatchError) Permanent() bool {
	return errors.Is(e.Err, errFormat) || errors.Is(e.Err, errInflated) || errors.Is(e.Err, errOrder)
}
