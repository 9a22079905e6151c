package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"wsd/internal/dirlock"
)

const (
	pathMax        = 100 // The address of a socket has room for 107 bytes, and the path is created with pathSuffix.
	pathSuffix     = ".new"
	mode           = 0o600
	lockTimeout    = 2 * time.Second
	connectTimeout = time.Second
)

// socket is a listening Unix socket at path.
type socket struct {
	path     string
	listener *net.UnixListener
	created  os.FileInfo // Identifies the socket file, which another process may replace.
}

// listen creates the socket under another name and renames it, so that it replaces the socket of a dead process in one
// step.
func listen(path string) (*socket, error) {
	if len(path) > pathMax {
		return nil, fmt.Errorf("create the control socket %s: the path is longer than %d bytes: set control.socket",
			path, pathMax)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // The socket in it is 0600.
		return nil, explain("create the directory of the control socket "+path, err)
	}
	lock, err := dirlock.Lock(filepath.Dir(path), lockTimeout)
	if err != nil {
		return nil, explain("create the control socket "+path, err)
	}
	defer lock.Close()
	if err := vacant(path); err != nil {
		return nil, err
	}
	// A process that died between the two steps left it. No living process does, because this one holds the lock.
	if err := os.Remove(path + pathSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, explain("create the control socket "+path, err)
	}
	listener, err := bind(path + pathSuffix)
	if err != nil {
		return nil, explain("create the control socket "+path, err)
	}
	listener.SetUnlinkOnClose(false) // It would remove the old name.
	s := &socket{path: path, listener: listener}
	if err := s.place(); err != nil {
		listener.Close()
		_ = os.Remove(path + pathSuffix) // Does not exist if the rename succeeded.
		return nil, explain("create the control socket "+path, err)
	}
	return s, nil
}

// bind creates a socket that only its owner may connect to, from the start and whatever the umask. Linux creates the
// file with the mode of the descriptor.
func bind(path string) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var modeErr error
		err := raw.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), mode) })
		return errors.Join(err, modeErr)
	}}
	listener, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return listener.(*net.UnixListener), nil
}

// place renames the socket to its path. Chmod restores permissions that the umask has removed.
func (s *socket) place() (err error) {
	if err := os.Chmod(s.path+pathSuffix, mode); err != nil {
		return err
	}
	if s.created, err = os.Lstat(s.path + pathSuffix); err != nil {
		return err
	}
	return os.Rename(s.path+pathSuffix, s.path)
}

// remove removes the socket file, unless another process has replaced it.
func (s *socket) remove() error {
	lock, err := dirlock.Lock(filepath.Dir(s.path), lockTimeout)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // The directory has been removed, and the socket with it.
	}
	if err != nil {
		return explain("remove the control socket "+s.path, err)
	}
	defer lock.Close()
	if now, err := os.Lstat(s.path); err != nil || !os.SameFile(now, s.created) {
		return nil // The path is free or belongs to another process.
	}
	if err := os.Remove(s.path); err != nil {
		return explain("remove the control socket "+s.path, err)
	}
	return nil
}

// vacant returns nil if path is free, or is a socket that no process serves.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("look up the control socket "+path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("create the control socket %s: the path is a file that is not a socket: remove it, or set "+
			"control.socket", path)
	}
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(context.Background(), "unix", path)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("connect to the control socket "+path, err)
	}
	defer conn.Close()
	return fmt.Errorf("create the control socket %s: %s already serves it: stop that process, or set control.socket",
		path, owner(conn))
}

// owner describes the process that listens at the other end of conn, for messages.
func owner(conn net.Conn) string {
	const unknown = "another process"
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return unknown
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || credErr != nil || cred.Pid == 0 { // 0 means another pid namespace.
		return unknown
	}
	return fmt.Sprintf("process %d", cred.Pid)
}

// explain adds a remedy to an error of the file system.
func explain(what string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s: %w: run wsd as a user who may write there, or set control.socket to a path where this "+
			"user may", what, err)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%s: %w: set control.socket to a path whose parents are directories", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
