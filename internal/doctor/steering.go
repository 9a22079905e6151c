package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"wsd/internal/host"
	"wsd/internal/steering"
)

// Bits of the capability sets in /proc/self/status.
const (
	capSysAdmin = unix.CAP_SYS_ADMIN
	capBPF      = unix.CAP_BPF
)

// defaultMount is where every distribution mounts the bpffs.
const defaultMount = "/sys/fs/bpf"

// worse returns s, or OK if steering is off, because then a missing part of steering does not matter.
func (in *inspector) worse(s Status) Status {
	if !in.steers() {
		return OK
	}
	return s
}

// unused adds to a finding that it does not matter if steering is off.
func (in *inspector) unused(found string) string {
	if in.steers() {
		return found
	}
	return found + "; not used with steering.mode off"
}

func (in *inspector) kernel() Result {
	r := Result{Check: "kernel", Wanted: fmt.Sprintf("%v or newer, to steer in the kernel", host.SteeringMin)}
	release, err := in.read("/proc/sys/kernel/osrelease")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		r.Remedy = "mount -t proc proc /proc"
		return r
	}
	r.Found = in.unused(release)
	version, ok := host.ParseRelease(release)
	switch {
	case !ok:
		r.Status, r.Found = Warn, fmt.Sprintf("release %q is not a version", release)
	case version.Before(host.SteeringMin):
		r.Status = in.worse(Fail)
		r.Remedy = "boot a newer kernel, or set --steering.mode=off to let the kernel's hash choose the shards"
	}
	return r
}

func (in *inspector) capabilities() Result {
	r := Result{Check: "capabilities", Wanted: "CAP_BPF or CAP_SYS_ADMIN"}
	text, err := in.status("CapEff")
	if err != nil {
		r.Status, r.Found = Warn, unreadable(err)
		return r
	}
	set, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		r.Status, r.Found = Warn, fmt.Sprintf("CapEff of /proc/self/status is %q", text)
		return r
	}
	bpf, admin := set&(1<<capBPF) != 0, set&(1<<capSysAdmin) != 0
	switch {
	case bpf && admin:
		r.Found = "CAP_BPF and CAP_SYS_ADMIN"
	case bpf:
		r.Found = "CAP_BPF"
	case admin:
		r.Found = "CAP_SYS_ADMIN, without CAP_BPF"
	default:
		r.Status, r.Found = in.worse(Fail), "neither CAP_BPF nor CAP_SYS_ADMIN"
		r.Remedy = "setcap cap_bpf+ep PATH/wsd; docker run --cap-add BPF; systemd: AmbientCapabilities=CAP_BPF"
	}
	// The root user of a user namespace has all capabilities there, but bpf() refuses it all the same.
	if (bpf || admin) && in.userNamespace() && in.token().Wanted != "" {
		r.Found += " in a user namespace, with a BPF token"
	} else if (bpf || admin) && in.userNamespace() {
		r.Status, r.Found = in.worse(Fail), r.Found+", but only in a user namespace"
		r.Remedy = "start wsd outside the user namespace (docker run --userns=host), because bpf() needs the " +
			"capability in the initial one, or give it a BPF token (docs/deploy.md)"
	}
	r.Found = in.unused(r.Found)
	return r
}

// status returns a field of /proc/self/status. The error wraps fs.ErrNotExist if the file lacks it.
func (in *inspector) status(field string) (string, error) {
	text, err := in.read("/proc/self/status")
	if err != nil {
		return "", err
	}
	value, ok := host.StatusField(text, field)
	if !ok {
		return "", fmt.Errorf("find %s in /proc/self/status: %w", field, fs.ErrNotExist)
	}
	return value, nil
}

// userNamespace reports whether this process is in a user namespace other than the initial one.
func (in *inspector) userNamespace() bool {
	text, err := in.read("/proc/self/uid_map")
	return err == nil && host.InUserNamespace(text)
}

func (in *inspector) seccomp() Result {
	r := Result{Check: "seccomp", Wanted: "bpf() is not filtered"}
	mode, err := in.status("Seccomp")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		mode = "not supported by this kernel"
	case err != nil:
		mode = unreadable(err)
	case mode == "0":
		mode = "no filter"
	case mode == "2":
		mode = "filtered"
	default:
		mode = "mode " + mode
	}
	reach := in.System.Reach()
	if reach == nil {
		r.Found = in.unused(mode + "; bpf() reaches the kernel")
		return r
	}
	r.Found = in.unused(fmt.Sprintf("%s; %v", mode, reach))
	if mode != "filtered" {
		// Not because of a filter. The check of the program says why.
		return r
	}
	r.Status = in.worse(Fail)
	r.Remedy = "docker run --cap-add BPF (Docker's default profile then allows bpf(); other engines may need " +
		"SYS_ADMIN), or --security-opt seccomp=PROFILE with a profile that allows bpf"
	return r
}

