package steering

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/routing"
	"wsd/internal/testutil"
)

// chooser runs bpf/choose.h in the kernel, on maps of its own.
type chooser struct {
	tb      testing.TB
	shards  int
	cpus    int
	program *ebpf.Program
	maps    map[string]*ebpf.Map
	slots   []Slot
	values  Values // What the settings are.
}

func mustChooser(tb testing.TB, shards, cpus int) *chooser {
	tb.Helper()
	testutil.RequireBPF(tb)
	spec, err := loadSteer()
	require.NoError(tb, err)
	program := spec.Programs[steerProgChooseTest]
	require.NoError(tb, adapt(spec, testOptions(shards, "", &lines{})))
	require.NoError(tb, spec.Variables[steerVarCpuCount].Set(uint32(cpus)))
	spec.Programs = map[string]*ebpf.ProgramSpec{steerProgChooseTest: program}
	coll, err := ebpf.NewCollection(spec)
	require.NoError(tb, err)
	tb.Cleanup(coll.Close)
	slots, err := mapTable(coll.Maps[steerMapSlotsV2])
	require.NoError(tb, err)
	c := &chooser{
		tb: tb, shards: shards, cpus: cpus, program: coll.Programs[steerProgChooseTest], maps: coll.Maps,
		slots: slots.slice(shards), values: DefaultValues(shards),
	}
	for name, entries := range c.values {
		for i, value := range entries {
			c.set(name, i, value)
		}
	}
	return c
}

func (c *chooser) set(name string, entry int, value uint32) {
	c.tb.Helper()
	c.values[name][entry] = value
	require.NoError(c.tb, c.maps[name].Put(uint32(entry), value))
}

// question is what the program is asked.
type question struct {
	now                int64
	policy             steerPolicyKind
	start, random, cpu uint32
}

// answer is what it says.
type answer struct {
	shard                            int
	ramping, full, stalled, draining bool // Of that shard.
	skipped, remote                  bool
}

func (c *chooser) ask(q question) answer {
	c.tb.Helper()
	args := steerChooseArgs{Now: uint64(q.now), Policy: q.policy, Start: q.start, Random: q.random, Cpu: q.cpu}
	ret, err := c.program.Run(&ebpf.RunOptions{Context: &args, ContextOut: &args})
	require.NoError(c.tb, err)
	require.Zero(c.tb, ret)
	bit := func(n int) bool { return args.Choice&(1<<n) != 0 }
	require.False(c.tb, bit(18), "failed")
	return answer{
		shard: int(args.Choice & 0xff), ramping: bit(8), full: bit(9), stalled: bit(10), draining: bit(11), skipped: bit(16), remote: bit(17),
	}
}

// setLoad makes a load out of all figures, with so many of it pending.
func (c *chooser) setLoad(shard int, load, pending int64, r *rand.Rand) {
	cells, tally := c.slots[shard].cells, c.slots[shard].tally
	cells.Migrated, cells.Closed, cells.Uncounted, cells.Lost = r.Uint64N(1000), r.Uint64N(1_000_000), r.Uint64N(1000), r.Uint64N(1000)
	tally.Load, tally.Picked = load, uint64(load)+cells.Closed+cells.Lost-cells.Migrated-cells.Uncounted
	cells.Accepted = uint64(load-pending) + cells.Closed
}

const second = int64(1e9)

// The model: the choice as bpf/settings.h and docs/steering-reference.md describe it.

// rank orders the shards of a question: by what speaks against them, then by load.
type rank struct {
	answer
	load float64
}

func (r rank) worse(b rank) bool {
	for _, pair := range [][2]bool{{r.draining, b.draining}, {r.stalled, b.stalled}, {r.full, b.full}, {r.ramping, b.ramping}} {
		if pair[0] != pair[1] {
			return pair[0]
		}
	}
	return r.load > b.load
}

