package admission

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/stats"
)

// loop is a Loop that the test turns.
type loop struct {
	turns, busy uint64
	long        stats.Durations
}

func (l *loop) turn(lengths ...time.Duration) {
	for _, d := range lengths {
		l.turns++
		l.long.Add(uint64(d))
	}
}

func (l *loop) loop() Loop {
	return Loop{Turns: func() uint64 { return l.turns }, LongTurns: &l.long, BusySince: func() uint64 { return l.busy }}
}

func TestLag(t *testing.T) {
	const now = uint64(time.Hour)
	for _, c := range []struct {
		name  string
		turns [][]time.Duration // Of each loop.
		busy  time.Duration     // How long the first loop's turn takes already.
		lag   time.Duration
	}{
		{"idle", [][]time.Duration{nil, nil}, 0, 0},
		{"short turns", [][]time.Duration{{ms, 100 * time.Microsecond}}, 0, 0},
		// Of the 100 ms, events of 59 ms wait for more than 1 ms, of one ms for more than 59.
		{"one long turn", [][]time.Duration{{60 * ms}}, 0, 59 * ms},
		{"two", [][]time.Duration{{50 * ms, 50 * ms}}, 0, 49500 * time.Microsecond},
		{"of different lengths", [][]time.Duration{{10 * ms, 60 * ms, 20 * ms}}, 0, 59 * ms},
		{"another loop is idle", [][]time.Duration{{60 * ms}, nil}, 0, 59 * ms},
		{"another loop is quick", [][]time.Duration{{60 * ms}, {time.Microsecond}}, 0, 58 * ms},
		{"under way", [][]time.Duration{nil}, 80 * ms, 79 * ms},
		{"stalled for long", [][]time.Duration{nil, nil}, 10 * time.Second, 9999 * ms},
		{"less than a hundredth of the time", [][]time.Duration{{3 * ms}, {ms}, {ms}, {ms}}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			loops := make([]loop, len(c.turns))
			var list []Loop
			for i := range loops {
				loops[i].turn(time.Second) // Before.
				list = append(list, loops[i].loop())
			}
			m := newLagMeter(list)
			for i := range loops {
				loops[i].turn(c.turns[i]...)
			}
			if c.busy > 0 {
				loops[0].busy = now - uint64(c.busy)
			}
			lag, turn := m.measure(now, 100*ms)
			require.InDelta(t, c.lag, lag, float64(ms)/10)
			require.Equal(t, c.busy, turn)
			for i := range loops {
				loops[i].busy = 0
			}
			lag, _ = m.measure(now, 100*ms)
			require.Zero(t, lag, "only what is new counts")
		})
	}
}
