package steering

import (
	"encoding/binary"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// operator has plain bpftool and the path of the pins.
type operator struct {
	v       *server
	bpftool string
}

func newOperator(v *server) operator {
	v.tb.Helper()
	bpftool, err := exec.LookPath("bpftool")
	if err != nil {
		testutil.SkipOrFail(v.tb, "needs bpftool")
	}
	return operator{v, bpftool}
}

// do runs bpftool on one of the pins.
func (o operator) do(command, name string, args ...string) string {
	o.v.tb.Helper()
	args = append([]string{"map", command, "pinned", filepath.Join(o.v.Status().PinPath, name)}, args...)
	out, err := exec.Command(o.bpftool, args...).CombinedOutput()
	require.NoError(o.v.tb, err, "%s", out)
	return string(out)
}

// octets are bytes as bpftool reads them.
func octets(b []byte) (args []string) {
	for _, octet := range b {
		args = append(args, strconv.Itoa(int(octet)))
	}
	return args
}

func word(value uint32) []string { return octets(binary.NativeEndian.AppendUint32(nil, value)) }

// update writes an entry, and has the test fail if that touches a figure or a counter.
func (o operator) update(name string, key, value []string) {
	o.v.tb.Helper()
	state := func() (all []any) {
		ends, notes := o.v.Outcomes()
		for shard := range o.v.accepted {
			all = append(all, o.v.figures(shard))
		}
		return append(all, ends, notes)
	}
	before := state()
	o.do("update", name, slices.Concat([]string{"key"}, key, []string{"value"}, value)...)
	require.Equal(o.v.tb, before, state())
}

func (o operator) set(name string, entry, value uint32) {
	o.v.tb.Helper()
	o.update(name, word(entry), word(value))
}

// exemptKey is the key of source_exempt: the length, then the address as IPv6.
func exemptKey(prefix string) []string {
	p := netip.MustParsePrefix(prefix)
	bits, address := p.Bits(), p.Addr().As16()
	if p.Addr().Is4() {
		bits += 96
	}
	return append(word(uint32(bits)), octets(address[:])...)
}

// next dials and tells which shards got how many.
func (o operator) next(n int) []int {
	o.v.tb.Helper()
	o.v.dial(0, n, 1)
	return o.v.accept(n)
}

// news are the lines that Watch logs of a change, which it does once.
func (o operator) news() []string {
	o.v.tb.Helper()
	before := len(o.v.log.all())
	o.v.Watch()
	after := o.v.log.all()
	o.v.Watch()
	require.Equal(o.v.tb, after, o.v.log.all())
	return after[before:]
}

// bpftool is what an operator reads and writes with. What it writes counts for the
// next connection.
func TestBPFTool(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 4, testutil.BPFFS(t))
	o := newOperator(v)
	require.Equal(t, []int{2, 2, 2, 2}, o.next(8))
	slots := o.do("dump", "slots_v2")
	require.Contains(t, slots, `"picked": 2`)
	require.Contains(t, slots, `"closed": 0`)
	require.Contains(t, o.do("dump", "outcomes_v2"), `"placed": 0`)

	o.set("drain", 3, 1)
	require.Equal(t, []int{3, 3, 3, 0}, o.next(9))
	o.set("drain", 3, 0)
	require.Equal(t, []int{0, 0, 0, 3}, o.next(3))

	o.set("weight", 1, 10000)
	o.set("policy", 0, uint32(steerPolicyKindPOLICY_WEIGHTED))
	require.Equal(t, []int{0, 9, 0, 0}, o.next(9))
	o.set("weight", 1, 0) // It drains.
	require.Equal(t, []int{2, 0, 2, 2}, o.next(6))
	o.set("policy", 0, uint32(steerPolicyKindPOLICY_HASH))
	o.next(7)
	require.EqualValues(t, 7, v.counted()["picked_hash"])
	o.set("policy", 0, uint32(steerPolicyKindPOLICY_LEAST_LOADED))

	o.set("admission", 0, 100)
	require.Equal(t, 5, v.try(5, ""))
	o.set("admission_dry_run", 0, 1)
	require.Zero(t, v.try(5, ""))
	v.accept(5)
	require.EqualValues(t, 5, v.counted()["refused_admission"])
	require.EqualValues(t, 5, v.counted()["dry_run_admission"])
	o.set("admission", 0, 0)

	// A shard that nobody else would be chosen for: it is empty, and has been busy for long.
	v.end(2, len(v.accepted[2]))
	v.Slot(2).BeginTurn(1)
	require.Equal(t, []int{0, 0, 1, 0}, o.next(1))
	o.set("stall_bound", 0, 50)
	require.Zero(t, o.next(3)[2])
	require.EqualValues(t, 3, v.counted()["skipped_stalled"])
	o.set("stall_bound", 0, 0)
	require.Equal(t, []int{0, 0, 1, 0}, o.next(1))
}

