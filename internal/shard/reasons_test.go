package shard

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
)

// The log in JSON names the reason, like the metric.
func TestReasonInLog(t *testing.T) {
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "reason", ReasonSlow)
	require.Contains(t, out.String(), `"reason":"slow"`)
}
