package kafkaauth

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type oneToken struct {
	text    string
	refused int
	err     error
}

func (o *oneToken) Token(context.Context) (string, error) { return o.text, o.err }
func (o *oneToken) Refused(string)                        { o.refused++ }

// The messages are those of RFC 7628, section 4: a client's first message, and the end of a failed exchange.
func TestOAuthBearer(t *testing.T) {
	tokens := &oneToken{text: "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="}
	m := OAuthBearer(tokens, []Extension{{"host", "server.example.com"}, {"port", "143"}}, "x")
	require.Equal(t, "OAUTHBEARER", m.Name())
	login, first, err := m.Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "n,,\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01host=server.example.com\x01port=143\x01\x01", string(first))
	done, _, err := login.Next(t.Context(), nil)
	require.NoError(t, err)
	require.True(t, done)

	login, _, err = m.Start(t.Context())
	require.NoError(t, err)
	done, next, err := login.Next(t.Context(), []byte(`{"status":"invalid_token"}`+strings.Repeat(" ", 1<<20)))
	require.NoError(t, err)
	require.False(t, done)
	require.Equal(t, "\x01", string(next))
	require.Equal(t, 1, tokens.refused)
	_, _, err = login.Next(t.Context(), nil)
	require.ErrorContains(t, err, "invalid_token")
	require.Less(t, len(err.Error()), 500)

	tokens.err = errors.New("no token")
	_, _, err = m.Start(t.Context())
	require.ErrorIs(t, err, tokens.err)
}

// PLAIN and SCRAM use the password as it is at the login.
func TestPasswordOfTheMoment(t *testing.T) {
	password := "first"
	now := func() string { return password }
	m := Plain("u", now)
	_, first, err := m.Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "\x00u\x00first", string(first))
	password = "second"
	_, first, err = m.Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "\x00u\x00second", string(first))

	scram := SCRAM(SHA512, "u", now)
	require.Equal(t, "SCRAM-SHA-512", scram.Name())
	_, _, err = scram.Start(t.Context())
	require.NoError(t, err)
	password = "bell\a" // SASLprep forbids it.
	_, _, err = scram.Start(t.Context())
	require.Error(t, err)
	require.NotContains(t, err.Error(), "bell")
	require.Error(t, CheckSCRAM("u", password))
}
