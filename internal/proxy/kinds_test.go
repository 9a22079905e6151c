package proxy

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// The log in JSON names the kind of a call, like the metrics.
func TestKindInLog(t *testing.T) {
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "kind", KindSubRefresh)
	require.Contains(t, out.String(), `"kind":"sub_refresh"`)
}
