package shard

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// Completions come back in the order in which they were posted, each once, and find the connection by slot and
// generation.
func TestInboxOrder(t *testing.T) {
	in := inbox{wake: func() {}, memory: new(Memory)}
	c := &conn{transport: transport{slot: 3}, generation: 7}
	var got []int
	for n := range 5 {
		in.begin(c).post(n, false, func(*conn, bool) { got = append(got, n) })
	}
	require.Equal(t, signalCompletions, in.takeSignals())
	require.Zero(t, in.takeSignals())
	list := in.takeCompletions(nil)
	require.Len(t, list, 5)
	for n, k := range list {
		require.Equal(t, connRef{3, 7}, k.conn)
		require.Equal(t, n, k.bytes)
		k.run(c, true)
	}
	require.Equal(t, []int{0, 1, 2, 3, 4}, got)
	require.Empty(t, in.takeCompletions(nil))
}

// The work under way is bounded, and a place is free again when the result has been taken.
func TestInboxBounded(t *testing.T) {
	in := inbox{wake: func() {}, memory: new(Memory), expected: inboxMax - 1}
	c := &conn{}
	last := in.begin(c)
	require.NotNil(t, last)
	require.Nil(t, in.begin(c), "too much work is under way")
	last.post(0, false, nil)
	require.Nil(t, in.begin(c), "its result has not been taken")
	require.Len(t, in.takeCompletions(nil), 1)
	require.Nil(t, in.begin(c), "it has not been acted on")
	in.done(1)
	require.NotNil(t, in.begin(c))
}

// Whatever many goroutines post arrives, each once, while the shard takes.
func TestInboxConcurrent(t *testing.T) {
	const posters, each = 8, 2000
	var wakes atomic.Int64
	in := inbox{wake: func() { wakes.Add(1) }, memory: new(Memory)}
	c := &conn{}
	work := make(chan *completion, posters*each)
	for range posters * each {
		work <- in.begin(c)
	}
	close(work)
	var running sync.WaitGroup
	for range posters {
		running.Go(func() {
			for k := range work {
				k.post(1, false, func(*conn, bool) {})
			}
		})
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	taken := 0
	for finished := false; !finished; {
		select {
		case <-done:
			finished = true
		default:
		}
		if in.takeSignals()&signalCompletions != 0 {
			taken += len(in.takeCompletions(nil))
		}
	}
	require.Equal(t, posters*each, taken)
	in.done(taken)
	require.Zero(t, in.expected)
	require.EqualValues(t, posters*each, wakes.Load(), "whether a wake-up costs anything is up to the poller")
}

// A result for a connection that has gone, or whose slot has another one, is dropped.
func TestCompletionForGone(t *testing.T) {
	r := newStepped(t, nil)
	var first *client
	r.during(func() { first = r.join("a") })
	k := r.shard.inbox.begin(r.shard.slab.get(0))
	require.NoError(t, first.conn.Close())
	eventually(t, "gone", func() bool { r.step(); return r.shard.connections == 0 })
	r.during(func() { r.join("a") })
	require.True(t, r.shard.slab.get(0).isClient(), "the slot has another connection")
	k.post(100, true, func(*conn, bool) { t.Error("it ran for another connection") })
	r.step()
	require.Zero(t, r.shard.sender.parkedBytes)
}

// A completion that waits for its client holds its own result in memory, and not those of others.
func TestCompletionHoldsItsOwnResult(t *testing.T) {
	in := &inbox{wake: func() {}, memory: &Memory{Limit: 1 << 20}}
	for range 3 {
		in.begin(&conn{}).post(1, true, func(*conn, bool) {})
	}
	list := in.takeCompletions(nil)
	require.Len(t, list, 3)
	for _, k := range list {
		require.Nil(t, k.next)
	}
}
