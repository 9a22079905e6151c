package wire

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFields(t *testing.T) {
	head := "\r\nGET /ws HTTP/1.1\r\nHost: a\r\nCOOKIE: a=b\r\nX-Other: no\r\nx-real-ip:  10.0.0.1 \r\nCookie: c=d\r\nX-Bad: a\x01b\r\n\r\n"
	require.Equal(t, [][2]string{{"cookie", "a=b"}, {"x-real-ip", "10.0.0.1"}, {"cookie", "c=d"}},
		Fields([]byte(head), []string{"cookie", "x-real-ip", "x-bad", "x-missing"}))
	require.Empty(t, Fields([]byte(head), nil))
	require.Empty(t, Fields([]byte("GET / HTTP/1.1\r\n"), []string{"cookie"}))
}
