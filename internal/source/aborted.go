package source

import (
	"encoding/binary"
	"sort"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// abortedSet follows, through the batches of one partition in one response, which producers are inside an aborted transaction.
// The broker lists every aborted transaction that overlaps the response with its first offset; its abort marker ends it. A fetcher
// owns one and uses it again.
type abortedSet struct {
	coming []kmsg.FetchResponseTopicPartitionAbortedTransaction // By first offset.
	open   []int64                                              // Producer ids; few.
}

func (a *abortedSet) reset(list []kmsg.FetchResponseTopicPartitionAbortedTransaction) {
	sort.Slice(list, func(i, j int) bool { return list[i].FirstOffset < list[j].FirstOffset })
	a.coming, a.open = list, a.open[:0]
}

// advance takes in the transactions that begin up to the batch's last offset.
func (a *abortedSet) advance(last int64) {
	for len(a.coming) > 0 && a.coming[0].FirstOffset <= last {
		a.open = append(a.open, a.coming[0].ProducerID)
		a.coming = a.coming[1:]
	}
}

// drops reports whether the batch belongs to an aborted transaction.
func (a *abortedSet) drops(bt *batch) bool {
	if !bt.attributes.Transactional() {
		return false
	}
	for _, id := range a.open {
		if id == bt.producerID {
			return true
		}
	}
	return false
}

// marker takes the control batch's record: an abort marker ends the producer's aborted transaction.
func (a *abortedSet) marker(bt *batch, r *record) {
	const abort = 0
	if len(r.key) < 4 || binary.BigEndian.Uint16(r.key[2:]) != abort {
		return
	}
	for i, id := range a.open {
		if id == bt.producerID {
			a.open = append(a.open[:i], a.open[i+1:]...)
			return
		}
	}
}
