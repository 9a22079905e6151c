package stall

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestStall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	var whole, parts atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				b := make([]byte, 16<<10)
				for n, begun := 0, false; ; {
					m, err := conn.Read(b[n:])
					if err != nil {
						return
					}
					switch n += m; {
					case n >= 5 && n == 5+int(b[3])<<8+int(b[4]):
						whole.Add(1)
					case !begun:
						begun = true
						parts.Add(1)
					}
				}
			}()
		}
	}()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := Command{Address: l.Addr().String(), Halted: 3, Trickled: 2, Every: time.Hour, Duration: time.Minute, Dials: 2}
	done := make(chan error, 1)
	var out bytes.Buffer
	go func() { done <- c.Run(ctx, &out) }()
	require.Eventually(t, func() bool { return whole.Load() == 3 && parts.Load() >= 2 }, 20*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.Contains(t, out.String(), "stall: 0 open, 5 begun, 0 closed by the server")

	for _, wrong := range []Command{
		{Halted: 0, Trickled: 0, Every: 1, Duration: 1, Dials: 1}, {Halted: clientsMax + 1, Every: 1, Duration: 1, Dials: 1},
		{Halted: 1, Duration: 1, Dials: 1},
	} {
		require.Error(t, wrong.Run(t.Context(), &out))
	}
}