func (c *chooser) inForce(name string, entry int) int64 {
	setting, err := SettingNamed(name)
	require.NoError(c.tb, err)
	return int64(setting.InForce(c.values[name][entry]))
}

// rank judges a shard as one that ramps is out for so many nanoseconds after its stall.
func (c *chooser) rank(q question, shard int, out int64) rank {
	f := c.slots[shard].Figures()
	bound := c.inForce("stall_bound", 0) * 1e6
	busy := int64(0)
	if f.BusySince > 0 {
		busy = q.now - int64(f.BusySince)
	}
	a := answer{
		shard:    shard,
		ramping:  f.StalledUntil != 0 && q.now-int64(f.StalledUntil) < out,
		full:     c.inForce("pending_max", 0) > 0 && f.Pending() > c.inForce("pending_max", 0),
		stalled:  bound > 0 && busy > bound,
		draining: f.Draining || c.inForce("drain", shard) != 0,
	}
	if q.policy != steerPolicyKindPOLICY_WEIGHTED {
		return rank{a, float64(f.Load())}
	}
	weight := c.inForce("weight", shard)
	if weight == 0 {
		a.draining, weight = true, 1
	}
	return rank{a, float64((f.Load() + 1) << 14 / weight)} // As finely as the program has it.
}

func (c *chooser) ramp() int64 { return c.inForce("ramp", 0) * 1e6 }

// out is for how long after its stall a shard is out of this connection: the lot
// gives ramping shards a part that grows to twice an even share, and the others at
// most twice theirs.
func (c *chooser) out(q question) int64 {
	healthy, ramping := 0, 0
	for shard := range c.shards {
		r := c.rank(q, shard, c.ramp())
		switch {
		case !r.blemished():
			healthy++
		case r.ramping && !r.full && !r.stalled && !r.draining:
			ramping++
		}
	}
	lot, shards := float64(q.random&0xffff)/65536, float64(healthy+ramping)
	switch {
	case ramping == 0:
		return c.ramp()
	case lot < (shards-2*float64(healthy))/shards:
		return 0
	}
	// The program rounds the ramp to 65 µs, and so differs by a hair from a fraction.
	return min(c.ramp(), (c.ramp()>>16)*int64(healthy+ramping)*int64(q.random&0xffff)/int64(2*ramping))
}

// best is the first of the best among the shards that are asked for, from start on;
// how tells what makes one better.
func (c *chooser) best(q question, how func(question, int) rank, asked func(shard int) bool) (best rank) {
	found := false
	for i := range c.shards {
		shard := (int(q.start) + i) % c.shards
		if !asked(shard) {
			continue
		}
		if r := how(q, shard); !found || best.worse(r) {
			best, found = r, true
		}
	}
	return best
}

// loadAlone is the rank of a shard as if nothing but a weight of 0 spoke against any.
func (c *chooser) loadAlone(q question, shard int) rank {
	r := c.rank(q, shard, 0)
	drains := q.policy == steerPolicyKindPOLICY_WEIGHTED && c.inForce("weight", shard) == 0
	return rank{answer{shard: shard, draining: drains}, r.load}
}

func (r rank) blemished() bool { return r.ramping || r.full || r.stalled || r.draining }

func (c *chooser) want(q question) answer {
	everyone := func(int) bool { return true }
	first := c.best(q, c.loadAlone, everyone)
	switch q.policy {
	case steerPolicyKindPOLICY_CPU_LOCAL:
		classes := min(c.shards, c.cpus)
		local := c.best(q, c.loadAlone, func(shard int) bool { return shard%classes == int(q.cpu)%classes })
		first.remote = local.load > first.load+float64(c.inForce("cpu_local_bound", 0))
		if !first.remote {
			first = local
		}
	case steerPolicyKindPOLICY_P2C:
		a := int(q.random&0xffff) % c.shards
		b := (a + 1 + int(q.random>>16)%max(1, c.shards-1)) % c.shards
		first = c.best(q, c.loadAlone, func(shard int) bool { return shard == a || shard == b })
	}
	if c.shards == 1 {
		first = rank{} // There is nothing to choose.
	}
	weightless := q
	weightless.policy = steerPolicyKindPOLICY_LEAST_LOADED
	if judged := c.rank(weightless, first.shard, c.ramp()); judged.blemished() || first.draining {
		out := c.out(q)
		best := c.best(q, func(q question, shard int) rank { return c.rank(q, shard, out) }, everyone)
		best.remote, best.skipped = true, judged.stalled && !best.stalled
		return best.answer
	}
	return first.answer
}

