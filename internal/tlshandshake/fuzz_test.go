package tlshandshake_test

import (
	"bytes"
	"crypto/tls"
	"testing"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
	"wsd/internal/tlshandshake"
	"wsd/internal/tlsrecord"
)

// FuzzHandshake feeds a handshake with what is, or is not, the messages of a client, record by record. Whatever it is, the
// handshake ends with one last step, which is an error, and nothing of it stays.
func FuzzHandshake(f *testing.F) {
	hello := helloOf(f)
	body := hello[tlsrecord.HeaderLen:]
	inTwo := bytes.Join([][]byte{{22, 3, 1, 0, 50}, body[:50], {22, 3, 1, byte((len(body) - 50) >> 8), byte(len(body) - 50)},
		body[50:]}, nil)
	for _, seed := range [][]byte{
		hello, inTwo, append(bytes.Clone(hello), hello...), append(bytes.Clone(hello), 20, 3, 3, 0, 1, 1),
		append(bytes.Clone(hello), 21, 3, 3, 0, 2, 2, 40), append(bytes.Clone(hello), 23, 3, 3, 0, 3, 1, 2, 3),
		{22, 3, 1, 0, 0}, {22, 3, 1, 0, 4, 1, 0, 0, 0}, {22, 3, 1, 0, 4, 1, 255, 255, 255}, {23, 3, 3, 0, 1, 0},
	} {
		f.Add(seed)
	}
	config := tlshandshake.NewConfig([]tls.Certificate{testutil.Certificate("a.example")}, make([][32]byte, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := tlshandshake.New(tlshandshake.Options{Workers: 1, PendingMax: 1, Config: config})
		require.NoError(t, err)
		steps := make(chan tlshandshake.Step, 1)
		report := func(s tlshandshake.Step) { steps <- s }
		var h *tlshandshake.Handshake
		done := false
		for !done && len(data) >= tlsrecord.HeaderLen {
			n := tlsrecord.HeaderLen + int(data[3])<<8 + int(data[4])
			if n > len(data) || n > tlsrecord.RecordMax { // The loop feeds no others.
				break
			}
			record := bytes.Clone(data[:n])
			data = data[n:]
			if h == nil {
				h = p.Begin(record, report)
			} else {
				h.Await(report)
				h.Feed(record)
			}
			s := <-steps
			if done = s.Done; done {
				require.Error(t, s.Err)
			}
		}
		if h != nil && !done {
			h.Await(report)
			h.Abandon()
			s := <-steps
			for !s.Done { // It had something to send before it noticed.
				h.Await(report)
				s = <-steps
			}
			require.Error(t, s.Err)
		}
		require.Zero(t, p.Stats().Pending.Load())
	})
}
