package source

import (
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/kafka"
)

// A record batch of a few kilobytes may hold tens of millions of records. So a partition's part of a response is walked
// in slices, and Source.mu is given up after each: the fetchers of other brokers get their turn. A walk that needs many
// slices is put aside. Its fetcher goes on with the other partitions, and does a slice of it between two fetches. Its
// partition is not fetched meanwhile, so its records stay in order. If too much has been put aside already, the walk is
// given up, and its partition is fetched again when there is a place.

const (
	// sliceWork is the work of a slice, see kafka.Walker.Allow: two to four milliseconds.
	sliceWork = 2 << 20
	// slicesAtOnce is how many slices of a walk are done before the other partitions have their turn. The ordinary
	// response of a partition needs fewer.
	slicesAtOnce = 4
	// walksMax is how many walks a fetcher puts aside. Each of them keeps a response and a decompressor.
	walksMax = 4
	// heldResponses bounds the bytes of the responses that are kept, in multiples of Options.FetchTotalBytes.
	heldResponses = 4
)

// walk is a walk through one partition's part of a response. Its fetcher's goroutine owns it.
type walk struct {
	asked
	rp      *kmsg.FetchResponseTopicPartition
	walker  *kafka.Walker
	bytes   int   // The size of the response that rp is a part of.
	fetched int64 // When that had been read, see stats.Clock.

	begun   bool // There was a slice.
	done    bool // There will be no more.
	open    bool // The walker has paused.
	inBatch bool // The walker has paused inside a batch.
	// Where the partition stood, and in which leader epoch, after the last slice. If that has changed, the rest of the
	// response no longer counts.
	at    int64
	epoch int32
}

// close ends the walk's use of its walker, unless it has paused.
func (w *walk) close() {
	if !w.walker.Paused() {
		w.end()
	}
}

// end ends the walk's use of its walker.
func (w *walk) end() {
	w.walker.Close()
	w.open, w.inBatch = false, false
}

// slice does a slice of a walk.
func (f *fetcher) slice(w *walk) taken {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.takeLocked(w)
}

// takeOne takes a partition's part of a response with this many bytes. A walk that needs many slices is put aside, or
// given up.
func (f *fetcher) takeOne(a asked, rp *kmsg.FetchResponseTopicPartition, bytes int) (r taken) {
	f.walk = walk{asked: a, rp: rp, walker: f.walker, bytes: bytes, fetched: f.fetched}
	for n := 1; ; n++ {
		next := f.slice(&f.walk)
		r.moved, r.starved, r.records, r.err = r.moved || next.moved, next.starved, r.records+next.records, next.err
		if r.err != nil || f.walk.done {
			f.walk.end()
			return r
		}
		if n == slicesAtOnce {
			f.putAside()
			return r
		}
	}
}

// places returns how many more walks through responses of this many bytes may be put aside.
func (f *fetcher) places(bytes int) int {
	held := bytes
	for i := range f.walks {
		held += f.walks[i].bytes
	}
	n := len(f.walks)
	if n > 0 && held > heldResponses*f.s.o.FetchTotalBytes {
		return 0
	}
	return walksMax - n
}

// putAside puts the walk aside that has just had a slice, or gives it up if there is no place.
func (f *fetcher) putAside() {
	if f.places(f.walk.bytes) == 0 {
		f.walk.end()
		f.s.mu.Lock()
		defer f.s.mu.Unlock()
		f.walk.p.awaitsPlace = true
		return
	}
	f.walks = append(f.walks, f.walk)
	if f.walker = f.spare; f.walker == nil {
		f.walker = f.s.newKafkaWalker()
	}
	f.spare, f.keep = nil, true
}

// goOn does a slice of every walk that was put aside, and publishes what they have found. The error is a *publishError.
func (f *fetcher) goOn() error {
	left := f.walks[:0]
	var err error
	for i := range f.walks {
		w := &f.walks[i]
		if err == nil {
			err = f.slice(w).err
		}
		if err != nil || w.done {
			w.end()
			f.spare = w.walker
			continue
		}
		left = append(left, *w)
	}
	clear(f.walks[len(left):])
	if f.walks = left; err != nil {
		return err
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return f.s.router.sealLocked()
}

// dropWalks gives up the walks that were put aside. What is left of them is fetched again.
func (f *fetcher) dropWalks() {
	for i := range f.walks {
		f.walks[i].end()
	}
	clear(f.walks)
	f.walks, f.keep = f.walks[:0], false
}

// walking reports whether a walk through the partition was put aside.
func (f *fetcher) walking(p *partition) bool {
	for i := range f.walks {
		if f.walks[i].p == p {
			return true
		}
	}
	return false
}

func (s *Source) newKafkaWalker() *kafka.Walker {
	return kafka.NewWalker(s.o.BatchBytesMax, s.o.RecordBytesMax)
}