func TestBPFToolSources(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 2, testutil.BPFFS(t))
	o := newOperator(v)
	limited := func(source string) bool { // A second may pass now and then.
		refused := v.try(10, source)
		require.True(t, refused == 0 || refused > 4, "%d of 10", refused)
		return refused > 0
	}
	require.False(t, limited("127.0.7.1"))
	o.set("source_rate", 0, 1)
	require.True(t, limited("127.0.7.1"))
	require.True(t, limited("127.0.8.1"))
	o.update("source_exempt", exemptKey("127.0.7.0/24"), word(1))
	require.False(t, limited("127.0.7.1"))
	require.True(t, limited("127.0.8.1"))
	o.update("source_exempt", exemptKey("127.0.7.9/32"), word(0)) // But for one of them.
	require.False(t, limited("127.0.7.1"))
	require.True(t, limited("127.0.7.9"))
	o.update("source_exempt", exemptKey("2001:db8::/32"), word(1))
	exempt, err := v.Exempt()
	require.NoError(t, err)
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("127.0.7.0/24"), netip.MustParsePrefix("2001:db8::/32")}, exempt)
	o.do("delete", "source_exempt", append([]string{"key"}, exemptKey("127.0.7.0/24")...)...)
	require.True(t, limited("127.0.7.2"))
	o.set("source_burst", 0, 1000)
	require.False(t, limited("127.0.7.3"))
	o.set("source_rate", 0, 0)
	require.False(t, limited("127.0.7.9"))
}

// A value out of range is no value: what counts instead is documented, and wsd tells.
func TestBPFToolOutOfRange(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, testutil.BPFFS(t))
	o := newOperator(v)
	o.set("policy", 0, 9)
	require.Equal(t, []int{2, 2, 2}, o.next(6))
	require.Equal(t, map[string]uint64{"picked_least_loaded": 6}, v.counted())
	o.set("admission", 0, 101)
	require.Zero(t, v.try(30, ""))
	v.accept(30)
	report, err := v.Report()
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"admission is 101, configured is 0", "policy is 9, configured is least-loaded"}, report.Changed)
	require.ElementsMatch(t, []string{
		"admission is 101 in its map, but the maximum is 100: 0 applies instead",
		"policy is 9 in its map, but the maximum is 4: least-loaded applies instead",
	}, report.Ignored)

	o.set("policy", 0, uint32(steerPolicyKindPOLICY_WEIGHTED))
	o.set("weight", 2, anyU32) // Counts as 100, which the others have.
	require.Equal(t, []int{3, 3, 3}, o.next(9))
	for _, name := range []string{"stall_bound", "ramp", "pending_max", "cpu_local_bound", "source_rate", "source_burst", "source_prefix4", "source_prefix6"} {
		o.set(name, 0, anyU32)
	}
	require.Equal(t, []int{3, 3, 3}, o.next(9))
	require.Zero(t, v.try(30, ""))
	v.accept(30)
	report, err = v.Report()
	require.NoError(t, err)
	require.Len(t, report.Ignored, 10)
	require.Contains(t, report.Ignored, "weight of shard 2 is 4294967295 in its map, but the maximum is 10000: 100 applies instead")
	require.Len(t, report.Changed, 11, "the policy is in range by now")
	require.Equal(t, []uint64{0, 0, 0}, []uint64{v.figures(0).Uncounted, v.figures(1).Uncounted, v.figures(2).Uncounted})
	require.Equal(t, map[string]uint64{"picked_least_loaded": 36, "picked_weighted": 48}, v.counted())
}

// Each change is logged once, and so is the return to what was configured.
func TestBPFToolIsLogged(t *testing.T) {
	testutil.RequireBPF(t)
	v := mustServe(t, 3, testutil.BPFFS(t))
	o := newOperator(v)
	require.Empty(t, o.news())
	for _, c := range []struct {
		name         string
		entry, value uint32
		want         string
	}{
		{"weight", 2, 250, "weight of shard 2 is 250, configured is 100"},
		{"policy", 0, uint32(steerPolicyKindPOLICY_P2C), "policy is p2c, configured is least-loaded"},
		{"drain", 1, 1, "drain of shard 1 is true, configured is false"},
		{"admission", 0, 7, "admission is 7, configured is 0"},
		{"stall_bound", 0, 1500, "stall_bound is 1.5s, configured is 0s"},
		{"source_rate", 0, 9, "source_rate is 9, configured is 0"},
	} {
		began := v.Configured()[c.name][c.entry]
		o.set(c.name, c.entry, c.value)
		report, err := v.Report()
		require.NoError(t, err)
		require.Equal(t, []string{c.want}, report.Changed)
		require.Empty(t, report.Ignored)
		lines := o.news()
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `level=INFO msg="steering setting changed"`)
		require.Contains(t, lines[0], c.want)

		o.set(c.name, c.entry, began)
		report, err = v.Report()
		require.NoError(t, err)
		require.Empty(t, append(report.Changed, report.Ignored...))
		lines = o.news()
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], `level=INFO msg="steering setting is as configured again"`)
		require.Contains(t, lines[0], c.name)
	}

	// Out of range there are two edges.
	o.set("admission", 0, 101)
	lines := o.news()
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], `level=WARN msg="steering setting is out of range" setting="admission is 101 in its map`)
	require.Contains(t, lines[1], "admission is 101, configured is 0")
	o.set("admission", 0, 1)
	lines = o.news()
	require.Len(t, lines, 2)
	require.Contains(t, lines[0], `msg="steering setting is in range again" setting=admission`)
	require.Contains(t, lines[1], "admission is 1, configured is 0")

	o.update("source_exempt", exemptKey("192.0.2.0/24"), word(1))
	lines = o.news()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], "source_exempt contains 192.0.2.0/24, which is not configured")
	o.do("delete", "source_exempt", append([]string{"key"}, exemptKey("192.0.2.0/24")...)...)
	lines = o.news()
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], `msg="steering setting is as configured again" setting="source_exempt 192.0.2.0/24"`)
}
