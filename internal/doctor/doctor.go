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
	defaultConnections = 12_000
	defaultSendBuffer  = 32 << 10
)

// Options say what wsd is to do on this machine. The zero value asks about
// wsd's defaults on the real one.
type Options struct {
	// Root is put before every path that is read, so that a test can bring
	// a tree of its own. Empty: the machine's.
	Root string
	// PinDir is steering.pin_dir. Empty: /sys/fs/bpf/wsd.
	PinDir string
	// Steering is steering.mode: "auto", "require" or "off". Empty: auto.
	// With off, what only steering needs is never a failure.
	Steering string
	// Shards is the number of shards the steering program is loaded for. 0: 1.
	Shards int
	// SourcesMax is steering.limits.sources_max. 0: 65,536.
	SourcesMax int
	// Connections is how many clients are expected. 0: 12,000.
	Connections int
	// SendBuffer is client.kernel_send_buffer in bytes. 0: 32 KiB.
	SendBuffer int64
	// System replaces the system calls in tests. Zero fields: the kernel's.
	System System
}

// System is the system calls that no file answers for.
type System struct {
	// FileSystem returns the magic number of path's file system.
	FileSystem func(path string) (int64, error)
	// Writable returns nil when this process may create files in path.
	Writable func(path string) error
	// Reach makes a bpf() call that asks for nothing: nil when it got as far
	// as the kernel's own code, else what stopped it.
	Reach func() error
	// Load loads the steering program and its maps for so many shards and tracked client addresses, and removes them
	// again. It returns what the kernel says.
	Load func(shards, sourcesMax int) error
}

// inspector is one run: the options with their defaults, and the reads.
type inspector struct {
	Options
}

// Run makes every check and returns what they found; it takes milliseconds.
// When ctx ends it returns the checks made so far. A file that cannot be read
// is a result, never an error.
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
	if o.Connections == 0 {
		o.Connections = defaultConnections
	}
	if o.SendBuffer == 0 {
		o.SendBuffer = defaultSendBuffer
	}
	o.System = o.System.orKernel()
	in := &inspector{o}

	checks := []func() Result{
		in.kernel,
		in.capabilities,
		in.seccomp,
		in.program,
		in.unprivilegedBPF,
		in.jit,
		in.pinDir,
		in.openFiles,
		in.systemFiles,
		in.acceptBacklog,
		in.synBacklog,
		in.sendBuffer,
		in.tcpMemory,
		in.conntrack,
		in.cpu,
		in.memory,
		in.localPorts,
	}
	var r Report
	for _, check := range checks {
		if ctx.Err() != nil {
			break
		}
		result := check()
		if result.Status == OK {
			result.Remedy = "" // what is not needed, or not used, needs none
		}
		r.Results = append(r.Results, result)
	}
	return r
}

// steers tells whether the kernel is to choose the shards.
func (in *inspector) steers() bool { return in.Steering != "off" }

// read returns the file's text without the white space around it.
func (in *inspector) read(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(in.Root, path))
	return strings.TrimSpace(string(b)), err
}

// under returns where path is for a system call.
func (in *inspector) under(path string) string {
	if in.Root == "" {
		return path
	}
	return filepath.Join(in.Root, path)
}
