package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		err    error
		code   int
		stdout string
		stderr string
	}{
		{name: "good", args: []string{"go", "--speed=3"}, code: OK},
		{name: "help", args: []string{"--help"}, code: OK, stdout: "Moves."},
		{name: "unknown flag", args: []string{"go", "--sped"}, code: Usage, stderr: "See mover --help, or mover go --help.\n"},
		{name: "unknown command", args: []string{"fly", "high"}, code: Usage, stderr: "mover: unknown command fly\nSee mover --help.\n"},
		{name: "unknown beside a default", args: []string{"stop", "soon"}, code: Usage,
			stderr: "mover: unknown command soon\nSee mover --help, or mover stop --help.\n"},
		{name: "argument", args: []string{"go", "far"}, code: Usage, stderr: "mover: unexpected argument far\nSee mover --help, or mover go --help.\n"},
		{name: "no unit", args: []string{"go", "--pause=5"}, code: Usage,
			stderr: "mover: --pause: \"5\" is not a duration: write a number with a unit, such as 500ms, 5s or 2m\n"},
		{name: "no command", code: Usage, stderr: "See mover --help.\n"},
		{name: "usage", args: []string{"go"}, err: fmt.Errorf("wrapped: %w", UsageError{errors.New("too fast")}), code: Usage,
			stderr: "mover: wrapped: too fast\n"},
		{name: "failed", args: []string{"go"}, err: errors.New("stuck"), code: Failed, stderr: "mover: stuck\n"},
		{name: "reported", args: []string{"go"}, err: ErrReported, code: Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			var grammar struct {
				Go struct {
					Speed int
					Pause time.Duration
				} `cmd:""`
				Stop struct {
					Now   struct{} `cmd:"" default:"withargs"`
					Later struct{} `cmd:""`
				} `cmd:""`
			}
			var stdout, stderr bytes.Buffer
			code := Run(Options{Name: "mover", Description: "Moves.", Grammar: &grammar, Stdout: &stdout, Stderr: &stderr}, c.args,
				func(parsed *kong.Context) error {
					require.Equal(t, "go", parsed.Command())
					return c.err
				})
			require.Equal(t, c.code, code)
			require.Contains(t, stdout.String(), c.stdout)
			require.Contains(t, stderr.String(), c.stderr)
			if c.stderr == "" {
				require.Empty(t, stderr.String())
			}
		})
	}
}

// A panic of the command itself is not taken for an exit.
func TestRunPassesPanicsOn(t *testing.T) {
	var grammar struct {
		Go struct{} `cmd:""`
	}
	require.PanicsWithValue(t, "BUG", func() {
		Run(Options{Name: "mover", Grammar: &grammar}, []string{"go"}, func(*kong.Context) error { panic("BUG") })
	})
}

func TestIsTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	require.False(t, IsTerminal(f))
}
