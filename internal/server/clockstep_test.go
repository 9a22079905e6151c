package server

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
		"client.ping_interval": "1s", "client.pong_timeout": "500ms", "recovery.cache_bytes": "64KiB",
		"kafka.behind_max": "20s",
	})
	r.ready()
	live := r.join()
	epoch := live.comeBack("a", "").Subscribe.Epoch
	number, got := 0, uint64(0)
	produce := func(n int) {
		t.Helper()
		for range n {
			number++
			value := fmt.Sprintf(`{"n":%d,"x":%q}`, number, strings.Repeat("x", 2000)) // Little stays in memory.
			r.produce("a", "", value)
			p := live.publication().Push.Pub
			require.JSONEq(t, value, string(p.Data))
			got = p.Offset
		}
	}
	produce(5)
	for _, step := range []time.Duration{time.Hour, -3 * time.Hour, 48 * time.Hour, -time.Minute, -46*time.Hour + time.Minute} {
		stepClock(t, step)
		before := got
		produce(20)
		back := r.join()
		a := back.comeBack("a", recoverFrom(before, epoch))
		require.True(t, a.Subscribe.Recovered, "%v: %+v", step, a)
		require.Len(t, a.Subscribe.Publications, 20, step)
		// Pings go on at their interval, whatever the clock says, and pongs count.
		for range 3 {
			require.Equal(t, "{}", live.message())
			live.send("{}")
		}
		require.NoError(t, back.conn.Close())
		ok, why := r.server.Ready()
		require.True(t, ok, why)
		require.NotContains(t, r.log.String(), "behind Kafka", step)
	}
}
