package kafka

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestServe(t *testing.T) {
	in, end := io.Pipe()
	said, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Serve(t.Context(), "numbers", in, out) }()
	address, err := bufio.NewReader(said).ReadString('\n')
	require.NoError(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.TrimSpace(address)), kgo.DefaultProduceTopic("numbers"))
	require.NoError(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, client.ProduceSync(ctx, kgo.StringRecord("one")).FirstErr())
	require.NoError(t, end.Close())
	require.NoError(t, <-ended)
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, end := io.Pipe()
	defer func() { require.NoError(t, end.Close()) }()
	require.NoError(t, Serve(ctx, "x", in, io.Discard))
}
