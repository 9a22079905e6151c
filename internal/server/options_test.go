package server

import (
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/config"
)

func TestListenOptions(t *testing.T) {
	for _, deferred := range []bool{true, false} {
		s := &Server{cfg: &config.Config{Client: config.Client{Listen: []string{"127.0.0.1:0"}, KernelSendBuffer: 4096, DeferAccept: deferred}}}
		o := s.listenOptions(3)
		require.Equal(t, deferred, o.DeferAccept)
		require.Equal(t, 4096, o.SendBuffer)
		require.Equal(t, 3, o.Shards)
		require.Equal(t, []string{"127.0.0.1:0"}, o.Addresses)
	}
}
