package recovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/source"
)

// stepped is a Recovery without workers, whose passes the test makes.
type stepped struct {
	*Recovery
	t testing.TB
	w *worker
}

func (r *rig) stepped(change func(*Options)) *stepped {
	r.t.Helper()
	o := r.o
	if change != nil {
		change(&o)
	}
	recovery, err := New(o)
	require.NoError(r.t, err)
	s := &stepped{recovery, r.t, &worker{r: recovery, reader: r.source.NewReader(recovery.ctx), walker: r.source.NewWalker()}}
	r.t.Cleanup(func() {
		s.w.reader.Close()
		s.Stop()
		require.Zero(r.t, s.Stats().Waiting.Load(), "queries left")
		require.Zero(r.t, s.collected.Load(), "bytes left")
		require.Empty(r.t, s.shares.held, "places of addresses left")
	})
	return s
}

// pass makes a pass over the next lane of a kind, if one waits.
func (s *stepped) pass(kind laneKind) bool {
	l := s.next(kind)
	if l != nil {
		s.w.pass(l)
	}
	return l != nil
}

// ask asks and counts the answer.
func (s *stepped) ask(q bus.Query, answered *int) {
	s.Ask(q, func(a bus.Answer) {
		if a.Result != bus.ResultOK {
			s.t.Errorf("%+v: %v", q, a.Result)
		}
		*answered++
	})
}

// One client is far behind in a channel with few records, so that it needs block after block, and others are near. They
// do not wait for it.
func TestNearClientsDoNotWait(t *testing.T) {
	for name, kept := range map[string]int{"memory": 64 << 20, "Kafka": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kept, nil)
			r.produce(number, "far")
			for range 60 {
				r.produce(padded(50_000), many("filler", 5)...)
			}
			r.produce(number, many("near", 20)...)
			s := r.stepped(func(o *Options) { o.ReadBytesMax, o.Concurrency = 1<<20, 1 }) // Blocks of 256 KiB.
			far, near, before := 0, 0, 0
			q := r.query("far")
			q.After = 1 // Nothing follows, which only the end of the log shows.
			s.ask(q, &far)
			kind := laneNear
			if name == "Kafka" {
				kind = laneFar
				s.pass(laneNear)
			}
			s.pass(kind)
			require.Zero(t, far)
			for ; far == 0; s.pass(kind) {
				q = r.query("near")
				q.After, q.Owner = q.UpTo-1-uint64(before%3), uint64(before)
				s.ask(q, &near)
				s.pass(laneNear)
				if name == "Kafka" {
					s.pass(laneFar)
				}
				before++
				require.Equal(t, before, near, "answered by the next pass")
			}
			require.Greater(t, before, 3, "the far one had a share of several passes")
		})
	}
}

// A client with many queries has its share, and the others have theirs: they are answered by the first passes.
func TestOwnersTakeTurns(t *testing.T) {
	othersHaveTheirs(t, func(q *bus.Query, _, other int) { q.Owner = uint64(1 + other) })
}

