package kafka

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AbortedTransaction is an entry of the list that a broker sends with a partition's batches.
type AbortedTransaction = kmsg.FetchResponseTopicPartitionAbortedTransaction

// abortedSet follows, from batch to batch, which producers are inside an aborted transaction. The broker lists every
// aborted transaction that overlaps the response, with its first offset. The transaction's abort marker ends it.
type abortedSet struct {
	coming []AbortedTransaction // By first offset.
	open   []int64              // Producer ids. There are few.
}

// reset begins with a response. It sorts the list.
func (a *abortedSet) reset(list []AbortedTransaction) {
	slices.SortFunc(list, func(x, y AbortedTransaction) int { return cmp.Compare(x.FirstOffset, y.FirstOffset) })
	a.coming, a.open = list, a.open[:0]
}

// kindOf returns what the next batch holds, and notes what it means for those after it.
func (a *abortedSet) kindOf(b *Batch) BatchKind {
	for len(a.coming) > 0 && a.coming[0].FirstOffset <= b.Last() {
		a.open = append(a.open, a.coming[0].ProducerID)
		a.coming = a.coming[1:]
	}
	switch {
	case b.attributes&attrControl != 0:
		if abortsTransaction(b) {
			if i := slices.Index(a.open, b.producerID); i >= 0 {
				a.open = slices.Delete(a.open, i, i+1)
			}
		}
		return BatchMarker
	case b.attributes&attrTransactional != 0 && slices.Contains(a.open, b.producerID):
		return BatchAborted
	}
	return BatchRecords
}

// abortsTransaction reports whether a control batch holds an abort marker.
func abortsTransaction(b *Batch) bool {
	const abort = 0
	size, body, ok := Varint(b.records)
	if !ok || size < 1 || size > int64(len(body)) {
		return false
	}
	var marker Record
	if marker.parse(body[:size], b) != nil || len(marker.Key) < 4 {
		return false
	}
	return binary.BigEndian.Uint16(marker.Key[2:]) == abort
}
