package dirlock

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestLock(t *testing.T) {
	dir := t.TempDir()
	first, err := Lock(dir, 0)
	require.NoError(t, err)

	_, err = Lock(dir, 0)
	require.ErrorIs(t, err, unix.EWOULDBLOCK)
	require.ErrorContains(t, err, dir)
	began := time.Now()
	_, err = Lock(dir, 30*time.Millisecond)
	require.ErrorIs(t, err, unix.EWOULDBLOCK)
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)

	release := time.AfterFunc(20*time.Millisecond, func() { first.Close() })
	defer release.Stop()
	second, err := Lock(dir, 30*time.Second)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestLockWhatIsNotADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	_, err := Lock(file, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Lock(file, 0)
	require.ErrorIs(t, err, unix.ENOTDIR)
}
