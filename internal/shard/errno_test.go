package shard

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/testutil"
	"wsd/internal/wire"
)

// failing turns the loop over once while the kernel lets the given calls fail.
func (r *rig) failing(calls ...testutil.FailedCall) {
	r.t.Helper()
	testutil.WithFailedCalls(r.t, calls, func() { r.shard.turnOver(false) })
	check(r.t, r.shard)
}

// When the kernel has no memory for a connection, clients wait in the backlog, those that are connected are served, and
// the shard goes on when it has.
func TestAcceptFails(t *testing.T) {
	notByTLS(t, handshakeWaits)
	for _, errno := range []unix.Errno{unix.ENOMEM, unix.ENOBUFS, unix.ENFILE} {
		t.Run(errno.Error(), func(t *testing.T) {
			var log testutil.Buffer
			r := newStepped(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			var old *client
			r.during(func() { old = r.dial("/ws?channel=a") })
			accepted := r.shard.stats.Accepted.Load()
			waiting := r.open()
			waiting.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey))
			fault := testutil.FailedCall{Number: unix.SYS_ACCEPT4, FD: -1, Errno: errno}
			for r.shard.stats.AcceptErrors.Load() == 0 {
				r.failing(fault)
			}
			require.EqualValues(t, 1, r.shard.stats.PauseAccepts.Load())
			require.True(t, r.shard.AcceptingPaused())
			r.publish("a", "1")
			r.failing(fault)
			require.Equal(t, "1", old.message(wire.EventText), "who is connected is served")
			errors := r.shard.stats.AcceptErrors.Load()
			r.shard.start = r.shard.start.Add(-2 * acceptPause)
			r.failing(fault)
			require.Equal(t, errors+1, r.shard.stats.AcceptErrors.Load(), "one try a pause")
			require.Equal(t, accepted, r.shard.stats.Accepted.Load())

			r.later(2 * acceptPause)
			r.during(func() {
				status, body := waiting.response()
				require.Equal(t, 101, status, body)
			})
			require.Zero(t, r.shard.stats.PauseAccepts.Load())
			r.publish("a", "2")
			r.step()
			require.Equal(t, "2", waiting.message(wire.EventText))
			require.Equal(t, "2", old.message(wire.EventText))
			require.Equal(t, 1, strings.Count(log.String(), "not accepting"))
			require.Equal(t, 1, strings.Count(log.String(), "accepting resumed"))
			require.Contains(t, log.String(), errno.Error())
		})
	}
}

// When the kernel cannot watch what it has accepted, that connection ends, and the others wait in the backlog rather
// than end like it.
func TestWatchFails(t *testing.T) {
	notByTLS(t, handshakeWaits)
	for _, errno := range []unix.Errno{unix.ENOMEM, unix.ENOSPC} {
		t.Run(errno.Error(), func(t *testing.T) {
			var log testutil.Buffer
			r := newStepped(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			var old *client
			r.during(func() { old = r.dial("/ws?channel=a") })
			var clients []*client
			for range 5 {
				clients = append(clients, r.open())
			}
			r.shard.lastTurn = uint64(longTurn) // Accept all that wait.
			for i := 0; r.shard.stats.AcceptErrors.Load() == 0; i++ {
				require.Less(t, i, 100, "accepting goes on")
				r.failing(testutil.FailedCall{Number: unix.SYS_EPOLL_CTL, FD: -1, Second: unix.EPOLL_CTL_ADD, Errno: errno})
			}
			require.EqualValues(t, 1, r.reason(ReasonInternal))
			require.True(t, r.shard.AcceptingPaused())
			require.Equal(t, 1, r.shard.connections)
			r.publish("a", "1")
			r.step()
			require.Equal(t, "1", old.message(wire.EventText))

			r.later(2 * acceptPause)
			ended, served := 0, 0
			for _, c := range clients {
				if _, err := c.conn.Write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey)); err != nil {
					ended++
					continue
				}
				r.during(func() {
					if _, err := c.in.Peek(1); err != nil {
						ended++
						return
					}
					status, _ := c.response()
					require.Equal(t, 101, status)
					served++
				})
			}
			require.Equal(t, []int{1, 4}, []int{ended, served})
			require.Zero(t, r.shard.stats.PauseAccepts.Load())
			require.Equal(t, 1, strings.Count(log.String(), "not accepting"))
			require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
		})
	}
}

// When the kernel has no memory for what a connection is sent, that one ends, whatever it was about to do, and the
// others get theirs.
func TestSendFails(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENOBUFS, unix.ENOMEM} {
		for name, begin := range map[string]func(r *rig) *client{
			"raw":       func(r *rig) *client { return r.dial("/ws?channel=a") },
			"protocol":  func(r *rig) *client { return r.join("a") },
			"handshake": func(r *rig) *client { return r.open() },
		} {
			t.Run(errno.Error()+" "+name, func(t *testing.T) {
				if name == "handshake" {
					notByTLS(t, handshakeWaits)
				}
				r := newStepped(t, nil)
				var other, victim *client
				r.during(func() { other = r.dial("/ws?channel=a") })
				r.during(func() { victim = begin(r) })
				for r.shard.connections < 2 {
					r.step()
				}
				fd := int(r.shard.slab.get(1).fd)
				dropped := r.shard.stats.Dropped.Load()
				if name == "handshake" {
					victim.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey))
				}
				r.publish("a", "1")
				r.publish("a", "2")
				for i := 0; r.reason(ReasonWriteError) == 0; i++ {
					require.Less(t, i, 1000, "the fault is not met")
					r.failing(testutil.FailedCall{Number: unix.SYS_WRITE, FD: fd, Errno: errno}, testutil.FailedCall{Number: unix.SYS_WRITEV, FD: fd, Errno: errno})
				}
				require.EqualValues(t, 1, r.reason(ReasonWriteError))
				if name != "handshake" {
					require.Equal(t, dropped+2, r.shard.stats.Dropped.Load())
				}
				require.Equal(t, 1, r.shard.connections)
				_, err := io.ReadAll(victim.in)
				require.ErrorIs(t, err, unix.ECONNRESET, "nothing that is cut, and no end in order")
				require.Equal(t, "1", other.message(wire.EventText))
				require.Equal(t, "2", other.message(wire.EventText))
				r.publish("a", "3")
				r.step()
				require.Equal(t, "3", other.message(wire.EventText))
			})
		}
	}
}
