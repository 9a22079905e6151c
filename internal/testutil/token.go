package testutil

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// tokenVariable in the environment makes Main mount the bpffs that TokenChild delegates, before it runs its child.
const tokenVariable = "WSD_TEST_TOKEN"

// tokenSocket is the child's descriptor of its socket to the test: the first of exec.Cmd.ExtraFiles.
const tokenSocket = 3

// TokenChild is Child in a user namespace of its own, where it is root with CAP_BPF and no other capability, and where
// /sys/fs/bpf is a bpffs that delegates to it what options say (such as delegate_cmds and map_create:prog_load). The
// test is skipped on kernels before 6.9, whose bpffs delegates nothing. Call it from the test's own goroutine.
func TokenChild(tb testing.TB, options [][2]string, arg string) (stdout io.Reader, end func()) {
	tb.Helper()
	if lack := lacking(capSysAdmin, capBPF); lack != "" {
		SkipOrFail(tb, lack)
	}
	if major, minor := kernelVersion(tb); major < 6 || major == 6 && minor < 9 {
		tb.Skipf("Linux %d.%d ignores the options of a bpffs: they delegate from 6.9 on", major, minor)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(tb, err)
	defer unix.Close(pair[0])
	socket := os.NewFile(uintptr(pair[1]), "socket")
	// Not the test's context: it ends before end is called.
	cmd := exec.CommandContext(context.Background(), os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+arg, tokenVariable+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = []*os.File{socket}
	root := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: root, GidMappings: root,
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err = cmd.StdoutPipe()
	require.NoError(tb, err)
	err = cmd.Start()
	_ = socket.Close()
	require.NoError(tb, err)
	end = sync.OnceFunc(func() {
		stdin.Close()
		require.NoError(tb, cmd.Wait(), "%s", &stderr)
	})
	tb.Cleanup(end)
	require.NoError(tb, delegate(pair[0], options))
	return stdout, end
}

func kernelVersion(tb testing.TB) (major, minor int) {
	var name unix.Utsname
	require.NoError(tb, unix.Uname(&name))
	_, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	require.NoError(tb, err)
	return major, minor
}

// delegate sets the options of the bpffs that the child has begun, which only the initial user namespace may.
func delegate(socket int, options [][2]string) error {
	buf := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(socket, make([]byte, 1), buf, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return fmt.Errorf("receive the child's bpffs: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(buf[:n])
	if err != nil || len(messages) != 1 {
		return fmt.Errorf("the child sent no bpffs: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return fmt.Errorf("the child sent no bpffs: %w", err)
	}
	defer unix.Close(fds[0])
	for _, o := range options {
		if err := unix.FsconfigSetString(fds[0], o[0], o[1]); err != nil {
			return fmt.Errorf("set %s=%s: %w", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fds[0]); err != nil {
		return fmt.Errorf("make a bpffs: %w", err)
	}
	_, err = unix.Write(socket, []byte{1})
	return err
}

// becomeTokenChild mounts the bpffs over /sys/fs/bpf once the test has delegated, and becomes the child with CAP_BPF
// alone.
func becomeTokenChild() error {
	context, err := unix.Fsopen("bpf", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("begin a bpffs: %w", err)
	}
	if err := unix.Sendmsg(tokenSocket, []byte{1}, unix.UnixRights(context), nil, 0); err != nil {
		return fmt.Errorf("send the bpffs: %w", err)
	}
	if n, err := unix.Read(tokenSocket, make([]byte, 1)); n != 1 {
		return fmt.Errorf("the test has delegated nothing: %w", err)
	}
	_ = unix.Close(tokenSocket)
	mount, err := unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount the bpffs: %w", err)
	}
	if err := unix.MoveMount(mount, "", unix.AT_FDCWD, "/sys/fs/bpf", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the bpffs at /sys/fs/bpf: %w", err)
	}
	if err := os.Unsetenv(tokenVariable); err != nil {
		return err
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		return err
	}
	args := []string{setpriv, "--bounding-set=-all,+bpf", "--inh-caps=-all", os.Args[0]}
	return syscall.Exec(setpriv, args, os.Environ())
}
