// Package dirlock locks directories against other processes.
//
// The lock is flock(2) on the directory itself, so it leaves no lock file behind, and it ends with the process that
// holds it. A pid in a file would not do: two containers that share the directory may have the same pid.
//
// Thread rule: Lock may be called from any goroutine. The file it returns belongs to the caller.
package dirlock

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// retryInterval is the pause between two attempts to take a lock that another process holds.
const retryInterval = 5 * time.Millisecond

// Lock opens the directory dir and takes an exclusive lock on it, and waits up to wait while another process holds the
// lock. With a wait of 0 it tries once. Closing the file releases the lock.
//
// The error wraps fs.ErrNotExist if there is no such directory, unix.ENOTDIR if dir is something else, and
// unix.EWOULDBLOCK if the lock is still held after wait.
func Lock(dir string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("lock directory: %w", err)
	}
	for end := time.Now().Add(wait); ; time.Sleep(retryInterval) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || !time.Now().Before(end) {
			f.Close()
			return nil, fmt.Errorf("lock directory %s: %w", dir, err)
		}
	}
}
