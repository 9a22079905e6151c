package epoll

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func newPoller(t testing.TB, eventsMax int) *Poller {
	t.Helper()
	p, err := New(eventsMax)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func socketPair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { Close(fds[0]) })
	return fds[0], fds[1]
}

func TestEvents(t *testing.T) {
	p := newPoller(t, 8)
	a, b := socketPair(t)
	defer Close(b)
	require.NoError(t, p.Add(a, Readable, 7, 42))
	require.ErrorIs(t, p.Add(a, Readable, 7, 42), unix.EEXIST)
	require.ErrorIs(t, p.Modify(b, Readable, 7, 42), unix.ENOENT)
	events, woken, err := p.Wait(false)
	require.NoError(t, err)
	require.Empty(t, events)
	require.False(t, woken)

	_, err = Write(b, []byte("x"))
	require.NoError(t, err)
	for range 2 { // Level-triggered: it stays.
		events, woken, err = p.Wait(true)
		require.NoError(t, err)
		require.False(t, woken)
		require.Len(t, events, 1)
		require.EqualValues(t, 7, events[0].Fd)
		require.EqualValues(t, 42, events[0].Pad)
		require.NotZero(t, events[0].Events&Readable)
	}
	require.NoError(t, p.Modify(a, Writable, 8, 43))
	events, _, err = p.Wait(true)
	require.NoError(t, err)
	require.EqualValues(t, 8, events[0].Fd)
	require.NotZero(t, events[0].Events&Writable)
}

// More descriptors are ready than fit: the others come with the next calls.
func TestManyEvents(t *testing.T) {
	p := newPoller(t, 3)
	seen := make(map[int32]bool)
	for key := range int32(10) {
		a, b := socketPair(t)
		t.Cleanup(func() { Close(b) })
		require.NoError(t, p.Add(a, Readable, key, 0))
		_, err := Write(b, []byte("x"))
		require.NoError(t, err)
	}
	p.Wake()
	for len(seen) < 10 {
		events, _, err := p.Wait(true)
		require.NoError(t, err)
		require.LessOrEqual(t, len(events), 3)
		for _, ev := range events {
			seen[ev.Fd] = true
		}
	}
}

// A wake-up before, during or after the decision to wait is never lost.
func TestWake(t *testing.T) {
	p := newPoller(t, 8)
	p.Wake()
	events, _, err := p.Wait(true) // Returns at once.
	require.NoError(t, err)
	require.Empty(t, events)

	const rounds = 20_000
	woken := make(chan struct{})
	go func() {
		for range rounds {
			p.Wake()
			select {
			case <-woken:
			case <-time.After(20 * time.Second):
				t.Error("a wake-up was lost")
				return
			}
		}
	}()
	for range rounds {
		_, _, err := p.Wait(true)
		require.NoError(t, err)
		woken <- struct{}{}
	}
}

func TestWakeCounts(t *testing.T) {
	p := newPoller(t, 8)
	waiting := make(chan struct{})
	go func() {
		<-waiting
		for p.state.Load() != stateWaiting {
			time.Sleep(time.Millisecond)
		}
		p.Wake()
	}()
	close(waiting)
	_, woken, err := p.Wait(true)
	require.NoError(t, err)
	require.True(t, woken)
}

// A wake-up that comes when the wait has ended otherwise costs one look without waiting, and nothing else.
func TestWakeWithEvents(t *testing.T) {
	p := newPoller(t, 8)
	a, b := socketPair(t)
	defer Close(b)
	require.NoError(t, p.Add(a, Readable, 7, 0))
	for range 1000 {
		written := make(chan struct{})
		go func() {
			defer close(written)
			p.Wake()
			_, err := Write(b, []byte("x"))
			if err != nil {
				t.Error(err)
			}
			p.Wake()
		}()
		var events []Event
		for looks := 0; len(events) == 0; looks++ {
			var err error
			events, _, err = p.Wait(true)
			require.NoError(t, err)
			require.Less(t, looks, 4)
		}
		require.EqualValues(t, 7, events[0].Fd)
		_, err := Read(a, make([]byte, 8))
		require.NoError(t, err)
		<-written
	}
	// Each Wake has been answered: nothing cuts the next wait short but this one.
	for range 3 {
		if _, woken, err := p.Wait(false); err != nil || woken {
			t.Fatal(woken, err)
		}
	}
}

