package testutil

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestBPFFS(t *testing.T) {
	RequireBPF(t)
	var dir string
	t.Run("mounted", func(t *testing.T) {
		dir = BPFFS(t)
		var st unix.Statfs_t
		require.NoError(t, unix.Statfs(dir, &st))
		require.EqualValues(t, unix.BPF_FS_MAGIC, st.Type)
	})
	require.NoDirExists(t, dir, "unmounted and removed with its test")
}

// recorder is a test that notes how it was ended.
type recorder struct {
	testing.TB
	ended string
}

func (r *recorder) Helper()               {}
func (r *recorder) Skip(...any)           { r.ended = "skip" }
func (r *recorder) Fatalf(string, ...any) { r.ended = "fail"; panic(r) }

func TestSkipOrFail(t *testing.T) {
	for _, c := range []struct{ env, want string }{{"", "skip"}, {"0", "skip"}, {"1", "fail"}} {
		t.Run(c.env+c.want, func(t *testing.T) {
			t.Setenv(RequireRoot, c.env)
			r := &recorder{TB: t}
			func() {
				defer func() { _ = recover() }() // As Fatalf ends the goroutine.
				SkipOrFail(r, "needs root")
			}()
			require.Equal(t, c.want, r.ended)
		})
	}
}
