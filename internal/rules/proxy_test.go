package rules

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAsksProxy(t *testing.T) {
	r, err := Parse([]string{"team.open=all", "team.*=claim:teams|proxy", "user.{sub}=proxy", "public.*=all"})
	require.NoError(t, err)
	for channel, want := range map[string]bool{
		"team.red": true, "team.open": false, "user.alice": true, "public.a": false, "other": false,
	} {
		require.Equal(t, want, r.AsksProxy(channel), channel)
		require.Equal(t, channel == "team.open" || channel == "public.a", r.Allows(&Client{User: "alice"}, channel), channel)
	}
	require.True(t, r.Allows(&Client{Lists: map[string][]string{"teams": {"team.red"}}}, "team.red"))
	require.True(t, r.NeedProxy())
	require.Contains(t, r.Explain(&Client{User: "alice"}, "team.red").Why, "that the backend allows it")
	r, err = Parse([]string{"*=token"})
	require.NoError(t, err)
	require.False(t, r.NeedProxy())
}
