package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// enterCommand starts a program in cgroups: enter DIR… -- PROGRAM ARGS….
const enterCommand = "enter"

// quotaPeriod is the period of the CPU quota. The usual 100 ms would stop the server for tens of milliseconds at a time
// and be most of every latency; with 10 ms the cap is more like a slower CPU.
const quotaPeriod = 10 * time.Millisecond

// shares is the weight of the server's group, and of that of clients and Kafka, beside what else the machine does
// (1,024 each). A nice value would not do: with autogroups (sched(7)) it counts within a session only.
const shares = 100 * 1024

// group is a cgroup of version 1, in the trees of cpu and cpuacct.
type group struct {
	cpu, cpuacct string // Directories; the same where the two are mounted together.
}

// newGroup makes a group with a quota in CPUs, or without one if that is 0. The role tells it from others of this
// process.
func newGroup(role string, cpus float64) (g *group, err error) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find the cgroup trees: %w", err)
	}
	name := fmt.Sprintf("plantable-%d-%s", os.Getpid(), role)
	g = &group{}
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - cgroup ")
		fields, options := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(options) < 2 {
			continue
		}
		controllers := strings.Split(options[1], ",")
		if slices.Contains(controllers, "cpu") {
			g.cpu = filepath.Join(fields[4], name)
		}
		if slices.Contains(controllers, "cpuacct") {
			g.cpuacct = filepath.Join(fields[4], name)
		}
	}
	if g.cpu == "" || g.cpuacct == "" {
		return nil, errors.New("find the cgroup trees: cpu and cpuacct of version 1 are not mounted")
	}
	for _, dir := range g.dirs() {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make a cgroup, which takes root: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(g.cpu, "cpu.shares"), strconv.AppendInt(nil, shares, 10), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("set the CPU shares: %w", err), g.remove())
	}
	if cpus == 0 {
		return g, nil
	}
	for file, value := range map[string]time.Duration{
		"cpu.cfs_period_us": quotaPeriod, "cpu.cfs_quota_us": time.Duration(cpus * float64(quotaPeriod))} {
		text := strconv.AppendInt(nil, value.Microseconds(), 10)
		if err := os.WriteFile(filepath.Join(g.cpu, file), text, 0); err != nil {
			return nil, errors.Join(fmt.Errorf("set the CPU quota: %w", err), g.remove())
		}
	}
	return g, nil
}

func (g *group) dirs() []string { return slices.Compact([]string{g.cpu, g.cpuacct}) }

// join moves this process into the group, with the children that it starts from then on. leave moves it back to the
// group's parent.
func (g *group) join() error { return join(g.dirs()) }

func (g *group) leave() error {
	var parents []string
	for _, dir := range g.dirs() {
		parents = append(parents, filepath.Dir(dir))
	}
	return join(parents)
}

func join(dirs []string) error {
	for _, dir := range dirs {
		// 0 is the process that writes.
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("enter a cgroup: %w", err)
		}
	}
	return nil
}

// used is the CPU time of all processes that were in the group.
func (g *group) used() (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(g.cpuacct, "cpuacct.usage"))
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of the server: %w", err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the CPU time of the server: %w", err)
	}
	return time.Duration(n), nil
}

// processes are those in the group.
func (g *group) processes() (list []int, err error) {
	text, err := os.ReadFile(filepath.Join(g.cpuacct, "cgroup.procs"))
	if err != nil {
		return nil, fmt.Errorf("list the processes of the server: %w", err)
	}
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			list = append(list, pid)
		}
	}
	return list, nil
}

// remove removes the group once its processes have ended.
func (g *group) remove() error {
	var err error
	for _, dir := range g.dirs() {
		for range 100 {
			if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
				err = nil
				break
			}
			time.Sleep(50 * time.Millisecond) // A process that was just reaped may still count.
		}
		if err != nil {
			return fmt.Errorf("remove a cgroup: %w", err)
		}
	}
	return nil
}

// command returns a program's command line with which it starts in the group.
func (g *group) command(program string, args ...string) []string {
	return slices.Concat([]string{enterCommand}, g.dirs(), []string{"--", program}, args)
}

// enter moves this process into cgroups and becomes the program.
func enter(args []string) error {
	i := slices.Index(args, "--")
	if i < 0 || i+1 >= len(args) {
		return errors.New("enter DIR… -- PROGRAM ARGS…")
	}
	if err := join(args[:i]); err != nil {
		return err
	}
	program := args[i+1:]
	return fmt.Errorf("start %s: %w", program[0], unix.Exec(program[0], program, os.Environ()))
}
