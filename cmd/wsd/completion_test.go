package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/command"
	"wsd/internal/config"
)

// complete has bash complete a line that ends in the middle of its last word.
func complete(t *testing.T, script, line string) []string {
	t.Helper()
	words := strings.Split(line, " ")
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = "'" + w + "'"
	}
	program := fmt.Sprintf("source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _wsd; printf '%%s\\n' \"${COMPREPLY[@]}\"", script,
		strings.Join(quoted, " "), len(words)-1)
	out, err := exec.CommandContext(t.Context(), "bash", "-eu", "-c", program).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.Fields(string(out))
}

func TestCompletionOfBash(t *testing.T) {
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("needs bash")
	}
	code, text, _ := call("completion", "bash")
	require.Equal(t, command.OK, code)
	script := filepath.Join(t.TempDir(), "wsd")
	require.NoError(t, os.WriteFile(script, []byte(text), 0o600))
	require.Equal(t, []string{"serve", "steer"}, complete(t, script, "wsd s")[:2])
	require.Equal(t, []string{"policy"}, complete(t, script, "wsd steer set pol"))
	require.Equal(t, []string{"--kafka.topics", "--kafka.topics-max"}, complete(t, script, "wsd serve --log.level debug --kafka.top"))
	require.NotContains(t, complete(t, script, "wsd "), "man", "it is for packages")
	require.Empty(t, complete(t, script, "wsd version --kafka"))
}

// Shells that are not installed here read their scripts elsewhere (make test-packages).
func TestCompletionScripts(t *testing.T) {
	for shell, args := range map[string][]string{"bash": {"-n"}, "zsh": {"-n"}, "fish": {"--no-execute"}} {
		t.Run(shell, func(t *testing.T) {
			code, text, _ := call("completion", shell)
			require.Equal(t, command.OK, code)
			for _, p := range []string{"'wsd steer set'", "config", "kafka.brokers"} {
				require.Contains(t, text, p)
			}
			program, err := exec.LookPath(shell)
			if err != nil {
				t.Skipf("%s is not installed", shell)
			}
			script := filepath.Join(t.TempDir(), "script")
			require.NoError(t, os.WriteFile(script, []byte(text), 0o600))
			out, err := exec.CommandContext(t.Context(), program, append(args, script)...).CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
	code, _, stderr := call("completion", "tcsh")
	require.Equal(t, command.Usage, code)
	require.Contains(t, stderr, "bash")
}

// Every command has a page, every option is on the pages that its help lists it on.
func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	code, _, stderr := call("man", dir)
	require.Equal(t, command.OK, code, stderr)
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(b)
	}
	serve, file := read("wsd-serve.1"), read("wsd.yaml.5")
	for _, o := range config.Options() {
		require.Contains(t, file, ".B "+roff(o.Key)+"\n")
		require.Contains(t, serve, ".B "+roff(o.Flag))
	}
	require.Contains(t, read("wsd-steer-set-policy.1"), ".B wsd steer set policy <name>")
	require.NotContains(t, read("wsd-steer.1"), "kafka", "its help does not show them either")
	require.Equal(t, `\&.x \e \-`, roff(`.x \ -`))

	code, _, stderr = call("man", "/dev/null/x")
	require.Equal(t, command.Failed, code)
	require.Contains(t, stderr, "/dev/null")
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip("man, which judges the pages, is not installed")
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	for _, page := range pages {
		cmd := exec.CommandContext(t.Context(), "man", "--warnings", "-l", page)
		cmd.Env = append(os.Environ(), "MANPAGER=cat", "MANWIDTH=100", "LC_ALL=C.UTF-8")
		var errs strings.Builder
		cmd.Stderr = &errs
		require.NoError(t, cmd.Run(), page)
		require.Empty(t, errs.String(), page)
	}
}
