package kafka

import (
	"encoding/binary"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// dripBroker answers the handshake of a Conn, and then each request with a response of size bytes, in pieces with a
// pause after each. If the pause is negative, it closes the connection after the first piece.
func dripBroker(t *testing.T, size, piece int, pause time.Duration) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		head := make([]byte, 4)
		for first := true; ; first = false {
			if _, err := c.Read(head); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head))
			for n := 0; n < len(body); {
				m, err := c.Read(body[n:])
				if err != nil {
					return
				}
				n += m
			}
			resp := make([]byte, 8, 8+size)
			copy(resp[4:], body[4:8]) // The correlation id.
			if first {
				v := kmsg.NewPtrApiVersionsResponse()
				for _, need := range versionsMin {
					v.ApiKeys = append(v.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: need.key.Int16(), MaxVersion: need.min})
				}
				resp = v.AppendTo(resp)
			} else {
				m := kmsg.NewPtrMetadataResponse()
				m.Version = 4
				name := string(make([]byte, 10_000))
				for len(m.Topics)*len(name) < size {
					m.Topics = append(m.Topics, kmsg.MetadataResponseTopic{Topic: &name})
				}
				resp = m.AppendTo(resp)
			}
			binary.BigEndian.PutUint32(resp, uint32(len(resp)-4))
			for n := 0; n < len(resp); n += piece {
				if _, err := c.Write(resp[n:min(n+piece, len(resp))]); err != nil {
					return
				}
				switch {
				case first:
					continue
				case pause < 0:
					return
				}
				select {
				case <-time.After(pause):
				case <-t.Context().Done():
					return
				}
			}
		}
	}()
	return l.Addr().String()
}

func metadataFrom(t *testing.T, addr string, timeout time.Duration) (int, error) {
	t.Helper()
	k, err := (&Dialer{DialTimeout: time.Minute, RequestTimeout: timeout, ResponseMax: 1 << 20}).Dial(t.Context(), addr)
	require.NoError(t, err)
	defer k.Close()
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 4
	var resp kmsg.MetadataResponse
	_, err = k.Request(req, &resp, 0)
	return len(resp.Topics), err
}

// A response that keeps coming may take many times the timeout. One that trickles, or stops, may not.
func TestDeadlineMovesWithProgress(t *testing.T) {
	const timeout = 400 * time.Millisecond
	n, err := metadataFrom(t, dripBroker(t, 400_000, 20_000, timeout/4), timeout) // Five times the timeout.
	require.NoError(t, err)
	require.Equal(t, 40, n)
	_, err = metadataFrom(t, dripBroker(t, 1_000_000, 16, timeout/25), timeout)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a trickle")
	_, err = metadataFrom(t, dripBroker(t, 1_000_000, 500_000, time.Hour), timeout)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "a stop")
}
