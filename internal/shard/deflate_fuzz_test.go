package shard

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

// FuzzDeflated has a client with permessage-deflate send the same bytes twice: in pieces that the input chooses, and at
// once. It must get the same both times. The shard's sums hold after each turn, and nothing is kept of a connection that
// has gone. The input is a program that makes the client's messages, see deflatedProgram.
func FuzzDeflated(f *testing.F) {
	f.Add([]byte("\x08\x00\x09\x00\x2a\x00\x0d\x05hello"), []byte{1, 2, 3})
	f.Add([]byte("\x28\x00\x0d\x20{\"id\":9,\"rpc\":{}}\n{\"id\":10,\"rpc\":{}}"), []byte{7})
	f.Add([]byte("\x00\x00\x8d\xff"+strings.Repeat("x", 255)+"\x06\x01p"), []byte{200}) // More than the ratio allows.
	f.Add([]byte("\x08\x00\x4d\x09corrupted\x09\x00"), []byte{5})
	f.Add([]byte("\x00\x00\x0b\x00\x07\x02\x03\xe8"), []byte{40, 1})
	f.Add([]byte("\x08\x00\x99\x00\xad\x14"+strings.Repeat("{}\n\x00 ", 4)), []byte{255})
	d := &slowDeflater{}
	f.Fuzz(func(t *testing.T, program, cuts []byte) {
		if len(program) > 4<<10 {
			return
		}
		stream := deflatedProgram(d, program)
		r := newStepped(t, func(o *Options) {
			o.TLS = TLS{} // It writes past TLS.
			o.Deflate = Deflate{Deflater: d, Least: testLeast, Inline: 1 << 20}
			o.Limits.MessageMax = 8 << 10
		})
		r.place.set("a", 5)
		i := 0
		pieces := r.exchange(stream, func() int {
			if i++; len(cuts) > 0 {
				return int(cuts[i%len(cuts)]) + 1
			}
			return 1
		})
		require.Equal(t, r.exchange(stream, func() int { return len(stream) }), pieces)
	})
}

// deflatedProgram makes the masked frames of a program. A message has a byte of flags, a length and bytes: bits 0 to 2
// choose a command or what else it is, 3 compresses it, 4 makes it binary, 5 splits it into two frames, 6 spoils a byte
// of its payload, and 7 repeats it.
func deflatedProgram(d Deflater, program []byte) (stream []byte) {
	mask := [4]byte{9, 8, 7, 6}
	for id := 1; len(program) >= 2; id++ {
		flags, n := program[0], min(int(program[1]), len(program)-2)
		text := string(program[2 : 2+n])
		program = program[2+n:]
		switch flags & 7 {
		case 0:
			text = fmt.Sprintf(`{"id":%d,"connect":{}}`, id)
		case 1:
			text = fmt.Sprintf(`{"id":%d,"subscribe":{"channel":"a"}}`, id)
		case 2:
			text = fmt.Sprintf(`{"id":%d,"unsubscribe":{"channel":"a"}}`, id)
		case 3:
			text = fmt.Sprintf(`{"id":%d,"rpc":{"method":%q}}`, id, text)
		case 6, 7:
			op := ws.OpPing
			if flags&7 == 7 {
				op = ws.OpClose
			}
			stream = wire.AppendMasked(stream, op, []byte(text[:min(len(text), 125)]), mask)
			continue
		}
		if flags&128 != 0 {
			text = strings.Repeat(text+"\n", 100)
		}
		payload, first := []byte(text), byte(0)
		if flags&8 != 0 {
			payload, first = d.Append(nil, payload), 0x40 // RSV1.
		}
		if flags&64 != 0 && len(payload) > 0 {
			payload[n%len(payload)] ^= byte(id)
		}
		op := ws.OpText
		if flags&16 != 0 {
			op = ws.OpBinary
		}
		head, rest := payload, []byte(nil)
		if flags&32 != 0 {
			head, rest = payload[:len(payload)/2], payload[len(payload)/2:]
		}
		at := len(stream)
		stream = wire.AppendMasked(stream, op, head, mask)
		stream[at] |= first
		if flags&32 != 0 {
			stream[at] &^= 0x80 // FIN.
			stream = wire.AppendMasked(stream, ws.OpContinuation, rest, mask)
		}
	}
	return stream
}

var clientIDText = regexp.MustCompile(`"client":"[0-9a-f]{32}"`)

// exchange has a new client send stream in pieces, and returns the messages that it gets: not the pongs, of which
// several may become one.
func (r *rig) exchange(stream []byte, next func() int) (got []string) {
	r.t.Helper()
	fd := r.pair()
	var in []byte
	read := func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := unix.Read(fd, buf)
			if n <= 0 || err != nil {
				return
			}
			in = append(in, buf[:n]...)
		}
	}
	send := func(b []byte) (open bool) {
		for len(b) > 0 {
			n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL)
			if err != nil && err != unix.EAGAIN {
				return false
			}
			b = b[max(n, 0):]
			r.step()
			read()
		}
		return true
	}
	request := wire.AppendClientHandshake(nil, "h", pathProtocol, "", testKey)
	send(append(request[:len(request)-2], "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"...))
	n := wire.HeadLen(in, 0)
	require.Contains(r.t, string(in[:n]), "permessage-deflate")
	for open := true; open && len(stream) > 0; {
		size := min(next(), len(stream))
		open = send(stream[:size])
		stream = stream[size:]
	}
	for range 3 {
		r.step()
		read()
	}
	_ = unix.Close(fd)
	for i := 0; r.shard.connections > 0; i++ {
		require.Less(r.t, i, 100, "the connection stays")
		r.step()
	}
	require.Zero(r.t, r.shard.inbound.bytes)
	require.Zero(r.t, r.shard.ownMemory())
	var reader wire.Reader
	reader.AllowDeflate()
	var inflater wire.Inflater
	for in = in[n:]; ; {
		event, payload, used, err := reader.Next(in, wire.RoleClient, 64<<20)
		require.Nil(r.t, err)
		if used == 0 {
			require.Empty(r.t, in)
			return got
		}
		if in = in[used:]; event == wire.EventPong {
			continue
		}
		if event == wire.EventDeflatedText {
			event, payload, err = inflater.Inflate(event, payload, 64<<20)
			require.Nil(r.t, err)
		}
		payload = clientIDText.ReplaceAll(bytes.Clone(payload), []byte(`"client":""`))
		got = append(got, fmt.Sprint(event, string(payload)))
	}
}
