package steering

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"wsd/internal/dirlock"
	"wsd/internal/host"
)

// ensureBPFFS makes sure that dir is on a bpffs, by mounting one when there is
// none. note tells of the mount; it stays when the process ends, as others may
// use it by then.
func ensureBPFFS(dir string) (note string, err error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("pin below %q: steering.pin_dir must be an absolute path", dir)
	}
	on, err := onBPFFS(dir)
	if on || err != nil {
		return "", err
	}
	point := host.BPFFSMountPoint(dir)
	made, err := makeDirs(point, 0o755)
	if err != nil {
		return "", fmt.Errorf("make a mount point for a bpffs: %w", err)
	}
	if note, err = mountBPFFS(point, dir); err != nil {
		removeDirs(made)
		return "", err
	}
	return note, nil
}

func mountBPFFS(point, dir string) (note string, err error) {
	// Two servers that start at once must not mount twice: the second mount would
	// hide the first one's pins.
	lock, err := dirlock.Lock(point, lockWait)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	on, err := onBPFFS(dir)
	if on || err != nil {
		return "", err
	}
	if entries, err := os.ReadDir(point); err != nil || len(entries) > 0 {
		return "", errors.Join(fmt.Errorf("mount a bpffs on %s: it is not empty, and a mount would hide what it holds; "+
			"set steering.pin_dir to a directory on a bpffs", point), err)
	}
	err = unix.Mount("bpf", point, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755")
	if errors.Is(err, unix.EPERM) {
		return "", fmt.Errorf("mount a bpffs on %s: %w: CAP_SYS_ADMIN is missing; mount it before wsd starts "+
			"(mount -t bpf bpf %s, docker run -v /sys/fs/bpf:/sys/fs/bpf)", point, err, point)
	}
	if err != nil {
		return "", fmt.Errorf("mount a bpffs on %s: %w", point, err)
	}
	return fmt.Sprintf("there was no bpffs at %s, so wsd mounted one: only this mount namespace sees the pins", point), nil
}

// onBPFFS tells whether dir is on a bpffs, or would be if it were made.
func onBPFFS(dir string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look at the file system of %s: %w%s", dir, err, dotHint(dir, err))
		}
		dir = filepath.Dir(dir)
	}
}

// makeDirs is os.MkdirAll with modes that no umask changes. It returns what it
// made, parents first, and leaves nothing behind when it fails.
func makeDirs(dir string, mode fs.FileMode) (made []string, err error) {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err == nil && !info.IsDir() {
			return nil, fmt.Errorf("make directory %s: %s is a file", dir, d)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("make directory %s: %w", dir, err)
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		err := os.Mkdir(missing[i], mode)
		if errors.Is(err, fs.ErrExist) {
			continue // Another server was faster.
		}
		if err == nil {
			made = append(made, missing[i])
			err = os.Chmod(missing[i], mode)
		}
		if err != nil {
			removeDirs(made)
			return nil, fmt.Errorf("make directory %s: %w%s", missing[i], err, dotHint(missing[i], err))
		}
	}
	return made, nil
}

// removeDirs undoes makeDirs, as far as nobody has put something in there.
func removeDirs(made []string) {
	for i := len(made) - 1; i >= 0; i-- {
		_ = os.Remove(made[i])
	}
}

// dotHint explains a refusal that looks like missing rights and is none: a bpffs
// refuses even to look for a name with a dot.
func dotHint(dir string, err error) string {
	if errors.Is(err, unix.EPERM) && strings.Contains(dir, ".") {
		return ": a name on a bpffs may hold no dot"
	}
	return ""
}
