package shm

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func board(t *testing.T, shards int) (*Board, []int) {
	t.Helper()
	b, file, err := Create(shards)
	require.NoError(t, err)
	var events []int
	for range shards {
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		events = append(events, fd)
	}
	t.Cleanup(func() {
		for _, fd := range events {
			require.NoError(t, unix.Close(fd))
		}
		require.NoError(t, b.Close())
		require.NoError(t, file.Close())
	})
	return b, events
}

// Every reader gets the entries for it, in order and whole, over many turns of the ring; the writer waits for the
// slowest of them.
func TestRing(t *testing.T) {
	b, events := board(t, 3)
	w := b.Ring(1, events)
	var readers sync.WaitGroup
	const entries = 3_000
	for shard := range 3 {
		r := b.Ring(1, nil)
		r.Attach(shard)
		readers.Go(func() {
			next := uint64(0)
			for next < entries {
				found := r.Read(shard, func(p []byte) {
					n := binary.LittleEndian.Uint64(p)
					if n < next || n%3 != 0 && n%3 != uint64(shard) && n != entries-1 || len(p) != length(n) || p[len(p)-1] != byte(n) {
						t.Errorf("shard %d got entry %d of %d bytes after %d", shard, n, len(p), next)
					}
					next = n + 1
				}, func() {})
				if found == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	buf := make([]byte, EntryMax)
	for n := range uint64(entries) {
		p := buf[:length(n)]
		binary.LittleEndian.PutUint64(p, n)
		p[len(p)-1] = byte(n)
		mask := b.All()
		if n%3 != 0 {
			mask = 1 << (n % 3)
		}
		if n == entries-1 {
			mask = b.All()
		}
		require.True(t, w.Write(mask, p, nil))
		w.Commit(mask)
	}
	readers.Wait()
}

func length(n uint64) int {
	if n%1000 == 0 {
		return EntryMax
	}
	return 9 + int(n*7919%4000)
}

// A reader that is gone is not waited for, a stopped writer does not wait at all, and a woken shard is woken once.
func TestRingWaits(t *testing.T) {
	b, events := board(t, 2)
	w := b.Ring(Main, events)
	r := b.Ring(Main, nil)
	r.Attach(0)
	r.Attach(1)
	p := make([]byte, EntryMax)
	stop := make(chan struct{})
	close(stop)
	for w.Write(b.All(), p, stop) {
	}
	b.Forget(1)
	require.False(t, w.Write(b.All(), p, stop), "shard 0 has read nothing")
	require.Positive(t, r.Read(0, func([]byte) {}, func() {}))
	require.True(t, w.Write(b.All(), p, stop))
	b.Sleep(0)
	w.Commit(b.All())
	w.Commit(b.All())
	var count [8]byte
	_, err := unix.Read(events[0], count[:])
	require.NoError(t, err)
	require.EqualValues(t, 1, binary.NativeEndian.Uint64(count[:]))
	_, err = unix.Read(events[1], count[:])
	require.ErrorIs(t, err, unix.EAGAIN)
}

func TestInterest(t *testing.T) {
	b, _ := board(t, 5)
	bucket := Bucket("a")
	require.NotEqual(t, bucket, Bucket("b"))
	b.Want(2, bucket)
	b.Want(4, bucket)
	require.EqualValues(t, 1<<2|1<<4, b.Wanting(bucket))
	b.Forget(4)
	require.EqualValues(t, 1<<2, b.Wanting(bucket))
	b.Leave(2, bucket)
	require.Zero(t, b.Wanting(bucket))
	b.Slot(3).State.Store(Ready)
	b.Slot(1).State.Store(Listening)
	require.EqualValues(t, 1<<3, b.Live(Ready))
	require.EqualValues(t, 1<<3|1<<1, b.Live(Listening))
	require.EqualValues(t, 0b11111, b.All())
}