// othersHaveTheirs has one asker ask many queries in random order, and others one each, which are answered by the first
// passes. Name says in a query whose it is: other is 0 for the one with many, else from 1 up, and n is the query's number.
func othersHaveTheirs(t *testing.T, name func(q *bus.Query, n, other int)) {
	t.Helper()
	const many, others = 300, 10
	r := newRig(t, 1, 0, nil)
	for n := range many {
		r.produce(padded(20_000), fmt.Sprint(n))
	}
	s := r.stepped(func(o *Options) { o.ReadBytesMax, o.Concurrency = 100_000, 1 }) // A record in a block, and few are kept.
	first, rest := 0, 0
	ask := func(record, n, other int, answered *int) {
		q := r.query(fmt.Sprint(record))
		q.After, q.UpTo = uint64(record), uint64(record)+1
		name(&q, n, other)
		s.ask(q, answered)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for n, record := range random.Perm(many) {
		ask(record, n, 0, &first)
	}
	for n := range others {
		ask(n*many/others, many+n, 1+n, &rest)
	}
	s.pass(laneNear)
	for range (others+1)/passReads + 1 {
		s.pass(laneFar)
	}
	require.Equal(t, others, rest)
	require.Less(t, first, many/2)
	for s.pass(laneFar) || s.pass(laneNear) {
	}
	require.Equal(t, many, first)
}

// A pass is limited, however many queries wait, and those that it has not come to have their share in the next.
func TestPassIsLimited(t *testing.T) {
	const blocks = 3 * passWalks
	r := newRig(t, 1, 0, nil)
	r.produce(number, many("a", blocks)...)
	s := r.stepped(nil)
	st, _ := r.source.Stream("c.a")
	answered := 0
	for n := range blocks {
		q := r.query("a")
		s.past.add(stream{st, q.Epoch}, source.Block{From: int64(n), To: int64(n) + 1}, time.Now())
		q.After, q.UpTo = uint64(n), uint64(n)+1
		s.ask(q, &answered)
	}
	for n := 1; s.pass(laneNear); n++ {
		require.Equal(t, n*passWalks, answered)
	}
	require.Equal(t, blocks, answered)
}

// A thousand clients at different offsets of a partition ask portion by portion. No block is read twice.
func TestReadsAreShared(t *testing.T) {
	const clients, records = 1000, 2000
	r := newRig(t, 1, 0, func(o *Options) { o.ReadBytesMax = 64 << 20 })
	keys := []string{"a", "b", "c", "d"}
	for n := range records / 100 {
		r.produce(padded(4000), slices.Repeat(keys[n%2:n%2+3], 33)...)
		r.produce(padded(4000), "d")
	}
	release := r.holdReads(records)
	var running sync.WaitGroup
	var failed atomic.Int32
	var ask func(q bus.Query, want []bus.Record)
	ask = func(q bus.Query, want []bus.Record) {
		r.Ask(q, func(a bus.Answer) {
			n := len(a.Records)
			if a.Result != bus.ResultOK || n > len(want) || !slices.Equal(offsetsOf(a.Records), offsetsOf(want[:n])) {
				failed.Add(1)
			} else if a.More {
				q.After = a.Through
				ask(q, want[n:])
				return
			} else if n < len(want) {
				failed.Add(1)
			}
			running.Done()
		})
	}
	for n := range clients {
		q := r.query(keys[n%4])
		q.After, q.Owner, q.RecordsMax, q.BytesMax = uint64(n*7919%records), uint64(n), 300, 128<<10
		running.Add(1)
		ask(q, r.held(q.Channel, q.After, q.UpTo))
	}
	release()
	running.Wait()
	require.Zero(t, failed.Load())
	st := r.Stats()
	blocks := 0
	for _, s := range r.past.streams {
		blocks += len(s.blocks)
	}
	t.Logf("%d blocks, %d reads, %d portions, %d passes", blocks, st.Reads.Load(), st.Portions.Load(), st.Passes.Load())
	require.EqualValues(t, blocks, st.Reads.Load())
	require.Greater(t, st.Portions.Load(), uint64(3*clients))
}

// Clients of many channels that all miss much: what the answers being prepared hold stays within the limit, and all get
// their stream. So do those whose records have to be counted.
func TestMemoryOfAnswers(t *testing.T) {
	const channels, each, memory = 20, 30, 100_000
	for name, kept := range map[string]int{"memory": 64 << 20, "Kafka": 0} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, kept, func(o *Options) { o.ReadBytesMax, o.Concurrency = memory, 1 })
			var keys []string
			for n := range channels {
				keys = append(keys, fmt.Sprint(n))
			}
			for range each {
				r.produce(padded(1000), keys...)
			}
			var most atomic.Int64
			var running sync.WaitGroup
			for n, key := range slices.Repeat(keys, 2) {
				q := r.query(key)
				q.After, q.Owner, q.CountMax = channels, uint64(n), n/channels*each // All but the first record.
				running.Go(func() {
					var got []uint64
					for q.After < q.UpTo {
						answer := make(chan bus.Answer, 1)
						r.Ask(q, func(a bus.Answer) {
							for held := r.collected.Load(); held > most.Load(); {
								most.Store(held)
							}
							answer <- a
						})
						a := <-answer
						if a.Result != bus.ResultOK {
							t.Errorf("%+v: %v", q, a.Result)
							return
						}
						if err := checkThrough(q, a, nil); err != nil {
							t.Error(err)
							return
						}
						got = append(got, offsetsOf(a.Records)...)
						q.After, q.CountMax = a.Through, 0
					}
					if !slices.Equal(offsetsOf(r.log[q.Channel][1:]), got) {
						t.Errorf("%s: %v", q.Channel, got)
					}
				})
			}
			running.Wait()
			st := r.Stats()
			t.Logf("%d reads, %d portions, %d passes, at most %d bytes", st.Reads.Load(), st.Portions.Load(), st.Passes.Load(), most.Load())
			// Each worker may take a record too many, and the two queries of a channel count what they share twice.
			require.LessOrEqual(t, most.Load(), int64(2*(memory+2*1000)))
		})
	}
}

// A batch of many records, as large as producers make them, is read once, however few of its offsets a block of the grid
// has.
func TestLargeBatchesAreReadOnce(t *testing.T) {
	const batches, records, size = 6, 400, 2000
	r := newRig(t, 1, 0, func(o *Options) { o.ReadBytesMax = 64 << 20 })
	for range batches {
		r.produce(padded(size), slices.Repeat([]string{"a"}, records)...)
	}
	q := r.query("a")
	q.RecordsMax, q.BytesMax = 200, 64<<10
	want := r.held(q.Channel, 0, q.UpTo)
	require.Len(t, want, batches*records)
	for len(want) > 0 {
		answer := make(chan bus.Answer, 1)
		r.Ask(q, func(a bus.Answer) { answer <- a })
		a := <-answer
		require.Equal(t, bus.ResultOK, a.Result)
		require.NotEmpty(t, a.Records)
		require.Equal(t, offsetsOf(want[:len(a.Records)]), offsetsOf(a.Records))
		want, q.After = want[len(a.Records):], a.Through
	}
	st := r.Stats()
	t.Logf("%d reads of %d bytes", st.Reads.Load(), st.ReadBytes.Load())
	require.LessOrEqual(t, st.Reads.Load(), uint64(2*batches))
	require.LessOrEqual(t, st.ReadBytes.Load(), uint64(2*batches*records*(size+100)))
}
