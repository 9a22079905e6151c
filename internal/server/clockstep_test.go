package server

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"golang.org/x/sys/unix"
)

// ownClock in the environment says that the machine's clock is the test's own: .ci/test-kernel-init sets it.
const ownClock = "WSD_OWN_CLOCK"

// stepClock steps the wall clock of the machine.
func stepClock(t *testing.T, d time.Duration) {
	t.Helper()
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_REALTIME, &now))
	now = unix.NsecToTimespec(now.Nano() + int64(d))
	require.NoError(t, unix.ClockSettime(unix.CLOCK_REALTIME, &now))
}

// When the wall clock is stepped, clients stay connected and get their records, those that come back recover what is
// read again from Kafka, and /health stays as it was: nothing that is a duration goes by it.
func TestClockSteps(t *testing.T) {
	if os.Getenv(ownClock) == "" {
		t.Skip("it steps the machine's clock: make test-kernel RUN=TestClockSteps")
	}
	r := newRig(t, map[string]any{
		"client.ping_interval": "2s", "client.pong_timeout": "1900ms", "recovery.cache_bytes": "0", "kafka.behind_max": "20s",
		"kafka.topics": []string{"a", "b"}, "recovery.concurrency": "1", "recovery.timeout": "25s",
	}, kfake.SeedTopics(1, "a", "b"))
	r.ready()
	r.produce("b", "", `{"n":1}`, `{"n":2}`, `{"n":3}`)
	other := ""
	r.eventually("b is read", func() bool {
		c := r.join()
		defer c.conn.Close()
		s := c.comeBack("b", "").Subscribe
		other = s.Epoch
		return s.Offset == 3
	})
	live := r.join()
	epoch := live.comeBack("a", "").Subscribe.Epoch
	lines := make(chan string, 100)
	var pings atomic.Int64
	go func() { // It answers pings whatever the test waits for.
		defer close(lines)
		for {
			m, err := live.raw()
			if err != nil {
				return
			}
			for line := range strings.SplitSeq(strings.TrimSpace(m), "\n") {
				if line == "{}" {
					pings.Add(1)
					if wsutil.WriteClientText(live.conn, []byte("{}")) != nil {
						return
					}
					continue
				}
				lines <- line
			}
		}
	}()
	number, got := 0, uint64(0)
	produce := func(n int) {
		t.Helper()
		for range n {
			number++
			value := fmt.Sprintf(`{"n":%d}`, number)
			r.produce("a", "", value)
			var p publication
			select {
			case line, open := <-lines:
				require.True(t, open, "the client was closed")
				require.NoError(t, json.Unmarshal([]byte(line), &p), line)
			case <-time.After(waitMax):
				require.Fail(t, "a record does not come")
			}
			require.JSONEq(t, value, string(p.Push.Pub.Data))
			got = p.Push.Pub.Offset
		}
	}
	produce(5)
	back := time.Duration(0)
	for _, step := range []time.Duration{time.Hour, -3 * time.Hour, 48 * time.Hour, -time.Minute} {
		stepClock(t, step)
		back -= step
		before := got
		produce(20)
		c := r.join()
		a := c.comeBack("a", recoverFrom(before, epoch))
		require.True(t, a.Subscribe.Recovered, "%v: %+v", step, a)
		require.Len(t, a.Subscribe.Publications, 20, step)
		// Pings go on at their interval, whatever the clock says, and pongs count.
		seen := pings.Load()
		r.eventually("pings go on", func() bool { return pings.Load() >= seen+2 })
		require.NoError(t, c.conn.Close())
		ok, why := r.server.Ready()
		require.True(t, ok, why)
		require.NotContains(t, r.log.String(), "behind Kafka", step)
	}
	stepClock(t, back)

	// A step while a query waits for its turn neither ends it nor its read.
	release := r.holdPast(int64(got))
	busy, waits := r.join(), r.join()
	stats := r.server.recovery.Stats()
	busy.send(fmt.Sprintf(`{"id":7,"subscribe":{"channel":"a"%s}}`, recoverFrom(1, epoch)))
	r.eventually("a read is under way", func() bool { return stats.Waiting.Load() == 1 })
	waits.send(fmt.Sprintf(`{"id":7,"subscribe":{"channel":"b"%s}}`, recoverFrom(1, other)))
	r.eventually("another waits", func() bool { return stats.Waiting.Load() == 2 })
	stepClock(t, time.Hour)
	release()
	for _, c := range []*client{busy, waits} {
		require.Contains(t, c.reply(), `"recovered":true`)
	}
	stepClock(t, -time.Hour)
	require.NoError(t, r.stop())
	for range lines { // To the end.
	}
}
