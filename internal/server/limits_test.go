package server

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// Every limit of the configuration reaches the shards, with its dry run, and all shards share what is taken of it.
func TestLimitsReachShards(t *testing.T) {
	for _, dry := range []bool{false, true} {
		t.Run(fmt.Sprint("dry ", dry), func(t *testing.T) {
			flags := map[string]any{
				"shards": "3", "limits.connections": "5", "limits.address_connections": "6", "limits.handshakes": "7",
				"limits.address_handshakes": "8", "limits.channels": "9", "limits.channels_rate": "10", "limits.age": "11s",
				"limits.idle": "12s", "limits.user_connections": "13", "limits.recoveries_rate": "13",
			}
			names := []string{"connections", "address_connections", "handshakes", "address_handshakes", "channels", "channels_rate", "age", "idle", "user_connections"}
			if dry {
				flags["limits.dry_run"] = append([]string{"recoveries_rate"}, names...)
			}
			r := newRig(t, flags)
			r.ready()
			for i, limit := range r.server.quotas.Limits {
				want := int64(5 + i)
				if want == 11 || want == 12 {
					want *= 1e9
				}
				require.Equal(t, want, limit.Max, names[i])
				require.Equal(t, dry, limit.DryRun, names[i])
			}
			for range 5 {
				r.dial("/ws?channel=a")
			}
			conn, _, _, err := ws.Dialer{}.Dial(t.Context(), "ws://"+r.server.Addresses()[0].String()+"/ws?channel=a")
			if dry {
				require.NoError(t, err)
				require.NoError(t, conn.Close())
			} else {
				require.Equal(t, ws.StatusError(http.StatusServiceUnavailable), err)
			}
			exceeded := 0
			for i := range 3 {
				exceeded += r.metric(fmt.Sprintf(`wsd_limit_exceeded_total{limit="connections",shard="%d"}`, i))
			}
			require.Equal(t, 1, exceeded)
		})
	}
}
