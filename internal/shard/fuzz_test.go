package shard

import (
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

// FuzzShard sends bytes to two connections of a stepped shard over socket pairs: whatever they are, the shard's sums
// hold after each turn, and afterwards another client is served. The first byte chooses the dialect, and whether the
// upgrade is a part of the bytes; the second is the size of the pieces.
func FuzzShard(f *testing.F) {
	frame := func(op ws.OpCode, payload string) []byte {
		return wire.AppendMasked(nil, op, []byte(payload), [4]byte{1, 2, 3, 4})
	}
	connect := frame(ws.OpText, `{"id":1,"connect":{}}`)
	for _, seed := range [][]byte{
		append([]byte{0, 7}, connect...),
		append(append([]byte{0, 255}, connect...), frame(ws.OpText, `{"id":2,"subscribe":{"channel":"a"}}`+"\n"+`{"id":3,"unsubscribe":{"channel":"a"}}`+"\n{}")...),
		append(append([]byte{0, 50}, connect...), frame(ws.OpText, `{"id":2,"subscribe":{"channel":"a","recover":true,"offset":1,"epoch":"x"}}`+"\n"+`{"id":4,"history":{"channel":"a"}}`)...),
		append([]byte{0, 30}, append(frame(ws.OpPing, "p"), frame(ws.OpClose, "\x03\xe8bye")...)...),
		append([]byte{1, 9}, frame(ws.OpBinary, "\x05\x08\x01\x22\x01\x00")...),
		append([]byte{2, 9}, frame(ws.OpText, "ignored")...),
		append([]byte{3, 40}, wire.AppendClientHandshake(nil, "h", pathProtocol, "", testKey)...),
		append([]byte{3, 3}, "GET / HTTP/1.1\r\n\r\n"...),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) < 2 || len(input) > 16<<10 {
			return
		}
		kind, piece, input := input[0]%4, int(input[1])+1, input[2:]
		r := newStepped(t, func(o *Options) { o.TLS = TLS{} }) // It writes past TLS.
		r.place.set("a", 5)
		ends := []int{r.pair(), r.pair()}
		paths := []string{pathProtocol, pathProtocol + "?cf_protocol=protobuf", "/ws?channel=a"}
		for _, fd := range ends {
			if kind < 3 {
				writeAll(t, r, fd, wire.AppendClientHandshake(nil, "h", paths[kind], "", testKey))
			}
		}
		for n := 0; len(input) > 0; n++ {
			size := min(piece, len(input))
			writeAll(t, r, ends[n/3%2], input[:size])
			input = input[size:]
			if n%4 == 0 {
				r.publish("a", `{"n":1}`)
				r.step()
			}
		}
		for _, fd := range ends {
			_ = unix.Close(fd)
		}
		r.step()
		r.step()
		r.during(func() { r.join("b") })
	})
}

// pair gives the shard one end of a socket pair as if it had been accepted, and returns the other.
func (r *rig) pair() int {
	r.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(r.t, err)
	r.shard.open(fds[0], 0)
	return fds[1]
}

// writeAll writes b, and has the shard read it. What the shard sends is thrown away. It stops where the shard has closed
// the connection.
func writeAll(t *testing.T, r *rig, fd int, b []byte) {
	t.Helper()
	sink := make([]byte, 64<<10)
	for len(b) > 0 {
		n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && err != unix.EAGAIN {
			return
		}
		b = b[max(n, 0):]
		r.step()
		for {
			if n, err := unix.Read(fd, sink); n <= 0 || err != nil {
				break
			}
		}
	}
}
