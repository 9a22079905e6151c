package epoll

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// loopWait is how a loop waits.
type loopWait interface {
	Wait(block bool) (events []Event, woken bool, err error)
	Wake()
	Add(fd int, ready uint32, key, tag int32) error
	Close() error
}

// blocker waits in epoll_wait, where it holds a thread, and is woken by an eventfd.
type blocker struct {
	fd, wakeFD int
	buf        []Event
}

const blockerWake = -1

func newBlocker(tb testing.TB) *blocker {
	tb.Helper()
	w := &blocker{buf: make([]Event, 64)}
	var err error
	w.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	require.NoError(tb, err)
	w.wakeFD, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	require.NoError(tb, err)
	require.NoError(tb, w.Add(w.wakeFD, Readable, blockerWake, 0))
	return w
}

func (w *blocker) Add(fd int, ready uint32, key, tag int32) error {
	return unix.EpollCtl(w.fd, unix.EPOLL_CTL_ADD, fd, &Event{Events: ready, Fd: key, Pad: tag})
}

func (w *blocker) Wake() {
	_, _ = Write(w.wakeFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (w *blocker) Wait(bool) (events []Event, woken bool, err error) {
	n, err := unix.EpollWait(w.fd, w.buf, -1)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.EpollWait(w.fd, w.buf, -1)
	}
	for _, ev := range w.buf[:max(n, 0)] {
		if ev.Fd == blockerWake {
			var count [8]byte
			_, _ = Read(w.wakeFD, count[:])
			woken = true
		} else {
			events = append(events, ev)
		}
	}
	return events, woken, err
}

func (w *blocker) Close() error {
	Close(w.wakeFD)
	return unix.Close(w.fd)
}

// BenchmarkWait compares how loops may wait: parked in Go's poller, as Poller does; blocking in epoll_wait, with a thread for each
// loop that waits; the same on a locked thread. A client in a process of its own makes one loop or all of them work at a time and
// waits for their bytes:
//
//   - ask: it writes to a loop's socket, and the loop writes back;
//   - wake: it writes to a goroutine that waits as one that reads Kafka does, and that wakes one loop, which writes;
//   - fan: the same for all loops.
//
// cpu-ns/op is this process's CPU for a loop's answer, p99-µs the client's wait for all that it has made work. Pin it for one core:
// taskset -c 0 go test -cpu 1.
func BenchmarkWait(b *testing.B) {
	for _, what := range []string{"ask", "wake", "fan"} {
		for _, loops := range []int{1, 7, 64} {
			for _, how := range []string{"parked", "blocking", "locked"} {
				b.Run(fmt.Sprintf("%s/loops=%d/%s", what, loops, how), func(b *testing.B) { benchmarkWait(b, what, loops, how) })
			}
		}
	}
}

func benchmarkWait(b *testing.B, what string, loops int, how string) {
	var running sync.WaitGroup
	client := exec.Command("/proc/self/exe", "-test.run=^TestWaitClient$")
	client.Env = append(os.Environ(), "WSD_WAIT_CLIENT="+fmt.Sprint(what, " ", loops, " ", b.N))
	waits := make([]loopWait, loops)
	for i := range waits {
		ours, theirs := socketPair(b)
		b.Cleanup(func() { Close(theirs) })
		client.ExtraFiles = append(client.ExtraFiles, os.NewFile(uintptr(mustDup(b, theirs)), "loop"))
		if how == "parked" {
			waits[i] = newPoller(b, 64)
		} else {
			w := newBlocker(b)
			b.Cleanup(func() { _ = w.Close() })
			waits[i] = w
		}
		require.NoError(b, waits[i].Add(ours, Readable, int32(ours), 0))
		running.Go(func() { serveLoop(waits[i], ours, how == "locked") })
	}
	records, sender, err := os.Pipe()
	require.NoError(b, err)
	client.ExtraFiles = append(client.ExtraFiles, sender)
	running.Go(func() { wakeLoops(records, waits) })
	said, err := client.StdoutPipe()
	require.NoError(b, err)

	require.NoError(b, client.Start())
	for _, f := range client.ExtraFiles {
		require.NoError(b, f.Close())
	}
	ready := make([]byte, 1)
	_, err = io.ReadFull(said, ready)
	require.NoError(b, err)
	before := cpuTime(b)
	b.ResetTimer()
	text, err := io.ReadAll(said) // Until the client has ended.
	b.StopTimer()
	used := cpuTime(b) - before
	require.NoError(b, err)
	require.NoError(b, client.Wait())
	running.Wait()

	var p99, answers int64
	_, err = fmt.Sscan(string(text), &p99, &answers)
	require.NoError(b, err)
	b.ReportMetric(float64(used)/float64(answers), "cpu-ns/op")
	b.ReportMetric(float64(p99)/1000, "p99-µs")
}

func mustDup(tb testing.TB, fd int) int {
	tb.Helper()
	fd, err := unix.Dup(fd)
	require.NoError(tb, err)
	return fd
}

// serveLoop writes a byte for each that comes and for each wake-up, until a 0 comes.
func serveLoop(w loopWait, fd int, locked bool) {
	if locked {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	buf := make([]byte, 1)
	for {
		events, woken, err := w.Wait(true)
		if err != nil {
			return
		}
		if woken || len(events) == 0 { // Without both: woken before it waited.
			buf[0] = 1
			_, _ = Write(fd, buf)
		}
		if len(events) > 0 {
			if n, err := Read(fd, buf); n == 0 || err != nil || buf[0] == 0 {
				return
			}
			_, _ = Write(fd, buf)
		}
	}
}

// wakeLoops wakes the loops that the bytes from records name, 255 for all, until there are no more.
func wakeLoops(records *os.File, waits []loopWait) {
	defer records.Close()
	buf := make([]byte, 1)
	for {
		if n, err := records.Read(buf); n == 0 || err != nil {
			return
		}
		if buf[0] < 255 {
			waits[buf[0]].Wake()
			continue
		}
		for _, w := range waits {
			w.Wake()
		}
	}
}

// TestWaitClient is the client of BenchmarkWait, and tests nothing.
func TestWaitClient(t *testing.T) {
	var what string
	var loops, rounds int
	if _, err := fmt.Sscan(os.Getenv("WSD_WAIT_CLIENT"), &what, &loops, &rounds); err != nil {
		t.Skip("the client of BenchmarkWait")
	}
	var cpus unix.CPUSet
	cpus.Set(runtime.NumCPU() - 1)
	runtime.LockOSThread()
	_ = unix.SchedSetaffinity(0, &cpus) // Where that is not allowed, it shares the benchmark's CPUs.

	const firstFD = 3
	records := firstFD + loops
	for fd := firstFD; fd <= records; fd++ {
		require.NoError(t, unix.SetNonblock(fd, false))
	}
	took := make([]int64, 0, rounds)
	answers := 0
	buf := make([]byte, 1)
	fmt.Print("r")
	for i := range rounds {
		began := Monotonic()
		loop := (i*7919 + i>>3) % loops // Not in their order, so that nothing learns it.
		switch what {
		case "ask":
			buf[0] = 1
			_, _ = Write(firstFD+loop, buf)
		case "wake":
			buf[0] = byte(loop)
			_, _ = Write(records, buf)
		case "fan":
			buf[0] = 255
			_, _ = Write(records, buf)
		}
		for fd := firstFD; fd < records; fd++ {
			if what == "fan" || fd == firstFD+loop {
				_, err := Read(fd, buf)
				require.NoError(t, err)
				answers++
			}
		}
		took = append(took, int64(Monotonic()-began))
	}
	slices.Sort(took)
	fmt.Println(took[(len(took)-1)*99/100], answers)
	for fd := firstFD; fd < records; fd++ {
		_, _ = Write(fd, []byte{0})
	}
	os.Exit(0) // Nothing more is to be printed.
}

// cpuTime is what the process has used, in nanoseconds.
func cpuTime(tb testing.TB) int64 {
	tb.Helper()
	var now unix.Timespec
	require.NoError(tb, unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now))
	return now.Nano()
}
