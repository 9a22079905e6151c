package doctor

import (
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// filesOther is the number of files that wsd keeps open apart from its clients: programs, maps, log, admin port,
// brokers, and a listener and an epoll descriptor for each of up to 256 shards.
const filesOther = 1024

// connections returns Input.Connections, which is positive.
func (in *inspector) connections() uint64 { return uint64(in.Connections) } //nolint:gosec // As above.

func (in *inspector) filesWanted() uint64 { return in.connections() + filesOther }

// openFiles compares the hard limit, because the Go runtime raises the soft limit to it when a process starts.
func (in *inspector) openFiles() Result {
	want := in.filesWanted()
	r := Result{Check: "open files", Wanted: fmt.Sprintf("%d or more, for %d clients", want, in.Connections)}
	soft, hard, err := in.fileLimits()
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	r.Found = fmt.Sprintf("limit %s (hard %s)", limitText(soft), limitText(hard))
	if hard >= want {
		return r
	}
	r.Status = Fail
	r.Remedy = fmt.Sprintf("systemd: LimitNOFILE=%[1]d; docker run --ulimit nofile=%[1]d:%[1]d; shell, as root: "+
		"ulimit -Hn %[1]d && ulimit -n %[1]d", want)
	return r
}

// unlimited stands for the word unlimited in /proc, and for the absence of a limit.
const unlimited = ^uint64(0)

func limitText(n uint64) string {
	if n == unlimited {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

func (in *inspector) fileLimits() (soft, hard uint64, err error) {
	const label = "Max open files"
	text, err := in.read("/proc/self/limits")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(line, label)
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) < 2 {
			break
		}
		if soft, err = limit(f[0]); err != nil {
			return 0, 0, err
		}
		hard, err = limit(f[1])
		return soft, hard, err
	}
	return 0, 0, fmt.Errorf("find %q in /proc/self/limits: %w", label, fs.ErrNotExist)
}

func limit(s string) (uint64, error) {
	if s == "unlimited" {
		return unlimited, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

// systemFiles checks the limits of the machine, because a higher limit of a process cannot be set or has no effect.
func (in *inspector) systemFiles() Result {
	want := in.filesWanted()
	r := Result{Check: "open files, machine", Wanted: fmt.Sprintf("fs.nr_open and fs.file-max at %d or more", want)}
	perProcess, err := in.number("/proc/sys/fs/nr_open")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	all, err := in.number("/proc/sys/fs/file-max")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	r.Found = fmt.Sprintf("fs.nr_open %d, fs.file-max %d", perProcess, all)
	var commands []string
	if perProcess < want {
		r.Fix = append(r.Fix, sysctl("fs.nr_open", want))
	}
	if all < want {
		r.Fix = append(r.Fix, sysctl("fs.file-max", 2*want))
	}
	for _, fix := range r.Fix {
		commands = append(commands, fix.command())
	}
	if len(commands) > 0 {
		r.Status, r.Remedy = Fail, strings.Join(commands, " && ")
	}
	return r
}

// number returns the number in a file.
func (in *inspector) number(path string) (uint64, error) {
	text, err := in.read(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}