// The program and the model agree on whatever shards and settings there are.
func TestChoose(t *testing.T) {
	for _, shards := range []int{1, 2, 3, 7, 8, 64, 255, routing.ShardsMax} {
		t.Run(fmt.Sprint(shards), func(t *testing.T) {
			c := mustChooser(t, shards, 1+shards%5)
			r := rand.New(rand.NewPCG(uint64(shards), 1))
			for round := range 250 {
				c.scramble(r)
				q := question{
					now: 1000 * second, policy: steerPolicyKind(round % 4), start: r.Uint32N(uint32(shards)), random: r.Uint32(), cpu: r.Uint32N(64),
				}
				got, want := c.ask(q), c.want(q)
				require.Equal(t, want, got, "%+v", q)
			}
		})
	}
}

// scramble sets all that a choice depends on: few different loads for ties; nobody,
// some and everybody with something against them.
func (c *chooser) scramble(r *rand.Rand) {
	some := []float64{0, 0.1, 0.5, 0.95, 1}
	pick := func() float64 { return some[r.IntN(len(some))] }
	drained, own, stalled, late, full := pick(), pick()*pick(), pick(), pick(), pick()
	c.set("stall_bound", 0, []uint32{0, 1, 100, 60000, 60001, ^uint32(0)}[r.IntN(6)])
	c.set("ramp", 0, []uint32{0, 1, 3000, 600000, 600001}[r.IntN(5)])
	c.set("pending_max", 0, []uint32{0, 10, ^uint32(0)}[r.IntN(3)])
	c.set("cpu_local_bound", 0, []uint32{0, 3, 1000, ^uint32(0)}[r.IntN(4)])
	span := int64(1) << r.IntN(24)
	for i := range c.shards {
		pending := int64(0)
		if r.Float64() < full {
			pending = r.Int64N(20)
		}
		c.setLoad(i, r.Int64N(span)+pending, pending, r)
		cells := c.slots[i].cells
		cells.BusySince, cells.StalledUntil, cells.Draining = 0, 0, 0
		if r.Float64() < stalled {
			cells.BusySince = uint64(1000*second - r.Int64N(70*second))
		}
		if r.Float64() < late {
			cells.StalledUntil = uint64(1000*second - r.Int64N(second<<r.IntN(9)))
		}
		if r.Float64() < own {
			cells.Draining = steerDrainingDRAINING_WSD
		}
		drain := uint32(0)
		if r.Float64() < drained {
			drain = []uint32{1, 2, 200, ^uint32(0)}[r.IntN(4)]
		}
		c.set("drain", i, drain)
		c.set("weight", i, []uint32{0, 1, 50, 100, 200, 10000, 10001, ^uint32(0)}[r.IntN(8)])
	}
}

