package config

import (
	"fmt"
	"strconv"
	"time"
)

// Admission is how wsd protects the clients that it has from too many new ones.
type Admission struct {
	Mode       string        `key:"mode" def:"on" help:"on: refuse new clients while wsd is overloaded (docs/admission.md). dry-run: only count and log whom it would refuse. off: do not measure."`
	Answer     string        `key:"answer" def:"reset" help:"How to refuse. reset: the kernel resets the connection (ECONNREFUSED), which costs wsd nothing; without eBPF the shards do. http: status 503 with Retry-After, for clients behind a load balancer."`
	RetryAfter time.Duration `key:"retry_after" def:"5s" help:"Retry-After of the answer http, in whole seconds. Each client gets up to twice that, at random."`
	CPUHigh    int           `key:"cpu_high" def:"85" help:"Percentage of the CPUs that wsd may use, averaged over window, from which on it refuses, but only if its loops are late as well (lag_max)."`
	CPULow     int           `key:"cpu_low" def:"75" help:"Percentage of the CPUs at which it stops refusing."`
	LagMax     time.Duration `key:"lag_max" def:"50ms" help:"Loop lag: how long 99 % of the events wait for their shard's loop at most, in each tenth of a second. 1ms to 1m."`
	Hold       time.Duration `key:"hold" def:"300ms" help:"How long cpu_high and lag_max must be exceeded without a break."`
	Window     time.Duration `key:"window" def:"5s" help:"Time over which CPU use is averaged, so that a burst does not refuse: by default one of 2s never does if CPU use was below cpu_low before. wsd also stops refusing when lag_max was kept for that time."`
	MemoryHigh int           `key:"memory_high" def:"80" help:"Percentage of the cgroup's memory limit, or of net.ipv4.tcp_mem for the TCP memory of the machine, from which on wsd refuses."`
	MemoryLow  int           `key:"memory_low" def:"75" help:"Percentage of that memory at which it stops refusing."`
	Ramp       time.Duration `key:"ramp" def:"1s" help:"Time in which the refused part of new clients rises from none to all while the marks are exceeded, and falls back afterwards. 0: at once."`
	CgroupRoot string        `key:"cgroup_root" help:"Directory to read as the cgroup tree, such as a recorded one; it is like /sys/fs/cgroup. Default: the trees in /proc/self/mountinfo."`
}

func (l *loader) checkAdmission(a *Admission) {
	number(l, "admission.retry_after", a.RetryAfter, time.Second, 10*time.Minute)
	number(l, "admission.cpu_high", a.CPUHigh, 1, 100)
	number(l, "admission.cpu_low", a.CPULow, 0, 100)
	number(l, "admission.lag_max", a.LagMax, time.Millisecond, time.Minute)
	number(l, "admission.hold", a.Hold, 0, time.Minute)
	number(l, "admission.window", a.Window, 100*time.Millisecond, 10*time.Minute)
	number(l, "admission.memory_high", a.MemoryHigh, 1, 100)
	number(l, "admission.memory_low", a.MemoryLow, 0, 100)
	number(l, "admission.ramp", a.Ramp, 0, time.Minute)
	l.below("admission.cpu_low", a.CPULow, "admission.cpu_high", a.CPUHigh)
	l.below("admission.memory_low", a.MemoryLow, "admission.memory_high", a.MemoryHigh)
}

// below checks that a low mark is not above its high mark: wsd would refuse and stop refusing at the same time.
func (l *loader) below(lowKey string, low int, highKey string, high int) {
	if !l.bad[highKey] && low > high {
		l.complain(lowKey, strconv.Itoa(low), fmt.Sprintf("must be at most %s, which is %d", highKey, high), "")
	}
}
