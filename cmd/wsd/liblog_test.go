package main

import (
	"io"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// What a backend sends unasked does not fill the log, and is not in it.
func TestLibraryLog(t *testing.T) {
	t.Cleanup(func() { log.SetFlags(log.LstdFlags); log.SetOutput(os.Stderr) })
	out := &testutil.Buffer{}
	takeLibraryLog(slog.New(slog.NewTextHandler(out, nil)))
	for range 100 {
		log.Printf("Unsolicited response received on idle HTTP channel starting with %q; err=%v", "secret", io.EOF)
	}
	require.Equal(t, 1, strings.Count(out.String(), "\n"), out.String())
	require.Contains(t, out.String(), `level=WARN msg="a library reports a fault" what="Unsolicited response received on idle HTTP channel starting with "`)
	require.NotContains(t, out.String(), "secret")
}
