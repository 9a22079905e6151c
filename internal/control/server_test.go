package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultPath(t *testing.T) { require.Equal(t, "/run/wsd/8000.sock", DefaultPath(8000)) }

func TestStart(t *testing.T) {
	path := filepath.Join(filepath.Dir(socketPath(t)), "a", "b", "wsd.sock")
	s := start(t, path, answer(http.StatusOK, "well"))
	require.Equal(t, path, s.Path())
	body, ok, err := Health(t.Context(), path)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "well", string(body))
	dir, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), dir.Mode().Perm())
}

func TestRelativePath(t *testing.T) {
	path := socketPath(t)
	t.Chdir(filepath.Dir(path))
	require.Equal(t, path, start(t, "wsd.sock", answer(http.StatusOK, "")).Path())
}

// Only the owner may connect, whatever the umask gives or takes, and nothing else is left beside the socket.
func TestMode(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o777} {
		path := socketPath(t)
		old := syscall.Umask(umask)
		s, err := Start(Options{Path: path, Handler: answer(http.StatusOK, ""), Logger: quiet()})
		syscall.Umask(old)
		require.NoError(t, err)
		info, err := os.Lstat(path)
		require.NoError(t, err)
		require.Equal(t, fs.ModeSocket|0o600, info.Mode(), "umask %o", umask)
		entries, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.NoError(t, s.Close())
	}
}

// The mode is right before anybody could have set it.
func TestModeAtBirth(t *testing.T) {
	path := socketPath(t)
	old := syscall.Umask(0)
	l, err := bind(path)
	syscall.Umask(old)
	require.NoError(t, err)
	defer l.Close()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o600, info.Mode())
}

func TestReplacesDeadSocket(t *testing.T) {
	path := socketPath(t)
	cmd := child(t, path)
	kill(t, cmd)
	require.FileExists(t, path)
	start(t, path, answer(http.StatusOK, "new"))
	body, _, err := Health(t.Context(), path)
	require.NoError(t, err)
	require.Equal(t, "new", string(body))
}

// A process that died between making the socket and naming it left it under the other name.
func TestReplacesHalfMadeSocket(t *testing.T) {
	path := socketPath(t)
	l, err := bind(path + pathSuffix)
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	start(t, path, answer(http.StatusOK, ""))
	require.NoFileExists(t, path+pathSuffix)
}

func TestRefusesLiveSocket(t *testing.T) {
	path := socketPath(t)
	cmd := child(t, path)
	err := startErr(t, path)
	require.ErrorContains(t, err, fmt.Sprintf("process %d already serves it: stop that process, or set control.socket", cmd.Process.Pid))
	body, ok, err := Health(t.Context(), path)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "child", string(body))
}

func TestRefusesOtherFiles(t *testing.T) {
	for name, put := range map[string]func(path string) error{
		"file":      func(path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink("nowhere", path) },
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		path := socketPath(t)
		require.NoError(t, put(path), name)
		before, err := os.Lstat(path)
		require.NoError(t, err)
		require.ErrorContains(t, startErr(t, path), "the path is a file that is not a socket: remove it, or set control.socket", name)
		after, err := os.Lstat(path)
		require.NoError(t, err)
		require.True(t, os.SameFile(before, after), name)
		require.Equal(t, before.Size(), after.Size(), name)
	}
}

func TestPathLength(t *testing.T) {
	dir := filepath.Dir(socketPath(t))
	longest := filepath.Join(dir, strings.Repeat("s", pathMax-len(dir)-1))
	start(t, longest, answer(http.StatusOK, ""))
	err := startErr(t, longest+"s")
	require.ErrorContains(t, err, "the path is longer than 100 bytes: set control.socket")
	require.NoFileExists(t, longest+"s")
}

