package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A token that nobody looks at is logged once, without the token.
func TestTokenIsIgnoredAloud(t *testing.T) {
	r := newRig(t, nil)
	for range 3 {
		c := r.dial("/connection/websocket")
		c.send(`{"id":1,"connect":{"token":"hush-hush"}}`)
		require.Contains(t, c.reply(), `"connect":{"client":`)
	}
	require.Equal(t, 1, strings.Count(r.log.String(), "does not verify tokens"))
	require.NotContains(t, r.log.String(), "hush")
}