// A few cases that can be followed by hand.
func TestChooseTable(t *testing.T) {
	const least, weighted, local = steerPolicyKindPOLICY_LEAST_LOADED, steerPolicyKindPOLICY_WEIGHTED, steerPolicyKindPOLICY_CPU_LOCAL
	now := 1000 * second
	stalled := func(shard int) func(*chooser) {
		return func(c *chooser) { c.slots[shard].cells.BusySince = uint64(now - second) }
	}
	for _, tt := range []struct {
		name   string
		loads  []int64
		set    func(*chooser)
		policy steerPolicyKind
		start  uint32
		random uint32
		want   answer
	}{
		{name: "empty", loads: []int64{0, 0, 0, 0}},
		{name: "least", loads: []int64{5, 4, 3, 4}, want: answer{shard: 2}},
		{name: "tie at start", loads: []int64{1, 0, 0, 0}, start: 2, want: answer{shard: 2}},
		{name: "tie behind start", loads: []int64{0, 0, 1, 1}, start: 2, want: answer{shard: 0}},
		{name: "one drains", loads: []int64{5, 4, 3, 4}, set: func(c *chooser) { c.set("drain", 2, 1) }, want: answer{shard: 1, remote: true}},
		{name: "wsd drains one", loads: []int64{5, 4, 3, 4}, set: func(c *chooser) { c.slots[2].SetDraining(true) }, want: answer{shard: 1, remote: true}},
		{name: "one stalls", loads: []int64{5, 4, 3, 4}, set: stalled(2), start: 2, want: answer{shard: 3, skipped: true, remote: true}},
		{name: "nobody may stall", loads: []int64{5, 4, 3, 4}, set: func(c *chooser) { stalled(2)(c); c.set("stall_bound", 0, 0) }, want: answer{shard: 2}},
		{name: "rather stalled than draining", loads: []int64{5, 4, 3, 4}, set: func(c *chooser) {
			stalled(0)(c)
			for _, shard := range []int{1, 2, 3} {
				c.set("drain", shard, 1)
			}
		}, want: answer{shard: 0, stalled: true, remote: true}},
		{name: "back from a stall, in by lot", loads: []int64{5, 4, 3, 4}, random: 0x2000, set: func(c *chooser) {
			c.slots[2].cells.StalledUntil = uint64(now - second) // Of a ramp of 3 s: in for 1/3 of 2/4.
		}, want: answer{shard: 2, remote: true}},
		{name: "back from a stall, not in by lot", loads: []int64{5, 4, 3, 4}, random: 0x4000, set: func(c *chooser) {
			c.slots[2].cells.StalledUntil = uint64(now - second)
		}, want: answer{shard: 1, remote: true}},
		{name: "after the ramp", loads: []int64{5, 4, 3, 4}, random: 0xffff, set: func(c *chooser) {
			c.slots[2].cells.StalledUntil = uint64(now - 4*second)
		}, want: answer{shard: 2}},
		{name: "too many pending", loads: []int64{20, 14, 13, 14}, set: func(c *chooser) {
			c.set("pending_max", 0, 10)
			c.slots[2].cells.Accepted = 2
		}, want: answer{shard: 1, remote: true}},
		{name: "weights from empty", loads: []int64{0, 0, 0, 0}, policy: weighted, set: func(c *chooser) { c.set("weight", 3, 101) }, want: answer{shard: 3}},
		{name: "weights", loads: []int64{9, 10, 19, 28}, policy: weighted, set: func(c *chooser) {
			c.set("weight", 2, 200)
			c.set("weight", 3, 300) // (28+1)/300 is the least.
		}, want: answer{shard: 3}},
		{name: "weight 0 drains", loads: []int64{1, 0, 1, 1}, policy: weighted, set: func(c *chooser) { c.set("weight", 1, 0) }, want: answer{shard: 0}},
		{name: "weights mean nothing to least-loaded", loads: []int64{1, 0, 1, 1}, policy: least, set: func(c *chooser) { c.set("weight", 1, 0) }, want: answer{shard: 1}},
		{name: "local", loads: []int64{0, 4, 3, 5}, policy: local, set: func(c *chooser) { c.set("cpu_local_bound", 0, 4) }, want: answer{shard: 1}},
		{name: "too much local", loads: []int64{0, 5, 3, 6}, policy: local, set: func(c *chooser) { c.set("cpu_local_bound", 0, 4) }, want: answer{shard: 0, remote: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustChooser(t, 4, 2)
			c.set("stall_bound", 0, 100)
			c.set("ramp", 0, 3000)
			for i, load := range tt.loads {
				c.slots[i].cells.Accepted, *c.slots[i].tally = uint64(load), steerTally{Load: load, Picked: uint64(load)}
			}
			if tt.set != nil {
				tt.set(c)
			}
			require.Equal(t, tt.want, c.ask(question{now: now, policy: tt.policy, start: tt.start, random: tt.random, cpu: 1}))
		})
	}
}

