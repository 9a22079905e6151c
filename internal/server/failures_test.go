package server

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An address that sends too many bad tokens is in the log, once a minute at most, also in a dry run.
func TestTokenFailuresAreLogged(t *testing.T) {
	for _, dryRun := range []bool{false, true} {
		flags := tokenFlags(map[string]any{"limits.address_token_failures": "2", "shutdown.drain": "100ms"})
		if dryRun {
			flags["limits.dry_run"] = []string{"address_token_failures"}
		}
		r := newRig(t, flags)
		r.ready()
		good := tokenFor(t, "sub", "alice")
		for range 2 {
			c := r.dial("/connection/websocket")
			c.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, good+"x"))
			_, err := c.raw()
			require.Equal(t, 3500, closeCode(err), err)
		}
		for range 3 {
			_, reply := r.login(good)
			require.Equal(t, dryRun, strings.Contains(reply, `"connect":{`), reply)
			require.Equal(t, !dryRun, strings.Contains(reply, `"code":111`), reply)
		}
		require.NoError(t, r.stop())
		text := r.log.String()
		require.Equal(t, 1, strings.Count(text, "limit=limits.address_token_failures value=2 dry_run="+fmt.Sprint(dryRun)))
		require.NotContains(t, text, good[:20])
	}
}