func TestReadWrite(t *testing.T) {
	a, b := socketPair(t)
	buf := make([]byte, 10)
	_, err := Read(a, buf)
	require.Equal(t, unix.EAGAIN, err)
	var v Iovecs
	require.True(t, v.Add([]byte("one ")))
	require.True(t, v.Add([]byte("two")))
	n, err := v.Writev(b)
	require.NoError(t, err)
	require.Equal(t, 7, n)
	n, err = Read(a, buf)
	require.NoError(t, err)
	require.Equal(t, "one two", string(buf[:n]))
	v.Reset()
	for range IovecsMax {
		require.True(t, v.Add([]byte("x")))
	}
	require.False(t, v.Add([]byte("y")), "full")
	n, err = v.Writev(b)
	require.NoError(t, err)
	require.Equal(t, IovecsMax, n)

	for { // Until the kernel takes no more.
		if _, err = Write(b, bytes.Repeat([]byte("z"), 1<<16)); err != nil {
			break
		}
	}
	require.Equal(t, unix.EAGAIN, err)
	_, err = v.Writev(b)
	require.Equal(t, unix.EAGAIN, err)
	CloseWrite(b)
	_, err = Write(b, []byte("x"))
	require.Equal(t, unix.EPIPE, err)
	Close(b)
	for {
		if n, err = Read(a, make([]byte, 1<<16)); n == 0 {
			break
		}
	}
	require.NoError(t, err, "the end")
	_, err = Read(-1, buf)
	require.Equal(t, unix.EBADF, err)
}

// tcpPair returns both ends of a TCP connection over loopback.
func tcpPair(t testing.TB) (a, b int) {
	t.Helper()
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(listener)
	require.NoError(t, unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(listener, 1))
	name, err := unix.Getsockname(listener)
	require.NoError(t, err)
	b, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { Close(b) })
	require.NoError(t, unix.SetsockoptInt(b, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	require.NoError(t, unix.Connect(b, name))
	a, err = Accept(listener)
	require.NoError(t, err)
	t.Cleanup(func() { Close(a) })
	return a, b
}

// A socket with a low-water mark is reported when that many bytes are there, and at the end.
func TestLowWater(t *testing.T) {
	p := newPoller(t, 8)
	a, b := tcpPair(t)
	const mark = 30 // The kernel sends no more of such segments until it has an acknowledgement, which may take 40 ms.
	SetLowWater(a, mark)
	require.NoError(t, p.Add(a, Readable, 1, 0))
	ready := func() bool {
		events, _, err := p.Wait(false)
		require.NoError(t, err)
		return len(events) > 0
	}
	becomesReady := func() {
		for wait := time.Now().Add(20 * time.Second); !ready(); time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(wait))
		}
	}
	for n := range mark {
		require.False(t, ready(), n)
		_, err := Write(b, []byte("x"))
		require.NoError(t, err)
	}
	becomesReady()
	n, err := Read(a, make([]byte, 4096))
	require.NoError(t, err)
	require.Equal(t, mark, n)
	_, err = Write(b, []byte("x"))
	require.NoError(t, err)
	require.False(t, ready())
	SetLowWater(a, 1)
	becomesReady()
	SetLowWater(a, mark)
	require.False(t, ready())
	CloseWrite(b)
	becomesReady()
}

func TestAcceptReset(t *testing.T) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(listener)
	require.NoError(t, unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(listener, 1))
	_, err = Accept(listener)
	require.Equal(t, unix.EAGAIN, err)
	name, err := unix.Getsockname(listener)
	require.NoError(t, err)
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer Close(client)
	require.NoError(t, unix.Connect(client, name))
	fd, err := Accept(listener)
	require.NoError(t, err)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.O_NONBLOCK)
	flags, err = unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	require.NoError(t, err)
	require.NotZero(t, flags&unix.FD_CLOEXEC)
	_, err = Write(fd, []byte("lost"))
	require.NoError(t, err)
	Reset(fd)
	require.Eventually(t, func() bool {
		_, err := unix.Write(client, []byte("x"))
		return err != nil
	}, 10*time.Second, time.Millisecond)
}

func TestMonotonic(t *testing.T) {
	a := Monotonic()
	require.NotZero(t, a)
	require.GreaterOrEqual(t, Monotonic(), a)
}

// What a wake-up costs the one who wakes, when the loop runs and when it waits.
func BenchmarkWake(b *testing.B) {
	b.Run("running", func(b *testing.B) {
		p := newPoller(b, 8)
		for b.Loop() {
			p.Wake()
		}
	})
	b.Run("waiting", func(b *testing.B) { // With the loop's way out of the wait and back.
		p := newPoller(b, 8)
		woken := make(chan struct{})
		go func() {
			defer close(woken)
			for range b.N {
				if _, _, err := p.Wait(true); err != nil {
					b.Error(err)
				}
				woken <- struct{}{}
			}
		}()
		for range b.N {
			for p.state.Load() != stateWaiting {
				runtime.Gosched()
			}
			p.Wake()
			<-woken
		}
		<-woken
	})
}
