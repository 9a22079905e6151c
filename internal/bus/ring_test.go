package bus

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
)

// waker wakes goroutines as a poller wakes a shard: wake-ups that nobody waits for are kept, as one.
type waker []chan struct{}

func newWaker(shards int) waker {
	w := make(waker, shards)
	for i := range w {
		w[i] = make(chan struct{}, 1)
	}
	return w
}

func (w waker) wake(s routing.ShardID) {
	select {
	case w[s] <- struct{}{}:
	default:
	}
}

func newRing(t testing.TB, o Options) *Ring {
	t.Helper()
	if o.Slots == 0 {
		o.Slots = 8
	}
	if o.BytesMax == 0 {
		o.BytesMax = 1 << 30
	}
	if o.StallMax == 0 {
		o.StallMax = time.Hour
	}
	if o.Wake == nil {
		o.Wake = func(routing.ShardID) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := New(o)
	require.NoError(t, err)
	return r
}

// batchFor makes a batch of one record with a value of that many bytes.
func batchFor(size int, shards ...routing.ShardID) *Batch {
	ch := routing.Channel{ID: 1, Name: "a"}
	for _, s := range shards {
		ch.Shards.Add(s)
	}
	b := NewBuilder(BuilderOptions{RecordsMax: 1, BytesMax: 1})
	b.Add(ch, Record{Value: make([]byte, size)}, time.Now())
	return b.Seal()
}

// Shards that are fast, slow, sometimes stuck, never wanted, or never read: each that reads gets every batch that it is
// interested in once and in order, unless it is told that it was detached, and nobody waits for ever. Both bounds of
// the ring are reached, and at the end the count of bytes is that of the batches still there.
func TestRingModel(t *testing.T) {
	const shards, batches, stuckEvery, stuck, unwanted, unread = 10, 4000, 500, 1, 8, 9
	wake := newWaker(shards)
	r := newRing(t, Options{Shards: shards, Slots: 16, BytesMax: 16_000, StallMax: 3 * time.Millisecond, Wake: wake.wake})
	sets := make([]routing.ShardSet, batches+1) // By sequence; written before Publish.
	var over atomic.Bool
	var detached [shards]int
	var running sync.WaitGroup
	for id := range routing.ShardID(unread) {
		running.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(id)))
			c := r.Cursor(id)
			after, owed := uint64(0), uint64(0) // The last batch accounted for; the first that must come.
			for {
				b, state := c.Next()
				switch state {
				case StateEmpty:
					if over.Load() {
						if _, state := c.Next(); state == StateEmpty {
							checkSkipped(t, sets, id, max(after+1, owed), batches+1)
							return
						}
						continue
					}
					<-wake[id]
				case StateDetached:
					// What is published while the cursor is placed may come or not; from the first that comes on, all
					// must.
					detached[id]++
					after = r.Head() - 1
					c.Reattach()
					owed = r.Head()
				case StateReady:
					if b.Seq <= after || !b.Shards.Has(id) || b.Segments[0].Records[0].Offset != b.Seq {
						t.Errorf("shard %d got batch %d with offset %d after %d", id, b.Seq, b.Segments[0].Records[0].Offset, after)
					}
					checkSkipped(t, sets, id, max(after+1, owed), b.Seq)
					after, owed = b.Seq, 0
					b.Segments[0].Layout(VariantRaw, func(*Segment) []byte { return make([]byte, 100) })
					switch {
					case id == 0 && random.IntN(10) == 0:
						time.Sleep(100 * time.Microsecond)
					case id == stuck && b.Seq%stuckEvery == 0:
						for state == StateReady && !over.Load() {
							time.Sleep(time.Millisecond)
							_, state = c.Next()
						}
					}
					c.Advance()
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	builder := NewBuilder(BuilderOptions{RecordsMax: 10, BytesMax: 100})
	for seq := uint64(1); seq <= batches; seq++ {
		ch := routing.Channel{ID: 1, Name: "a"}
		for id := range routing.ShardID(shards) {
			if id != unwanted && (random.IntN(3) == 0 || id == stuck && seq%stuckEvery == 0) {
				ch.Shards.Add(id)
			}
		}
		sets[seq] = ch.Shards
		builder.Add(ch, Record{Offset: seq, Value: make([]byte, 1+random.IntN(2000))}, time.Now())
		require.NoError(t, r.Publish(t.Context(), builder.Seal()))
	}
	over.Store(true)
	for id := range routing.ShardID(shards) {
		wake.wake(id)
	}
	running.Wait()
	require.GreaterOrEqual(t, detached[stuck], 1, "the stuck shard was never detached")
	require.Zero(t, detached[unwanted])
	require.EqualValues(t, 1, r.Stats().Detached[unread].Load(), "once detached, a shard is waited for no more")
	require.EqualValues(t, batches, r.Stats().Batches.Load())
	for id := range routing.ShardID(shards) {
		var wanted uint64
		for _, set := range sets {
			if set.Has(id) {
				wanted++
			}
		}
		require.Equal(t, wanted, r.Stats().Wakeups[id].Load(), "shard %d", id)
	}
	var held int64
	for i := range r.slots {
		if b := r.slots[i].Load(); b != nil {
			held += int64(b.memory) + b.layoutBytes.Load()
		}
	}
	require.Equal(t, held, r.Stats().RetainedBytes.Load())
	for r.tail < r.head.Load() {
		r.releaseTail()
	}
	require.Zero(t, r.Stats().RetainedBytes.Load(), "all is given back")
}

// checkSkipped checks that the shard wanted nothing from one sequence to below another.
func checkSkipped(t *testing.T, sets []routing.ShardSet, id routing.ShardID, from, to uint64) {
	t.Helper()
	for seq := from; seq < to; seq++ {
		if sets[seq].Has(id) {
			t.Errorf("shard %d missed batch %d", id, seq)
		}
	}
}

// One batch at a time, each waited for: a lost wake-up would stop it.
func TestNoLostWakeup(t *testing.T) {
	wake := newWaker(1)
	r := newRing(t, Options{Shards: 1, Wake: wake.wake})
	const rounds = 100_000
	taken := make(chan uint64)
	go func() {
		c := r.Cursor(0)
		for n := 0; n < rounds; {
			b, state := c.Next()
			if state == StateEmpty {
				<-wake[0]
				continue
			}
			c.Advance()
			n++
			taken <- b.Seq
		}
	}()
	for seq := uint64(1); seq <= rounds; seq++ {
		require.NoError(t, r.Publish(t.Context(), batchFor(1, 0)))
		select {
		case got := <-taken:
			require.Equal(t, seq, got)
		case <-time.After(20 * time.Second):
			require.Fail(t, "a wake-up was lost", "batch %d", seq)
		}
	}
	require.EqualValues(t, rounds, r.Stats().Wakeups[0].Load())
}

// The other way round: a writer that waits for room is told of it, however close the shard's step is to the writer's
// look. The ring stays full and the shard makes one step for each batch, so that no later step makes up for a lost one.
func TestNoLostRoom(t *testing.T) {
	const rounds, slots = 100_000, 2
	r := newRing(t, Options{Shards: 1, Slots: slots})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stuck := time.AfterFunc(20*time.Second, cancel) // Unless a batch more is published meanwhile.
	defer stuck.Stop()
	for range slots {
		require.NoError(t, r.Publish(ctx, batchFor(1, 0)))
	}
	var running sync.WaitGroup
	running.Go(func() {
		random, c := rand.New(rand.NewPCG(1, 2)), r.Cursor(0)
		for head := uint64(slots + 1); head <= slots+rounds; head++ {
			for r.Head() < head && ctx.Err() == nil {
				runtime.Gosched()
			}
			for range random.IntN(200) { // Somewhere in the writer's way from its first look to its sleep.
				_ = c.next.Load()
			}
			c.Advance()
		}
	})
	batch := batchFor(1, 0)
	for range rounds {
		next := &Batch{Segments: batch.Segments, Shards: batch.Shards, memory: batch.memory}
		if err := r.Publish(ctx, next); err != nil {
			require.NoError(t, err, "the writer was not told of room for batch %d", r.Head())
		}
		stuck.Reset(20 * time.Second)
	}
	running.Wait()
	require.NotZero(t, r.Stats().Stalls.Load())
}

// A cursor that the writer overtook while it was placed holds the writer up only until its shard looks.
func TestOvertaken(t *testing.T) {
	r := newRing(t, Options{Shards: 1, Slots: 2})
	c := r.Cursor(0)
	c.next.Store(detached | 1)
	for range 4 {
		require.NoError(t, r.Publish(t.Context(), batchFor(1, 0)))
	}
	c.next.Store(2) // As Reattach leaves it when it has read the head long ago.
	published := make(chan error, 1)
	go func() { published <- r.Publish(t.Context(), batchFor(1, 0)) }()
	require.Eventually(t, r.waiting.Load, 10*time.Second, time.Millisecond)
	_, state := c.Next()
	require.Equal(t, StateDetached, state)
	c.Reattach()
	select {
	case err := <-published:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the writer was not told that the cursor is elsewhere")
	}
	b, state := c.Next()
	require.Equal(t, StateReady, state)
	require.EqualValues(t, 5, b.Seq)
}

func TestOneWakeupPerShard(t *testing.T) {
	var woken [4]int
	r := newRing(t, Options{Shards: 4, Wake: func(s routing.ShardID) { woken[s]++ }})
	b := NewBuilder(BuilderOptions{RecordsMax: 10, BytesMax: 100})
	for i := range 3 { // Several channels, several records.
		ch := routing.Channel{ID: routing.ChannelID(i + 1), Name: fmt.Sprint(i)}
		ch.Shards.Add(1)
		ch.Shards.Add(3)
		b.Add(ch, Record{Value: []byte("v")}, time.Now())
	}
	require.NoError(t, r.Publish(t.Context(), b.Seal()))
	require.Equal(t, [4]int{0, 1, 0, 1}, woken)
	require.Zero(t, r.Cursor(0).Lag())
	require.EqualValues(t, 1, r.Cursor(1).Lag())
	next, _ := r.Cursor(1).Next()
	require.EqualValues(t, 3, r.Cursor(1).Waiting(next))
	require.NoError(t, r.Publish(t.Context(), batchFor(10, 1)))
	require.EqualValues(t, 13, r.Cursor(1).Waiting(next))
	r.Cursor(1).Advance()
	next, _ = r.Cursor(1).Next()
	require.EqualValues(t, 10, r.Cursor(1).Waiting(next))
}

// The ring holds no more bytes than it may, layouts included, and gives them up.
func TestRetainedBytes(t *testing.T) {
	const bytesMax = 100_000
	r := newRing(t, Options{Shards: 1, Slots: 1024, BytesMax: bytesMax})
	c, retained := r.Cursor(0), &r.Stats().RetainedBytes
	published := 0
	for range 500 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		err := r.Publish(ctx, batchFor(1000, 0))
		cancel()
		require.LessOrEqual(t, retained.Load(), int64(bytesMax))
		if err == nil {
			published++
			continue
		}
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Greater(t, retained.Load(), int64(bytesMax/2))
		for range published / 2 {
			b, state := c.Next()
			require.Equal(t, StateReady, state)
			before := retained.Load()
			b.Segments[0].Layout(VariantRaw, func(*Segment) []byte { return make([]byte, 100) })
			require.Equal(t, before+100, retained.Load())
			c.Advance()
			published--
		}
	}
	for {
		if _, state := c.Next(); state == StateEmpty {
			break
		}
		c.Advance()
	}
	big := batchFor(2*bytesMax, 0) // Larger than the ring: it goes in when nothing else is there.
	require.NoError(t, r.Publish(t.Context(), big))
	require.Greater(t, retained.Load(), int64(2*bytesMax))
	c.Advance()
	require.NoError(t, r.Publish(t.Context(), batchFor(10, 0)))
	small := retained.Load()
	require.Less(t, small, int64(2000))
	big.Segments[0].Layout(VariantRaw, func(*Segment) []byte { return make([]byte, 100) })
	require.Equal(t, small, retained.Load(), "a batch that the ring has released is not counted")
}

// What metrics read are copies: they show what the ring decides by, and changing them changes none of its decisions.
func TestStatsAreCopies(t *testing.T) {
	r := newRing(t, Options{Shards: 1, Slots: 4, BytesMax: 10_000})
	c := r.Cursor(0)
	publish := func() *Batch {
		b := batchFor(1000, 0)
		require.NoError(t, r.Publish(t.Context(), b))
		return b
	}
	b := publish()
	b.Segments[0].Layout(VariantRaw, func(*Segment) []byte { return make([]byte, 500) })
	p := b.Hold()
	for range 4 { // The ring releases the first batch.
		c.Advance()
		publish()
	}
	require.True(t, p.Released())
	require.EqualValues(t, 5000, r.stats.Bytes.Load())
	require.Equal(t, r.bytes.Load(), r.stats.Bytes.Load())
	require.Positive(t, r.retained.Load())
	require.Equal(t, r.retained.Load(), r.stats.RetainedBytes.Load())
	require.EqualValues(t, 500, r.held.Load())
	require.Equal(t, r.held.Load(), r.stats.PinnedBytes.Load())

	r.stats.Bytes.Store(1 << 40)
	r.stats.RetainedBytes.Store(1 << 40)
	r.stats.PinnedBytes.Store(1 << 40)
	require.EqualValues(t, 500, c.Held())
	next, state := c.Next()
	require.Equal(t, StateReady, state)
	require.EqualValues(t, 1000, c.Waiting(next))
	require.False(t, r.full(r.head.Load()-1, batchFor(1, 0)), "of bytes")
	require.Equal(t, 1, r.Shards())
}

// A shard that does not move is detached after StallMax; the others go on and nothing is lost to them.
func TestStall(t *testing.T) {
	var log strings.Builder
	r := newRing(t, Options{Shards: 2, Slots: 4, StallMax: time.Millisecond, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	good := r.Cursor(1)
	for seq := uint64(1); seq <= 20; seq++ {
		require.NoError(t, r.Publish(t.Context(), batchFor(1, 0, 1)))
		b, state := good.Next()
		require.Equal(t, StateReady, state)
		require.Equal(t, seq, b.Seq)
		good.Advance()
	}
	require.EqualValues(t, 1, r.Stats().Detached[0].Load())
	require.Zero(t, r.Stats().Detached[1].Load())
	require.EqualValues(t, 1, r.Stats().Stalls.Load())
	require.Contains(t, log.String(), "shard=0")
	stuck := r.Cursor(0)
	_, state := stuck.Next()
	require.Equal(t, StateDetached, state)
	require.EqualValues(t, 20, stuck.Lag())
	stuck.Advance() // Of the batch that it had in hand.
	stuck.Reattach()
	_, state = stuck.Next()
	require.Equal(t, StateEmpty, state)
	require.NoError(t, r.Publish(t.Context(), batchFor(1, 0)))
	b, state := stuck.Next()
	require.Equal(t, StateReady, state)
	require.EqualValues(t, 21, b.Seq)
}

// A writer that waits goes on as soon as the shard moves.
func TestBackPressure(t *testing.T) {
	r := newRing(t, Options{Shards: 1, Slots: 2})
	for range 2 {
		require.NoError(t, r.Publish(t.Context(), batchFor(1, 0)))
	}
	published := make(chan error, 1)
	go func() { published <- r.Publish(t.Context(), batchFor(1, 0)) }()
	require.Eventually(t, func() bool { return r.Stats().Stalls.Load() == 1 }, 10*time.Second, time.Millisecond)
	select {
	case err := <-published:
		require.Fail(t, "the writer did not wait", "%v", err)
	default:
	}
	_, state := r.Cursor(0).Next()
	require.Equal(t, StateReady, state)
	r.Cursor(0).Advance()
	require.NoError(t, <-published)

	ctx, cancel := context.WithCancel(t.Context())
	go func() { published <- r.Publish(ctx, batchFor(1, 0)) }()
	require.Eventually(t, func() bool { return r.Stats().Stalls.Load() == 2 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-published, context.Canceled)
	require.EqualValues(t, 4, r.Head(), "what was not published has no sequence")
}

func TestNewErrors(t *testing.T) {
	good := Options{Shards: 1, Slots: 2, BytesMax: 1, StallMax: 1, Wake: func(routing.ShardID) {}, Logger: slog.New(slog.DiscardHandler)}
	for want, change := range map[string]func(*Options){
		"bus for 0 shards":            func(o *Options) { o.Shards = 0 },
		"bus for 257 shards":          func(o *Options) { o.Shards = 257 },
		"bus.ring_batches":            func(o *Options) { o.Slots = 6 },
		"bus.ring_bytes_max":          func(o *Options) { o.BytesMax = 0 },
		"bus.stall_max":               func(o *Options) { o.StallMax = 0 },
		"without Wake":                func(o *Options) { o.Wake = nil },
		"or Logger":                   func(o *Options) { o.Logger = nil },
		"power of two and at least 2": func(o *Options) { o.Slots = 1 },
	} {
		o := good
		change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, want)
	}
}
