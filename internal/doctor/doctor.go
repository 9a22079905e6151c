package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// Defaults of Options, equal to those of the options they stand for.
const (
	defaultPinDir      = "/sys/fs/bpf/wsd"
	defaultPort        = 8000
	defaultConnections = 12_000
	defaultSendBuffer  = 32 << 10
	defaultMemoryHigh  = 80
)

// Options describe what wsd will do on this machine. The zero value means wsd with its defaults, on the real machine.
type Options struct {
	// Root is the directory that replaces / in every path that is read, for tests. Empty: /.
	Root string
	// PinDir is steering.pin_dir. Empty: /sys/fs/bpf/wsd.
	PinDir string
	// Steering is steering.mode: "auto", "require" or "off". Empty: auto. With off, a check that only steering needs
	// never fails.
	Steering string
	// Shards is the number of shards the steering program is loaded for. 0: 1.
	Shards int
	// SourcesMax is steering.limits.sources_max. 0: 65,536.
	SourcesMax int
	// Port is that of the first client.listen. 0: 8000.
	Port int
	// Connections is the number of clients to expect. 0: 12,000.
	Connections int
	// SendBuffer is client.kernel_send_buffer in bytes. 0: 32 KiB.
	SendBuffer int64
	// Admission is admission.mode. Empty: on.
	Admission string
	// AdmissionAnswer is admission.answer. Empty: reset.
	AdmissionAnswer string
	// MemoryHigh is admission.memory_high in percent. 0: 80.
	MemoryHigh int
	// CgroupRoot is admission.cgroup_root. Empty: the trees that are mounted.
	CgroupRoot string
	// Pairs are client.tls.certificates, and TicketKeys is client.tls.ticket_keys. Empty: none.
	Pairs      []Pair
	TicketKeys string
	// Running is the wsd that runs with the same configuration; nil: none does, as far as this user can see.
	Running *Running
	// Inside says that a wsd asks for itself, which has given up its privileges: checks of what it needs at its start
	// to steer are left out.
	Inside bool
	// System replaces system calls, for tests. A nil field means the kernel's own.
	System System
}

// Running is what a running wsd says of its privileges.
type Running struct {
	PID          int      // Process id, as that wsd sees it.
	Capabilities []string // Capabilities that it has.
	Kept         []string // Why it has kept them after its start, one phrase each.
	NoNewPrivs   bool     // Whether it can gain no privilege.
	Problem      string   // Why it could not drop some; empty if it could.
}

// System is the system calls that the checks make, apart from reading files.
type System struct {
	// FileSystem returns the magic number of the file system that path is on.
	FileSystem func(path string) (int64, error)
	// Writable returns nil if this process may create files in the directory path.
	Writable func(path string) error
	// Reach makes a bpf() call without an effect. It returns nil if the call reached the kernel's own code, and
	// otherwise what stopped it.
	Reach func() error
	// Load loads the steering program and its maps for so many shards and tracked client addresses, and removes them
	// again. It returns what the kernel says.
	Load func(shards, sourcesMax int) error
	// Counters returns the counters of the driver of a network card.
	Counters func(card string) (map[string]uint64, error)
	// Synchronized reports whether something keeps the machine's clock right.
	Synchronized func() (bool, error)
}

// inspector is one run of the checks. Its options have their defaults filled in.
type inspector struct {
	Options
}

// Run makes every check and returns the results. It takes some milliseconds. If ctx ends, it returns the results so
// far. A file that cannot be read is a result, not an error.
func Run(ctx context.Context, o Options) Report {
	if o.PinDir == "" {
		o.PinDir = defaultPinDir
	}
	if o.Steering == "" {
		o.Steering = "auto"
	}
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.Connections == 0 {
		o.Connections = defaultConnections
	}
	if o.SendBuffer == 0 {
		o.SendBuffer = defaultSendBuffer
	}
	if o.MemoryHigh == 0 {
		o.MemoryHigh = defaultMemoryHigh
	}
	o.System = o.System.orKernel()
	in := &inspector{o}

	checks := []func() Result{in.kernel}
	if !o.Inside {
		checks = append(checks, in.capabilities, in.token)
	}
	checks = append(checks, in.privileges)
	if !o.Inside {
		checks = append(checks, in.seccomp, in.program)
	}
	checks = append(checks, in.unprivilegedBPF, in.jit)
	if !o.Inside {
		checks = append(checks, in.pinDir)
	}
	checks = append(checks,
		in.openFiles,
		in.systemFiles,
		in.acceptBacklog,
		in.synBacklog,
		in.sendBuffer,
		in.tcpMemory,
		in.conntrack,
		in.overflows,
		in.queues,
		in.transmit,
		in.allowance,
		in.mptcp,
		in.cgroups,
		in.cpu,
		in.memory,
		in.admission,
		in.localPorts,
		in.clock,
	)
	var r Report
	for _, check := range checks {
		if ctx.Err() != nil {
			break
		}
		result := check()
		if result.Status == OK {
			result.Remedy, result.Fix = "", nil // Nothing to do.
		}
		r.Results = append(r.Results, result)
	}
	if ctx.Err() == nil {
		r.Results = append(r.Results, in.certificates()...)
	}
	return r
}

// steers reports whether wsd will try to steer.
func (in *inspector) steers() bool { return in.Steering != "off" }

// read returns the text of a file without the white space around it.
func (in *inspector) read(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(in.Root, path))
	return strings.TrimSpace(string(b)), err
}

// under returns path below Root, for a system call.
func (in *inspector) under(path string) string {
	if in.Root == "" {
		return path
	}
	return filepath.Join(in.Root, path)
}
