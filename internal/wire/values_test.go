package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Fields that only some ask for come in their order, whatever the case of their names.
func TestFieldValues(t *testing.T) {
	var got [][]string
	request := append([]byte("\r\n"), head("GET / HTTP/1.1", "Host: x", "X-Forwarded-For: a", "x-forwarded-for:  b, c ",
		"X-Forwarded-Fo: d", "Forwarded:", "Note: X-Forwarded-For: e")...)
	_, rejected := Handshake(nil, request, func(*Request) (Accept, error) {
		for _, name := range []string{"x-forwarded-for", "forwarded", "note", "cookie"} {
			got = append(got, FieldValues(request, name))
		}
		return Accept{}, nil
	})
	require.Equal(t, CauseNotUpgrade, rejected.Cause)
	require.Equal(t, [][]string{{"a", "b, c"}, {""}, {"X-Forwarded-For: e"}, nil}, got)
}