func TestUnusableDirectory(t *testing.T) {
	file := socketPath(t)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	err := startErr(t, filepath.Join(file, "wsd.sock"))
	require.ErrorContains(t, err, "not a directory: set control.socket")

	// Not even root makes a file in /proc.
	require.ErrorContains(t, startErr(t, "/proc/wsd.sock"), "/proc/wsd.sock")
}

func TestExplain(t *testing.T) {
	for _, cause := range []error{syscall.EACCES, syscall.EPERM, syscall.EROFS} {
		err := explain("make x", &fs.PathError{Op: "mkdir", Path: "/x", Err: cause})
		require.ErrorIs(t, err, cause)
		require.ErrorContains(t, err, "run wsd as a user who may write there, or set control.socket", cause)
	}
	require.EqualError(t, explain("make x", errors.New("no space left")), "make x: no space left")
}

func TestBugs(t *testing.T) {
	path := socketPath(t)
	for _, o := range []Options{{Path: path, Logger: quiet()}, {Path: path, Handler: answer(http.StatusOK, "")}} {
		_, err := Start(o)
		require.ErrorContains(t, err, "BUG: ")
	}
	require.NoFileExists(t, path)
}

func TestClose(t *testing.T) {
	path := socketPath(t)
	s := start(t, path, answer(http.StatusOK, ""))
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, s.Close())
	require.NoFileExists(t, path)
	require.NoError(t, s.Close())
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = conn.Read(make([]byte, 1))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is ended")
}

func TestCloseRemovesOnlyItsOwn(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"file": func(t *testing.T, path string) {
			t.Helper()
			require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
		},
		"socket": func(t *testing.T, path string) {
			t.Helper()
			start(t, path, answer(http.StatusOK, "second"))
		},
	} {
		path := socketPath(t)
		s := start(t, path, answer(http.StatusOK, "first"))
		require.NoError(t, os.Remove(path))
		replace(t, path)
		require.NoError(t, s.Close(), name)
		_, err := os.Lstat(path)
		require.NoError(t, err, name)
		if name == "socket" {
			body, _, err := Health(t.Context(), path)
			require.NoError(t, err)
			require.Equal(t, "second", string(body))
		}
	}
}

func TestCloseWithoutDirectory(t *testing.T) {
	path := socketPath(t)
	s := start(t, path, answer(http.StatusOK, ""))
	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	require.NoError(t, s.Close())
}

// Of several that start at once exactly one gets the path, and that one can be asked.
func TestConcurrentStart(t *testing.T) {
	const tries = 8
	for range 10 {
		path := socketPath(t)
		var wg sync.WaitGroup
		servers, errs := make([]*Server, tries), make([]error, tries)
		begin := make(chan struct{})
		for i := range tries {
			wg.Go(func() {
				<-begin
				servers[i], errs[i] = Start(Options{Path: path, Handler: answer(http.StatusOK, fmt.Sprint(i)), Logger: quiet()})
			})
		}
		close(begin)
		wg.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil {
				require.Equal(t, -1, winner, "two have it")
				winner = i
				continue
			}
			require.ErrorContains(t, err, fmt.Sprintf("process %d already serves it", os.Getpid()))
		}
		require.NotEqual(t, -1, winner, "nobody has it")
		body, ok, err := Health(t.Context(), path)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, fmt.Sprint(winner), string(body))
		require.NoError(t, servers[winner].Close())
		require.NoFileExists(t, path)
	}
}

// Connections that only hold the socket keep nobody from it.
func TestHeldSocket(t *testing.T) {
	path := socketPath(t)
	start(t, path, answer(http.StatusOK, "well"))
	for _, says := range []string{"", "GET /health HTTP/1.1\r\nHost: l", "GET /health HTTP/1.1\r\nHost: wsd\r\n\r\n"} {
		for range 100 {
			conn, err := net.Dial("unix", path)
			require.NoError(t, err)
			t.Cleanup(func() { conn.Close() })
			_, _ = io.WriteString(conn, says) // It may have given way already.
		}
		body, ok, err := Health(t.Context(), path)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "well", string(body))
	}
}
