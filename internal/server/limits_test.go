package server

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/shard"
)

// Every limit of the configuration reaches the shards, with its dry run, and all shards share what is taken of it.
func TestLimitsReachShards(t *testing.T) {
	for _, dry := range []bool{false, true} {
		t.Run(fmt.Sprint("dry ", dry), func(t *testing.T) {
			flags := map[string]any{
				"shards": "3", "limits.connections": "5", "limits.address_connections": "6", "limits.handshakes": "7",
				"limits.address_handshakes": "8", "limits.channels": "9", "limits.channels_rate": "10", "limits.age": "11s",
				"limits.idle": "12s", "limits.recoveries_rate": "13", "client.channels_max": "8", "client.head_max": "15000",
				"client.message_max": "17000", "client.first_message_max": "16000", "client.outbound_max": "2000000",
				"limits.memory": "19000000", "limits.answers_memory": "18000000", "bus.pinned_max": "20000000",
				"limits.user_connections": "21", "limits.publish_rate": "22", "limits.publish_under_way": "23", "auth.mode": "token", "auth.hmac_secret": tokenSecret, "auth.anonymous": "true",
				"auth.rules": []string{"*=all"},
			}
			want := []int64{5, 6, 7, 8, 9, 10, 11e9, 12e9, 8, 15000, 17000, 16000, 2000000, 19000000, 18000000, 20000000, 21, 22, 23}
			if dry {
				names := []string{"recoveries_rate"}
				for _, quota := range shard.AllQuotas() {
					names = append(names, quota.String())
				}
				flags["limits.dry_run"] = names
			}
			r := newRig(t, flags)
			r.ready()
			for i, limit := range r.server.quotas.Limits {
				require.Equal(t, want[i], limit.Max, shard.Quota(i))
				require.Equal(t, dry, limit.DryRun, shard.Quota(i))
			}
			require.Equal(t, []int64{19000000, 18000000}, []int64{r.server.memory.Limit, r.server.memory.AnswersLimit})
			limits := r.server.shardOptions(0, nil).Limits
			wantKept := []int{8, 15000, 17000, 16000}
			if dry { // The largest values that the options can have.
				wantKept = []int{1 << 16, 1 << 20, 16 << 20, 16 << 20}
			}
			require.Equal(t, wantKept, []int{limits.ChannelsMax, limits.HeadMax, limits.MessageMax, limits.FirstMessageMax})
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