// Equal shards take turns as start does.
func TestChooseTies(t *testing.T) {
	for _, policy := range []steerPolicyKind{steerPolicyKindPOLICY_LEAST_LOADED, steerPolicyKindPOLICY_WEIGHTED} {
		c := mustChooser(t, 5, 1)
		for _, drain := range []uint32{0, 1} {
			for i := range c.shards {
				c.set("drain", i, drain)
			}
			for start := range c.shards {
				require.Equal(t, start, c.ask(question{now: second, policy: policy, start: uint32(start)}).shard)
			}
		}
	}
}

// Over a ramp a shard is in for a part of connections that grows from none to twice
// its even share, and is then in for all. The shards that do not ramp get at most
// twice an even share each, however many ramp.
func TestRamp(t *testing.T) {
	const shards, draws = 8, 4000
	now := 1000 * second
	for _, ramping := range []int{1, 3, 6, 7} {
		c := mustChooser(t, shards, 1)
		c.set("stall_bound", 0, 100)
		c.set("ramp", 0, 3000)
		for i := range shards {
			load := int64(1000)
			if i < ramping {
				load = 0 // Far below the others.
			}
			c.slots[i].cells.Accepted, *c.slots[i].tally = uint64(load), steerTally{Load: load, Picked: uint64(load)}
		}
		r := rand.New(rand.NewPCG(1, 1))
		for _, part := range []float64{0, 0.1, 0.5, 0.9, 1} {
			for i := range ramping {
				c.slots[i].cells.StalledUntil = uint64(now - int64(3*float64(second)*part))
			}
			in := 0
			for range draws {
				if c.ask(question{now: now, random: r.Uint32(), start: r.Uint32N(shards)}).shard < ramping {
					in++
				}
			}
			want := min(1, max(part*2*float64(ramping)/shards, 1-2*float64(shards-ramping)/shards))
			if part == 1 {
				want = 1
			}
			require.InDelta(t, want, float64(in)/draws, 0.03, "%d ramp, after %v of it", ramping, part)
		}
	}
}

// What the choice costs, as the kernel counts it (BPF_ENABLE_STATS): ns/run is
// without the system call that runs it, ns/op with it. BenchmarkSteer has the whole
// program.
func BenchmarkChoose(b *testing.B) {
	for _, shards := range []int{1, 7, 64, routing.ShardsMax} {
		for policy, name := range Policies()[:steerPolicyKindPOLICY_HASH] {
			for _, drains := range []bool{false, true} {
				b.Run(fmt.Sprintf("shards=%d/policy=%s/drain=%v", shards, name, drains), func(b *testing.B) {
					c := mustChooser(b, shards, 2)
					if drains {
						c.set("drain", 0, 1)
					}
					stats := mustStats(b)
					defer stats.Close()
					args := steerChooseArgs{Policy: steerPolicyKind(policy)}
					before, err := c.program.Stats()
					require.NoError(b, err)
					for b.Loop() {
						if _, err := c.program.Run(&ebpf.RunOptions{Context: &args}); err != nil {
							b.Fatal(err)
						}
					}
					after, err := c.program.Stats()
					require.NoError(b, err)
					b.ReportMetric(float64(after.Runtime-before.Runtime)/float64(after.RunCount-before.RunCount), "ns/run")
				})
			}
		}
	}
}

func mustStats(tb testing.TB) io.Closer {
	tb.Helper()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	require.NoError(tb, err)
	return stats
}
