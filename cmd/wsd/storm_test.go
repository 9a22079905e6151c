package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/command"
)

// SIGTERM comes while clients connect as fast as they can: some by the book, some that say nothing or half of a request,
// some that are reset as soon as they are upgraded. Whoever was upgraded is told, whoever was not is refused, and the
// process ends with 0, by itself.
func TestSigtermInStorm(t *testing.T) {
	p := start(t, append(devArgs, "--shards", "4", "--shutdown.drain", "3s")...)
	const most, enough = 1500, 150
	var upgraded, told, refused, silent atomic.Int64
	var dialers, readers sync.WaitGroup
	reached := make(chan struct{})
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	raw := func(request string) (open bool) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.clients)
		if err != nil {
			return false
		}
		silent.Add(1)
		readers.Go(func() { // Until it is refused.
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(waitMax))
			if request == "" { // The kernel, which waits for its first byte, may never tell it that wsd has ended.
				defer context.AfterFunc(ctx, func() { conn.Close() })()
			}
			if _, err := conn.Write([]byte(request)); err != nil {
				return
			}
			b := make([]byte, 4096)
			for n, err := conn.Read(b); ; n, err = conn.Read(b) {
				if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
					t.Error("a connection that was not upgraded stays open")
				}
				if n == 0 || err != nil {
					return
				}
			}
		})
		return true
	}
	for range 4 {
		dialers.Go(func() {
			for n := range most / 4 {
				switch n % 8 {
				case 0:
					if !raw("") {
						return
					}
					continue
				case 1:
					if !raw("GET /ws?channel=trades HTTP/1.1\r\nHost: x\r\n") {
						return
					}
					continue
				}
				conn, _, _, err := ws.Dialer{Timeout: waitMax}.Dial(ctx, "ws://"+p.clients+"/ws?channel=trades")
				if err != nil {
					status := ws.StatusError(0)
					if refused.Add(1); errors.As(err, &status) && int(status) != http.StatusServiceUnavailable {
						t.Error(err)
					}
					return
				}
				if n%8 == 2 {
					_ = conn.(*net.TCPConn).SetLinger(0)
					conn.Close()
					continue
				}
				if upgraded.Add(1) == enough {
					close(reached)
				}
				readers.Go(func() {
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(waitMax))
					for {
						_, _, err := wsutil.ReadServerData(conn)
						if end, ok := errors.AsType[wsutil.ClosedError](err); ok && end.Code == 1001 && end.Reason == "shutdown" {
							told.Add(1)
						}
						if err != nil {
							return
						}
					}
				})
			}
		})
	}
	select {
	case <-reached:
	case <-ctx.Done():
		require.Fail(t, "no storm")
	}
	require.NoError(t, p.cmd.Process.Signal(unix.SIGTERM))
	code, log := p.end()
	cancel() // The kernel may have dropped a SYN, which a dialer would send again for seconds.
	dialers.Wait()
	readers.Wait()
	require.Equal(t, command.OK, code, log)
	require.Contains(t, log, `"msg":"stopped"`)
	for _, unwanted := range []string{`"level":"ERROR"`, "BUG", "panic"} {
		require.NotContains(t, log, unwanted)
	}
	require.Equal(t, upgraded.Load(), told.Load())
	require.NoFileExists(t, p.socket)
	t.Logf("%d were told, %d said nothing or half, %d dialers were refused", told.Load(), silent.Load(), refused.Load())
}
