package server

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/steering"
	"wsd/internal/testutil"
)

// stopStorm is clients that connect while a server stops.
type stopStorm struct {
	t    *testing.T
	url  string
	most int // Clients of each dialer, at most.

	mu       sync.Mutex
	upgraded int
	late     int // Connections that were too late to become clients.
	enough   int
	reached  chan struct{}  // Closed when so many clients are upgraded.
	ended    map[string]int // How their connections ended.
	readers  sync.WaitGroup
}

// dial makes clients until the server's port is closed.
func (s *stopStorm) dial(ctx context.Context) error {
	for range s.most {
		conn, br, _, err := ws.Dialer{Timeout: waitMax}.Dial(ctx, s.url)
		var status ws.StatusError
		switch {
		case err == nil:
		case errors.Is(err, unix.ECONNREFUSED):
			return nil
		case errors.As(err, &status) && int(status) == 503, errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE),
			errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			s.mu.Lock()
			s.late++
			s.mu.Unlock()
			continue
		default:
			return err
		}
		c := &client{t: s.t, conn: conn, rw: conn}
		if br != nil {
			c.rw = struct {
				io.Reader
				io.Writer
			}{br, conn}
		}
		s.mu.Lock()
		if s.upgraded++; s.upgraded == s.enough {
			close(s.reached)
		}
		s.mu.Unlock()
		s.readers.Go(func() {
			_, err := c.raw()
			conn.Close()
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ended[err.Error()]++
		})
	}
	return nil
}

// Whoever was upgraded is told that the server stops, however close to its end that
// was, and the next one has the port and the pins.
func TestStopUnderLoad(t *testing.T) {
	testutil.RequireBPF(t)
	pinDir := testutil.BPFFS(t)
	flags := map[string]any{"shards": "4", "steering.mode": "require", "steering.pin_dir": pinDir}
	r := newRig(t, flags)
	address := r.server.Addresses()[0].String()
	flags["client.listen"], flags["kafka.brokers"] = []string{address}, r.kafka.ListenAddrs()
	for round := range 3 {
		require.Equal(t, steering.Pinned, r.server.Health().Steering.Mode)
		s := &stopStorm{
			t: t, url: "ws://" + address + "/ws?channel=a", most: 1000, enough: 150, reached: make(chan struct{}), ended: make(map[string]int),
		}
		errs := make([]error, 4)
		var dialers sync.WaitGroup
		for i := range errs {
			dialers.Go(func() { errs[i] = s.dial(t.Context()) })
		}
		select {
		case <-s.reached:
		case <-time.After(waitMax):
			require.FailNow(t, "no storm")
		}
		require.NoError(t, r.stop())
		dialers.Wait()
		s.readers.Wait()
		require.NoError(t, errors.Join(errs...))
		goodbye := wsutil.ClosedError{Code: ws.StatusGoingAway, Reason: "shutdown"}
		require.Equal(t, map[string]int{goodbye.Error(): s.upgraded}, s.ended, "%v", slices.Collect(maps.Keys(s.ended)))

		t.Logf("%d were told, %d came too late", s.upgraded, s.late)
		left, err := os.ReadDir(pinDir)
		require.NoError(t, err)
		for _, e := range left {
			require.True(t, strings.HasSuffix(e.Name(), ".debug"), "%s: the kernel's own alone", e.Name())
		}
		for _, unwanted := range []string{"level=ERROR", "BUG", "errors while closing", "replaced the pins"} {
			require.NotContains(t, r.log.String(), unwanted)
		}
		if round < 2 {
			r.start(configure(t, flags))
		}
	}
}
