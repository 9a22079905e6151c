package kafkatest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/segmentio/kafka-go/compress"
)

// Batch is a record batch to be encoded by hand, as no producer would do it.
type Batch struct {
	Base       int64
	LastDelta  int32
	Attributes int16 // The lowest three bits are the compression.
	Producer   int64
	Records    []Record
	Count      int32  // Zero means the number of Records.
	Tail       []byte // Bytes after the records.
}

// Record is a record of a Batch.
type Record struct {
	Delta      int64
	Key, Value string
}

// Attributes of a batch.
const (
	Transactional = 1 << 4
	Control       = 1 << 5
)

// The header of a batch.
const (
	HeadBytes = 61
	crcAt     = 17
	crcFrom   = 21
)

// Times of every batch, in milliseconds: that of its first record, and the latest.
const (
	FirstTime = 1000
	MaxTime   = 2000
)

// Encode returns the bytes of the batch.
func (b Batch) Encode() []byte {
	var body []byte
	for _, r := range b.Records {
		one := []byte{0}
		one = binary.AppendVarint(one, 1)
		one = binary.AppendVarint(one, r.Delta)
		for _, s := range []string{r.Key, r.Value} {
			one = binary.AppendVarint(one, int64(len(s)))
			one = append(one, s...)
		}
		one = binary.AppendVarint(one, 0)
		body = binary.AppendVarint(body, int64(len(one)))
		body = append(body, one...)
	}
	body = append(body, b.Tail...)
	if c := compress.Compression(b.Attributes & 7); c != compress.None {
		var out bytes.Buffer
		w := c.Codec().NewWriter(&out)
		_, _ = w.Write(body)
		_ = w.Close()
		body = out.Bytes()
	}
	if b.Count == 0 {
		b.Count = int32(len(b.Records))
	}
	return b.EncodeBody(body)
}

// EncodeBody returns the bytes of a batch whose records are encoded and compressed already.
func (b Batch) EncodeBody(body []byte) []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(b.Base))
	out = binary.BigEndian.AppendUint32(out, uint32(HeadBytes-12+len(body)))
	out = binary.BigEndian.AppendUint32(out, 7) // Leader epoch.
	out = append(out, 2, 0, 0, 0, 0)            // Format, and room for the checksum.
	out = binary.BigEndian.AppendUint16(out, uint16(b.Attributes))
	out = binary.BigEndian.AppendUint32(out, uint32(b.LastDelta))
	out = binary.BigEndian.AppendUint64(out, FirstTime)
	out = binary.BigEndian.AppendUint64(out, MaxTime)
	out = binary.BigEndian.AppendUint64(out, uint64(b.Producer))
	out = binary.BigEndian.AppendUint16(out, 0)
	out = binary.BigEndian.AppendUint32(out, 0)
	out = binary.BigEndian.AppendUint32(out, uint32(b.Count))
	out = append(out, body...)
	Reseal(out)
	return out
}

// Reseal writes the checksum of an encoded batch anew.
func Reseal(batch []byte) {
	binary.BigEndian.PutUint32(batch[crcAt:], crc32.Checksum(batch[crcFrom:], crc32.MakeTable(crc32.Castagnoli)))
}

// Numbered returns a batch of n records whose values are their offsets.
func Numbered(base int64, n int) Batch {
	b := Batch{Base: base, LastDelta: int32(n - 1), Producer: -1}
	for i := range n {
		b.Records = append(b.Records, Record{Delta: int64(i), Value: fmt.Sprint(base + int64(i))})
	}
	return b
}

// Marker returns the marker that ends a transaction of the producer.
func Marker(base, producer int64, commit bool) Batch {
	key := "\x00\x00\x00\x00"
	if commit {
		key = "\x00\x00\x00\x01"
	}
	return Batch{Base: base, Attributes: Transactional | Control, Producer: producer,
		Records: []Record{{Key: key, Value: "\x00\x00\x00\x00\x00\x00"}}}
}

// Join encodes batches one after the other.
func Join(batches ...Batch) (out []byte) {
	for _, b := range batches {
		out = append(out, b.Encode()...)
	}
	return out
}
