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
	// A socket's address holds 107 bytes; the name it is made under is a little longer than its own.
	pathMax     = 100
	pathSuffix  = ".new"
	mode        = 0o600
	lockTimeout = 2 * time.Second
	askTimeout  = time.Second
)

// socket is a listening Unix socket that this process has put at path.
type socket struct {
	path     string
	listener *net.UnixListener
	made     os.FileInfo // Tells our socket from one that another process put there.
}

// listen makes the socket under another name and renames it, so that a dead process's socket is replaced in one step.
func listen(path string) (*socket, error) {
	if len(path) > pathMax {
		return nil, fmt.Errorf("make the control socket %s: a socket's path has at most %d bytes: set control.socket", path, pathMax)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, explain("make the directory of the control socket "+path, err)
	}
	lock, err := dirlock.Lock(filepath.Dir(path), lockTimeout)
	if err != nil {
		return nil, explain("make the control socket "+path, err)
	}
	defer lock.Close()
	if err := vacant(path); err != nil {
		return nil, err
	}
	// Left by a process that died between the two steps; the lock says that nobody is there now.
	if err := os.Remove(path + pathSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, explain("make the control socket "+path, err)
	}
	listener, err := bind(path + pathSuffix)
	if err != nil {
		return nil, explain("make the control socket "+path, err)
	}
	listener.SetUnlinkOnClose(false) // It would remove the name it was made under.
	s := &socket{path: path, listener: listener}
	if err := s.place(); err != nil {
		listener.Close()
		_ = os.Remove(path + pathSuffix) // Gone already when the rename went well.
		return nil, explain("make the control socket "+path, err)
	}
	return s, nil
}

// bind makes a socket that only its owner may connect to, from its first moment and under every umask: Linux takes the mode of
// the file from the descriptor's.
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

// place gives the socket its name. The umask may have taken from its mode, which Chmod gives back.
func (s *socket) place() (err error) {
	if err := os.Chmod(s.path+pathSuffix, mode); err != nil {
		return err
	}
	if s.made, err = os.Lstat(s.path + pathSuffix); err != nil {
		return err
	}
	return os.Rename(s.path+pathSuffix, s.path)
}

// remove removes the socket from its directory if it is still the one that listen made.
func (s *socket) remove() error {
	lock, err := dirlock.Lock(filepath.Dir(s.path), lockTimeout)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // The directory is gone, and the socket with it.
	}
	if err != nil {
		return explain("remove the control socket "+s.path, err)
	}
	defer lock.Close()
	if now, err := os.Lstat(s.path); err != nil || !os.SameFile(now, s.made) {
		return nil // Nothing of ours is there, which is what was asked for.
	}
	if err := os.Remove(s.path); err != nil {
		return explain("remove the control socket "+s.path, err)
	}
	return nil
}

// vacant returns nil when path is free or holds a socket that nobody answers.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("look at the control socket "+path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("make the control socket %s: a file that is not a socket is there: remove it, or set control.socket", path)
	}
	conn, err := (&net.Dialer{Timeout: askTimeout}).DialContext(context.Background(), "unix", path)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("ask who answers on the control socket "+path, err)
	}
	defer conn.Close()
	return fmt.Errorf("make the control socket %s: %s answers on it: stop that one, or set control.socket", path, owner(conn))
}

// owner names the process that listens at the other end.
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
	if err != nil || credErr != nil || cred.Pid == 0 { // 0: a process of another pid namespace.
		return unknown
	}
	return fmt.Sprintf("process %d", cred.Pid)
}

// explain adds the remedy to an error of the file system.
func explain(what string, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("%s: %w: run as a user who may write there, or set control.socket to a path that this one may", what, err)
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("%s: %w: set control.socket to a path below directories", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
