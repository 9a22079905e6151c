package shard

import (
	"fmt"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/deflate"
	"wsd/internal/epoll"
)

// BenchmarkFanout compares a delivery through the shard, from the bus to the socket, with what the kernel alone takes
// for the same bytes to the same number of sockets: one write a client in a plain loop. Both count the process's CPU;
// the clients are sockets that are emptied by nobody but the kernel's receive buffer, drained between rounds and not
// counted.
func BenchmarkFanout(b *testing.B) {
	const clients = 1000
	for _, batch := range []int{1, 10} {
		b.Run(fmt.Sprintf("records=%d", batch), func(b *testing.B) {
			r := newRigStalling(b, waitMax, nil) // On a busy machine the bus would detach it for ever.
			var fds []int
			for range clients {
				c := r.dial("/ws?channel=a")
				fds = append(fds, rawFD(b, c.conn))
			}
			values := make([]string, batch)
			for i := range values {
				values[i] = fmt.Sprintf(`{"n":"%0118d"}`, i)
			}
			payload := make([]byte, batch*130)
			pairs := socketPairs(b, clients)
			buf := make([]byte, 1<<16)
			stats := r.shard.Stats()
			var ours, floor time.Duration
			for b.Loop() {
				target := stats.Deliveries.Load() + uint64(clients*batch)
				before := cpu(b)
				r.publish("a", values...)
				for stats.Deliveries.Load() < target {
					time.Sleep(100 * time.Microsecond)
				}
				ours += cpu(b) - before
				drainAll(fds, buf)

				before = cpu(b)
				for _, p := range pairs {
					if n, err := epoll.Write(p[0], payload); n != len(payload) || err != nil {
						b.Fatal(n, err)
					}
				}
				floor += cpu(b) - before
				for _, p := range pairs {
					_, _ = epoll.Read(p[1], buf)
				}
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N*clients), "ns/write")
			b.ReportMetric(float64(floor.Nanoseconds())/float64(b.N*clients), "floor-ns/write")
			b.ReportMetric(float64(ours)/float64(floor), "ratio")
		})
	}
}

// BenchmarkIdleMemory reports the heap that an idle subscribed connection holds.
func BenchmarkIdleMemory(b *testing.B) {
	for _, kind := range []string{"raw", "protocol"} {
		b.Run(kind, func(b *testing.B) {
			const clients = 4096
			for b.Loop() {
				r := newRig(b, nil)
				heap := func() uint64 {
					var m runtime.MemStats
					runtime.GC()
					runtime.GC()
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				fds := make([]net.Conn, 0, clients)
				one := r.dial("/ws?channel=a") // What the first connection alone brings.
				before := heap()
				for range clients {
					var c *client
					if kind == "raw" {
						c = r.dial("/ws?channel=a")
					} else {
						c = r.join("a")
					}
					fds = append(fds, c.conn)
					*c = client{}
				}
				perConnection := float64(heap()-before) / clients
				// The test's own half of each connection: measured by opening as many plain ones.
				b.ReportMetric(perConnection-ownHalf(b, clients), "B/conn")
				for _, c := range fds {
					_ = c.Close()
				}
				_ = one.conn.Close()
				r.stop(waitMax)
			}
		})
	}
}

// ownHalf is the heap that the client's side of a connection takes in this process.
func ownHalf(b *testing.B, n int) float64 {
	var before, after runtime.MemStats
	fd, address := listenTCP(b, 0)
	defer epoll.Close(fd)
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, n)
	for i := range conns {
		var err error
		conns[i], err = net.Dial("tcp", address)
		require.NoError(b, err)
		b.Cleanup(func() { _ = conns[i].Close() })
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	return float64(after.HeapAlloc-before.HeapAlloc) / float64(n)
}

func rawFD(b testing.TB, c net.Conn) (fd int) {
	raw, err := tcp(c).SyscallConn()
	require.NoError(b, err)
	require.NoError(b, raw.Control(func(n uintptr) { fd = int(n) }))
	return fd
}

// socketPairs connects n pairs over loopback TCP as the shard's are.
func socketPairs(b testing.TB, n int) [][2]int {
	listener, address := listenTCP(b, 0)
	defer epoll.Close(listener)
	pairs := make([][2]int, n)
	for i := range pairs {
		c, err := net.Dial("tcp", address)
		require.NoError(b, err)
		b.Cleanup(func() { _ = c.Close() })
		fd, err := epoll.Accept(listener)
		require.NoError(b, err)
		b.Cleanup(func() { epoll.Close(fd) })
		pairs[i] = [2]int{fd, rawFD(b, c)}
	}
	return pairs
}

func cpu(b testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkFanoutDeflate reports CPU and bytes of a delivery to clients with and without compression, of records that
// look like market data; every second client of mixed has it.
func BenchmarkFanoutDeflate(b *testing.B) {
	const clients = 500
	pool, err := deflate.New(deflate.Options{Level: 3, Workers: 1, Queue: 16, Inline: 1})
	require.NoError(b, err)
	b.Cleanup(pool.Close)
	for _, kind := range []string{"plain", "compressed", "mixed"} {
		for _, records := range []int{1, 10, 50, 500} {
			b.Run(fmt.Sprintf("%s/records=%d", kind, records), func(b *testing.B) {
				r := newRigStalling(b, waitMax, func(o *Options) { o.Deflate = Deflate{Deflater: pool, Least: 512, Inline: 16 << 10} })
				var fds []int
				for i := range clients {
					if kind == "compressed" || kind == "mixed" && i%2 == 0 {
						fds = append(fds, rawFD(b, r.joinDeflate("a").conn))
					} else {
						fds = append(fds, rawFD(b, r.join("a").conn))
					}
				}
				values := make([]string, records)
				for i := range values {
					values[i] = fmt.Sprintf(`{"symbol":"BTC-USD","price":%d.%02d,"size":%d,"side":"buy","id":"%08x"}`, 60000+i*7%991, i*31%100, i*17%1000, i*2654435761%(1<<32))
				}
				buf := make([]byte, 1<<16)
				stats := r.shard.Stats()
				sent := stats.BytesOut.Load()
				var ours time.Duration
				for b.Loop() {
					target := stats.Deliveries.Load() + uint64(clients*records)
					before := cpu(b)
					r.publish("a", values...)
					for stats.Deliveries.Load() < target {
						time.Sleep(100 * time.Microsecond)
						if records > 100 {
							drainAll(fds, buf) // More than a socket takes; counted alike for all.
						}
					}
					ours += cpu(b) - before
					drainAll(fds, buf)
				}
				b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N*clients), "cpu-ns/client")
				b.ReportMetric(float64(stats.BytesOut.Load()-sent)/float64(b.N*clients), "B/client")
			})
		}
	}
}

func drainAll(fds []int, buf []byte) {
	for _, fd := range fds {
		for {
			if n, err := epoll.Read(fd, buf); n <= 0 || err != nil {
				break
			}
		}
	}
}