// program loads wsd's own program: whether the verifier accepts it depends on the kernel, on its configuration and on
// the capabilities of this process, so a smaller program would prove nothing.
func (in *inspector) program() Result {
	r := Result{Check: "eBPF program", Wanted: "wsd's own program loads"}
	if !in.steers() {
		r.Found, r.Wanted = "not tried with steering.mode off", ""
		return r
	}
	err := in.System.Load(in.Shards, in.SourcesMax)
	if err == nil {
		r.Found = fmt.Sprintf("wsd's own program loads, for %d shards; it was removed again", in.Shards)
		return r
	}
	r.Status, r.Found = Fail, err.Error()
	switch {
	case errors.Is(err, steering.ErrVerifier):
		r.Remedy = "use another kernel, and report the line above with its version; without steering: " +
			"--steering.mode=off"
	case refused(err):
		r.Remedy = "see capabilities and seccomp above; without steering: --steering.mode=off"
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EINVAL):
		r.Remedy = fmt.Sprintf("use kernel %v or newer with CONFIG_BPF_SYSCALL and CONFIG_INET; without steering: "+
			"--steering.mode=off", host.SteeringMin)
	}
	if in.Steering == "auto" {
		r.Found += "; wsd would serve, and the kernel's hash would choose the shards"
	}
	return r
}

func (in *inspector) unprivilegedBPF() Result {
	r := Result{Check: "unprivileged bpf", Wanted: "disabled, for the security of the machine"}
	value, err := in.read("/proc/sys/kernel/unprivileged_bpf_disabled")
	switch {
	case err != nil:
		r.Status, r.Found = Warn, unreadable(err)
	case value == "0":
		r.Status, r.Found = Warn, "every user may load programs, which wsd does not need"
		r.Fix = []Fix{sysctl("kernel.unprivileged_bpf_disabled", 2)}
		r.Remedy = r.Fix[0].command()
	case value == "1" || value == "2":
		r.Found = "disabled (" + value + ")"
	default:
		r.Status, r.Found = Warn, "kernel.unprivileged_bpf_disabled is "+strconv.Quote(value)
	}
	return r
}

func (in *inspector) jit() Result {
	r := Result{Check: "eBPF JIT", Wanted: "on"}
	value, err := in.read("/proc/sys/net/core/bpf_jit_enable")
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		// The file has mode 0600, and exists only in the initial network namespace.
		r.Found, r.Wanted = "not visible from here", ""
	case err != nil:
		r.Status, r.Found = Warn, unreadable(err)
	case value == "0":
		r.Status, r.Found = in.worse(Warn), in.unused("off: the kernel interprets the program for every new connection")
		r.Fix = []Fix{sysctl("net.core.bpf_jit_enable", 1)}
		r.Remedy = r.Fix[0].command()
	default:
		r.Found = "on (" + value + ")"
	}
	return r
}

// pinDir checks the nearest directory that exists, because wsd creates the missing ones.
func (in *inspector) pinDir() Result {
	r := Result{Check: "pin directory", Wanted: "on a bpffs and writable, so that bpftool can find the maps"}
	if !in.steers() {
		r.Found, r.Wanted = "not used with steering.mode off", ""
		return r
	}
	dir := filepath.Clean(in.PinDir)
	for {
		info, err := os.Stat(in.under(dir))
		if err == nil && !info.IsDir() {
			r.Status, r.Found = Warn, dir+" is not a directory"
			r.Remedy = "set --steering.pin_dir to a directory on a bpffs"
			return r
		}
		if err == nil || dir == "/" || dir == "." {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			r.Status, r.Found = Warn, unreadable(err)+"; wsd would steer without pins"
			r.Remedy = grant(in.PinDir)
			return r
		}
		dir = filepath.Dir(dir)
	}
	magic, err := in.System.FileSystem(in.under(dir))
	if err != nil {
		r.Status, r.Found = Warn, err.Error()
		return r
	}
	if magic != unix.BPF_FS_MAGIC {
		r.Status, r.Found = Warn, fmt.Sprintf("%s is not on a bpffs but on %s: wsd would mount one that only its own "+
			"mount namespace sees, or steer without pins", dir, fileSystemName(magic))
		if mount := host.BPFFSMountPoint(in.PinDir); mount == defaultMount {
			r.Fix = []Fix{{Command: "mount -t bpf bpf " + mount}}
		}
		r.Remedy = "mount -t bpf bpf " + host.BPFFSMountPoint(in.PinDir) + "; docker run -v /sys/fs/bpf:/sys/fs/bpf"
		return r
	}
	if err := in.System.Writable(in.under(dir)); err != nil {
		r.Status, r.Found = Warn, fmt.Sprintf("%s is on a bpffs, but %v: wsd would steer without pins", dir, err)
		if errors.Is(err, unix.EROFS) {
			r.Remedy = "mount -o remount,rw " + host.BPFFSMountPoint(in.PinDir) +
				"; docker run -v /sys/fs/bpf:/sys/fs/bpf without :ro"
			return r
		}
		r.Remedy = grant(in.PinDir)
		return r
	}
	r.Found = dir + " is on a bpffs and writable"
	return r
}

// grant returns the command that lets this user pin in dir. The user needs access to every parent directory, and a
// bpffs often has mode 0700.
func grant(dir string) string {
	return fmt.Sprintf("as root: mkdir -p %s && chown %d %s && chmod o+x %s", dir, os.Geteuid(), dir,
		host.BPFFSMountPoint(dir))
}

func fileSystemName(magic int64) string {
	switch magic {
	case unix.SYSFS_MAGIC:
		return "sysfs"
	case unix.TMPFS_MAGIC:
		return "tmpfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	}
	return fmt.Sprintf("a file system with magic number %#x", magic)
}

func unreadable(err error) string { return "not readable: " + err.Error() }
