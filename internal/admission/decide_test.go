package admission

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// defaults are the marks of the default configuration, see internal/config.
func defaults() Marks {
	return Marks{
		CPUHigh: 0.85, CPULow: 0.75, LagMax: 50 * time.Millisecond, Hold: 300 * time.Millisecond, Window: 5 * time.Second,
		MemoryHigh: 0.80, MemoryLow: 0.75, Ramp: time.Second,
	}
}

const ms = time.Millisecond

// after returns the state after n times each of the samples.
func (m *Marks) after(s State, n int, samples ...Sample) State {
	for _, in := range samples {
		for range n {
			s = m.Next(s, in)
		}
	}
	return s
}

func TestNext(t *testing.T) {
	m := defaults()
	busy, quick := Sample{CPU: 0.85, Lag: 51 * ms}, Sample{CPU: 1, Lag: 50 * ms}
	full := State{Level: 100, CPUScarce: true}
	fullMemory := State{Level: 100, MemoryScarce: true}
	for _, c := range []struct {
		name  string
		from  State
		n     int
		in    []Sample
		level int
		cpu   bool
		mem   bool
	}{
		{"nothing", State{}, 100, []Sample{{}}, 0, false, false},
		{"CPU alone", State{}, 100, []Sample{quick}, 0, false, false},
		{"lag alone", State{}, 100, []Sample{{CPU: 0.849, Lag: time.Second}}, 0, false, false},
		{"both, but not for 300 ms", State{}, 2, []Sample{busy}, 0, false, false},
		{"both for 300 ms", State{}, 3, []Sample{busy}, 10, true, false},
		{"with a break", State{}, 2, []Sample{busy, quick, busy, {CPU: 0.5, Lag: time.Second}, busy}, 0, false, false},
		{"it rises", State{}, 7, []Sample{busy}, 50, true, false},
		{"up to everybody", State{}, 12, []Sample{busy}, 100, true, false},
		{"and stays there", State{}, 500, []Sample{busy}, 100, true, false},

		{"recovering: it stays", State{Level: 30, CPUScarce: true}, 20, []Sample{{CPU: 0.8, Lag: 60 * ms}}, 30, true, false},
		{"recovering: lag is back within its bound", full, 49, []Sample{{CPU: 0.8, Lag: 50 * ms}}, 100, true, false},
		{"recovered: for a whole window", full, 50, []Sample{{CPU: 0.8, Lag: 50 * ms}}, 90, false, false},
		{"recovered: CPU at 75 %", full, 1, []Sample{{CPU: 0.75, Lag: time.Second}}, 90, false, false},
		{"recovered: all are welcome", full, 10, []Sample{{CPU: 0.75}}, 0, false, false},
		{"over again while it falls", State{Level: 60}, 3, []Sample{busy}, 50, true, false},

		{"memory below", State{}, 100, []Sample{{Memory: 0.799}}, 0, false, false},
		{"memory over, at once", State{}, 1, []Sample{{Memory: 0.80}}, 10, false, true},
		{"memory over, everybody", State{}, 10, []Sample{{Memory: 0.80}}, 100, false, true},
		{"memory between", fullMemory, 100, []Sample{{Memory: 0.76}}, 100, false, true},
		{"memory recovered", fullMemory, 1, []Sample{{Memory: 0.75}}, 90, false, false},
		{"memory recovered, CPU not", State{Level: 100, CPUScarce: true, MemoryScarce: true}, 20, []Sample{{CPU: 0.8, Lag: time.Second, Memory: 0.1}}, 100, true, false},
		{"CPU recovered, memory not", State{Level: 100, CPUScarce: true, MemoryScarce: true}, 20, []Sample{{Memory: 0.78}}, 100, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := m.after(c.from, c.n, c.in...)
			require.Equal(t, c.level, s.Level)
			require.Equal(t, c.cpu, s.CPUScarce)
			require.Equal(t, c.mem, s.MemoryScarce)
		})
	}
}

// Times that are no multiple of the interval, and none at all.
func TestOddTimes(t *testing.T) {
	m := defaults()
	m.Hold, m.Ramp = 0, 0
	busy := Sample{CPU: 1, Lag: time.Second}
	require.Equal(t, 100, m.Next(State{}, busy).Level)
	m.Hold, m.Ramp = 150*ms, 700*ms
	require.Zero(t, m.after(State{}, 1, busy).Level)
	require.Equal(t, 15, m.after(State{}, 2, busy).Level)
	require.Equal(t, 90, m.after(State{}, 7, busy).Level)
	require.Equal(t, 100, m.after(State{}, 8, busy).Level)
}

// A burst of two seconds refuses nobody, wherever CPU use was below the mark at which clients are welcome again, and
// however late the loops are: the CPU share is an average over five seconds. A lasting overload refuses.
func TestBurst(t *testing.T) {
	m := defaults()
	const cpus = 2
	able := time.Duration(float64(Interval) * cpus)
	for _, base := range []float64{0, 0.3, 0.5, 0.7, 0.749} {
		w := newWindow(m.Window, cpus)
		var s State
		run := func(d time.Duration, share float64, lag time.Duration) {
			for range samples(d) {
				s = m.Next(s, Sample{CPU: w.add(time.Duration(share*float64(able)), able), Lag: lag})
			}
		}
		run(time.Minute, base, 0)
		for range 3 {
			run(2*time.Second, 1, time.Second)
			require.Zero(t, s.Level, "from %v", base)
			run(5*time.Second, base, time.Second)
			require.Zero(t, s.Level, "from %v", base)
		}
		run(5*time.Second, 1, time.Second)
		require.Positive(t, s.Level, "from %v", base)
	}
	// After a start there is no history, and clients come back at once.
	w := newWindow(m.Window, cpus)
	var s State
	for range samples(4 * time.Second) {
		s = m.Next(s, Sample{CPU: w.add(able, able), Lag: time.Second})
	}
	require.Zero(t, s.Level)
}

func TestWindow(t *testing.T) {
	w := newWindow(time.Second, 1)
	for i := range 10 {
		require.InDelta(t, float64(i+1)*0.05, w.add(50*ms, Interval), 1e-9)
	}
	require.InDelta(t, 0.55, w.add(300*ms, Interval), 1e-9, "no interval counts for more than is possible")
	require.InDelta(t, 0.50, w.add(-5*ms, Interval), 1e-9)
	// A late sample counts for its time.
	require.InDelta(t, (0.45*1.0+0.2)/1.4, w.add(200*ms, 500*ms), 0.04)
	for range 10 {
		w.add(0, 0)
	}
	require.Zero(t, w.add(0, 0))
}
