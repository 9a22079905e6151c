package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/segmentio/kafka-go/protocol"

	"wsd/internal/route"
)

// batch is one record batch of format 2 (Kafka 0.11 and newer), its header decoded and its records still as bytes.
type batch struct {
	base        int64 // Offset of its first record when it was written.
	leaderEpoch int32
	attributes  protocol.Attributes
	lastDelta   int32 // base + lastDelta is its last offset, also when compaction removed that record.
	firstTime   int64 // Milliseconds.
	maxTime     int64
	producerID  int64
	count       int32
	records     []byte // Compressed as attributes say.
}

// Layout of a batch's header.
const (
	batchHeadBytes  = 61
	batchStartBytes = 12 // Base offset and length, which the length does not count.
	crcAt           = 17
	crcFrom         = 21                          // The checksum covers what follows it.
	logAppendTime   = protocol.Attributes(1 << 3) // The broker's time, the same for the whole batch.
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errPartial: the response ends inside the batch; the broker cut it at its limit, and the next fetch begins there.
	errPartial = errors.New("batch cut by the end of the response")
	// errFormat: a message format from before Kafka 0.11.
	errFormat = errors.New("message format older than Kafka 0.11 is not supported")
)

// parseBatch decodes the batch at the start of b. With an error other than errPartial, bt holds what the header said, as far
// as it could be read, and rest is nil.
func parseBatch(b []byte) (bt batch, rest []byte, err error) {
	if len(b) < batchStartBytes {
		return bt, nil, errPartial
	}
	bt.base = int64(binary.BigEndian.Uint64(b))
	size := int64(int32(binary.BigEndian.Uint32(b[8:])))
	if size <= 0 {
		return bt, nil, fmt.Errorf("batch length %d", size)
	}
	if int64(len(b)) < batchStartBytes+size {
		return bt, nil, errPartial
	}
	if size < crcAt-batchStartBytes {
		return bt, nil, fmt.Errorf("batch length %d is shorter than a header", size)
	}
	if magic := b[16]; magic != 2 {
		return bt, nil, fmt.Errorf("%w (format %d)", errFormat, magic)
	}
	if size < batchHeadBytes-batchStartBytes {
		return bt, nil, fmt.Errorf("batch length %d is shorter than a header", size)
	}
	rest = b[batchStartBytes+size:]
	b = b[:batchStartBytes+size]
	bt.leaderEpoch = int32(binary.BigEndian.Uint32(b[12:]))
	bt.attributes = protocol.Attributes(binary.BigEndian.Uint16(b[21:]))
	bt.lastDelta = int32(binary.BigEndian.Uint32(b[23:]))
	bt.firstTime = int64(binary.BigEndian.Uint64(b[27:]))
	bt.maxTime = int64(binary.BigEndian.Uint64(b[35:]))
	bt.producerID = int64(binary.BigEndian.Uint64(b[43:]))
	bt.count = int32(binary.BigEndian.Uint32(b[57:]))
	bt.records = b[batchHeadBytes:]
	if want, got := binary.BigEndian.Uint32(b[crcAt:]), crc32.Checksum(b[crcFrom:], castagnoli); want != got {
		return bt, nil, fmt.Errorf("checksum is %08x, the batch says %08x", got, want)
	}
	if bt.lastDelta < 0 || bt.count < 0 || bt.base < 0 || int64(bt.count) > int64(bt.lastDelta)+1 {
		return bt, nil, fmt.Errorf("%d records in offsets %d to %d", bt.count, bt.base, bt.last())
	}
	return bt, rest, nil
}

func (bt *batch) last() int64 { return bt.base + int64(bt.lastDelta) }

// record is one record where it lies in its batch.
type record struct {
	delta   int64 // Offset less the batch's base.
	time    int64 // Milliseconds less the batch's first.
	key     []byte
	value   []byte // nil for null, not for an empty value.
	headers []byte // Their number and they themselves, encoded.
}

var errRecord = errors.New("malformed record")

// parseRecord decodes the record at the start of b into r.
func parseRecord(b []byte, r *record) error {
	size, b, ok := route.Varint(b)
	if !ok || size < 1 || size > int64(len(b)) {
		return errRecord
	}
	return r.parse(b[:size])
}

// parse decodes b, which is a record without its length.
func (r *record) parse(b []byte) (err error) {
	if b, err = r.parseHead(b); err != nil {
		return err
	}
	var ok bool
	if r.key, b, ok = route.NullBytes(b); !ok {
		return errRecord
	}
	if r.value, b, ok = route.NullBytes(b); !ok {
		return errRecord
	}
	r.headers = b
	return nil
}

// parseHead decodes what stands in front of the key.
func (r *record) parseHead(b []byte) (rest []byte, err error) {
	var ok bool
	b = b[1:] // Its attributes are not used by Kafka.
	if r.time, b, ok = route.Varint(b); !ok {
		return nil, errRecord
	}
	if r.delta, b, ok = route.Varint(b); !ok || r.delta < 0 {
		return nil, errRecord
	}
	return b, nil
}

// timestamp returns when the record was made, or when the broker took it, as the topic is set up.
func (bt *batch) timestamp(r *record) time.Time {
	if bt.attributes&logAppendTime != 0 {
		return time.UnixMilli(bt.maxTime)
	}
	return time.UnixMilli(bt.firstTime + r.time)
}
