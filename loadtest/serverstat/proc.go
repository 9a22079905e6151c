package serverstat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// userHZ is the unit of the times in /proc/PID/stat: 10 ms on every Linux that Go runs on.
const userHZ = 100

// Proc is a /proc: Root is "/proc", or a directory of a test.
type Proc struct{ Root string }

// Usage is what a process has used and uses.
type Usage struct {
	CPU   time.Duration // User and system time since its start, in steps of 10 ms.
	RSS   int64         // Resident bytes.
	Files int           // Open descriptors; 0 where they may not be seen.
}

// Process reads the usage of process pid. It is an error when there is none.
func (p Proc) Process(pid int) (Usage, error) {
	dir := filepath.Join(p.Root, strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Usage{}, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	var u Usage
	if u.CPU, err = cpuTime(stat); err != nil {
		return Usage{}, fmt.Errorf("read the CPU time of process %d: %w", pid, err)
	}
	// smaps_rollup is exact; the counters of status may be late by some pages a thread, but every kernel has them.
	if u.RSS, err = field(filepath.Join(dir, "smaps_rollup"), "Rss:"); err != nil {
		if u.RSS, err = field(filepath.Join(dir, "status"), "VmRSS:"); err != nil {
			return Usage{}, fmt.Errorf("read the memory of process %d: %w", pid, err)
		}
	}
	if files, err := os.ReadDir(filepath.Join(dir, "fd")); err == nil {
		u.Files = len(files)
	}
	return u, nil
}

// cpuTime adds utime and stime of a /proc/PID/stat.
func cpuTime(stat []byte) (time.Duration, error) {
	// The name in parentheses may hold anything, also a parenthesis.
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := bytes.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, errors.New("stat has too few fields")
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHZ, nil
}

// field reads a line such as "Rss:  123 kB" and returns bytes.
func field(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no line %s in %s", name, filepath.Base(file))
}

// TCPBytes is the kernel's memory for the buffers of all TCP sockets of this network namespace's kernel, of servers and
// of clients. The kernel counts it in pages, and keeps some in reserve per CPU.
func (p Proc) TCPBytes() (int64, error) {
	text, err := os.ReadFile(filepath.Join(p.Root, "net", "sockstat"))
	if err != nil {
		return 0, fmt.Errorf("read the kernel's TCP memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			if f[i] == "mem" {
				pages, err := strconv.ParseInt(f[i+1], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("read the kernel's TCP memory: %w", err)
				}
				return pages * int64(os.Getpagesize()), nil
			}
		}
	}
	return 0, errors.New("read the kernel's TCP memory: sockstat has no TCP line with mem")
}

// SlabBytes is the kernel's memory for structures of all kinds, those of sockets and files among them, of the whole
// machine.
func (p Proc) SlabBytes() (int64, error) {
	n, err := field(filepath.Join(p.Root, "meminfo"), "Slab:")
	if err != nil {
		return 0, fmt.Errorf("read the kernel's slab memory: %w", err)
	}
	return n, nil
}
