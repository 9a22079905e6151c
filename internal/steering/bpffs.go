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

// ensureBPFFS makes sure that dir is on a bpffs, and mounts one if necessary. note describes the mount, if there was
// one. The mount stays when the process ends, because other processes may use it by then.
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
		return "", fmt.Errorf("create a mount point for a bpffs: %w", err)
	}
	if note, err = mountBPFFS(point, dir); err != nil {
		removeDirs(made)
		return "", err
	}
	return note, nil
}

func mountBPFFS(point, dir string) (note string, err error) {
	// If two servers that start at once both mounted a bpffs, the second mount would hide the pins of the first.
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
		return "", errors.Join(fmt.Errorf("mount a bpffs on %s: the directory is not empty, and a mount would hide "+
			"its files; "+
			"set steering.pin_dir to a directory on a bpffs", point), err)
	}
	err = unix.Mount("bpf", point, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0755")
	if errors.Is(err, unix.EPERM) {
		return "", fmt.Errorf("mount a bpffs on %s: %w: CAP_SYS_ADMIN is missing; mount the bpffs before wsd starts "+
			"(mount -t bpf bpf %s, docker run -v /sys/fs/bpf:/sys/fs/bpf)", point, err, point)
	}
	if err != nil {
		return "", fmt.Errorf("mount a bpffs on %s: %w", point, err)
	}
	return fmt.Sprintf("%s was not a bpffs, so wsd mounted one there; only this mount namespace sees the pins", point),
		nil
}

// onBPFFS reports whether dir is on a bpffs, or would be if it were created.
func onBPFFS(dir string) (bool, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			return st.Type == unix.BPF_FS_MAGIC, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("look up the file system of %s: %w%s", dir, err, dotHint(dir, err))
		}
		dir = filepath.Dir(dir)
	}
}

// makeDirs creates dir and its missing parents with a mode that the umask does not change. It returns the directories
// it created, parents first. If it fails, it removes them again.
func makeDirs(dir string, mode fs.FileMode) (made []string, err error) {
	var missing []string
	for d := dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err == nil && !info.IsDir() {
			return nil, fmt.Errorf("create directory %s: %s is a file", dir, d)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("create directory %s: %w", dir, err)
		}
		missing = append(missing, d)
	}
	for i := len(missing) - 1; i >= 0; i-- {
		err := os.Mkdir(missing[i], mode)
		if errors.Is(err, fs.ErrExist) {
			continue // Another server has just created it.
		}
		if err == nil {
			made = append(made, missing[i])
			err = os.Chmod(missing[i], mode)
		}
		if err != nil {
			removeDirs(made)
			return nil, fmt.Errorf("create directory %s: %w%s", missing[i], err, dotHint(missing[i], err))
		}
	}
	return made, nil
}

// removeDirs undoes makeDirs. Directories that others have put files into stay.
func removeDirs(made []string) {
	for i := len(made) - 1; i >= 0; i-- {
		_ = os.Remove(made[i])
	}
}

// dotHint explains an error that looks like a missing permission: a bpffs refuses every name that contains a dot.
func dotHint(dir string, err error) string {
	if errors.Is(err, unix.EPERM) && strings.Contains(dir, ".") {
		return ": names on a bpffs must not contain a dot"
	}
	return ""
}
