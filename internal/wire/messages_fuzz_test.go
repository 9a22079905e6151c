package wire

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// FuzzMessages reads a stream through Reader and Inflater in pieces that the input chooses, and expects what a plain
// reader makes of the same bytes, which has all of them and copies. With build the input is a program that makes frames
// (see framesOf), most of them good ones; otherwise it is the stream itself.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("\xa0\x05Hello\x03\x01p\x00\x00"), []byte{1, 2, 3}, uint16(64), true, true)
	f.Add([]byte("\x20\x05Hello\xa1\x03\xff\xfe\xfd\x08\x02\xe2\x82\x02\x01\xac"), []byte{5}, uint16(100), true, true)
	f.Add([]byte("\x28\x05Hello\x0a\x00\x05\x02\x03\xe8\x12\x00"), []byte{2}, uint16(4), true, true)
	f.Add(join(frame(true, rsv1, text, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), whole(bin, "x")), []byte{9}, uint16(5), true, false)
	f.Add(frame(true, rsv1, bin, deflateText(strings.Repeat("\x00", 9000))), []byte{200}, uint16(8999), true, false)
	f.Add(header(bin, true, 64, 1<<40), []byte{1}, uint16(10), true, false)
	var used Inflater // Its reader has seen other messages.
	f.Fuzz(func(t *testing.T, stream, cuts []byte, messageMax uint16, deflate, build bool) {
		if len(stream) > 16<<10 {
			return
		}
		if build {
			stream = framesOf(stream)
		}
		largest, i := int(messageMax), 0
		used.out = nil
		want, wantCode := plainMessages(stream, largest, deflate)
		events, code := messagesInPieces(t, &used, stream, largest, deflate, func() int {
			if i++; len(cuts) > 0 {
				return int(cuts[i%len(cuts)])
			}
			return 1
		})
		require.Equal(t, wantCode, code)
		require.Equal(t, want, events)
	})
}

// messagesInPieces is feedDeflated for a connection that may not have negotiated permessage-deflate.
func messagesInPieces(
	tb testing.TB, f *Inflater, stream []byte, messageMax int, deflate bool, next func() int,
) (events []got, code uint16) {
	tb.Helper()
	if deflate {
		return feedDeflated(tb, f, stream, messageMax, next)
	}
	events, code, _ = feed(tb, stream, RoleServer, messageMax, next)
	return events, code
}

// framesOf makes masked frames of a program. A frame has a byte of flags, a length and a payload: bits 0 to 2 choose
// the opcode, 3 takes FIN away, 4 sets RSV1, 5 compresses the payload and sets RSV1, 6 sets RSV2, and 7 has a message
// come in two fragments with a ping between them.
func framesOf(program []byte) (stream []byte) {
	opcodes := [...]ws.OpCode{text, bin, cont, ws.OpPing, ws.OpPong, ws.OpClose, text, 3}
	for len(program) >= 2 {
		flags, size := program[0], min(int(program[1]), len(program)-2)
		payload := string(program[2 : 2+size])
		program = program[2+size:]
		op, rsv := opcodes[flags&7], byte(0)
		if flags&32 != 0 {
			payload, rsv = deflateText(payload), rsv1
		}
		rsv |= flags >> 4 & 1 << 2
		rsv |= flags >> 6 & 1 << 1
		if flags&128 != 0 {
			half := len(payload) / 2
			stream = append(stream, frame(false, rsv, op, payload[:half])...)
			stream = append(stream, whole(ws.OpPing, "between")...)
			op, payload, rsv = cont, payload[half:], 0
		}
		stream = append(stream, frame(flags&8 == 0, rsv, op, payload)...)
	}
	return stream
}

// plainMessages reads a client's stream by the letter of RFC 6455 and RFC 7692, without care for memory or speed.
func plainMessages(stream []byte, messageMax int, deflate bool) (events []got, code uint16) {
	var message []byte
	var kind ws.OpCode
	open, compressed := false, false
	for len(stream) >= 2 {
		fin, rsv, op := stream[0]&0x80 != 0, stream[0]>>4&7, ws.OpCode(stream[0]&15)
		masked, length := stream[1]&0x80 != 0, uint64(stream[1]&0x7f)
		control := op >= 8
		begins := op == text || op == bin
		if deflate && begins && !open {
			compressed = rsv&rsv1 != 0
			rsv &^= rsv1
		} else if begins && !open {
			compressed = false
		}
		switch {
		case rsv != 0, !masked, op > 2 && op < 8, op > 10, control && (!fin || length > 125),
			begins && open, op == cont && !open:
			return events, 1002
		}
		at := 2
		if size := map[uint64]int{126: 2, 127: 8}[length]; size > 0 {
			if at += size; len(stream) < at {
				return events, 0
			}
			least := length
			if length = 0; true {
				for _, b := range stream[2:at] {
					length = length<<8 | uint64(b)
				}
			}
			if least == 127 && (length < 1<<16 || length >= 1<<63) || least == 126 && length < 126 {
				return events, 1002
			}
		}
		largest := messageMax
		if compressed && !control {
			largest = DeflatedMax(messageMax)
		}
		if !control && length > uint64(largest-len(message)) {
			return events, 1009
		}
		if uint64(len(stream)) < uint64(at)+4+length {
			return events, 0
		}
		mask := stream[at : at+4]
		payload := bytes.Clone(stream[at+4 : at+4+int(length)])
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		stream = stream[at+4+int(length):]
		if control {
			events = append(events, got{map[ws.OpCode]Event{8: EventClose, 9: EventPing, 10: EventPong}[op], string(payload)})
			continue
		}
		if begins {
			kind = op
		}
		open = !fin
		if message = append(message, payload...); kind == text && !compressed && !plausibleText(message, fin) {
			return events, 1007
		}
		if !fin {
			continue
		}
		if compressed {
			var bad uint16
			if message, bad = plainInflate(message, messageMax); bad != 0 {
				return events, bad
			}
			if kind == text && !utf8.Valid(message) {
				return events, 1007
			}
		}
		events = append(events, got{map[ws.OpCode]Event{text: EventText, bin: EventBinary}[kind], string(message)})
		message = nil
	}
	return events, 0
}

// plausibleText reports whether b is UTF-8, of which the last rune may be incomplete unless it is all there is.
func plausibleText(b []byte, whole bool) bool {
	for len(b) > 0 {
		if !utf8.FullRune(b) {
			return !whole
		}
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError && n == 1 {
			return false
		}
		b = b[n:]
	}
	return true
}

// plainInflate decompresses one message. It has a new decompressor for each final block of the sender.
func plainInflate(b []byte, messageMax int) (out []byte, code uint16) {
	in := bytes.NewReader(append(bytes.Clone(b), 0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff))
	for range streamsMax {
		one, err := io.ReadAll(io.LimitReader(flate.NewReader(in), int64(messageMax+1-len(out))))
		out = append(out, one...)
		switch {
		case len(out) > messageMax:
			return nil, 1009
		case err != nil:
			return nil, 1007
		case in.Len() == 0:
			return out, 0
		}
	}
	return nil, 1007
}

// The reference finds what it is asked to find.
func TestPlainMessages(t *testing.T) {
	_, code := plainMessages(binary.BigEndian.AppendUint16([]byte{0x82, 0x80 | 126}, 4), 10, false)
	require.EqualValues(t, 1002, code, "not the shortest form")
	events, code := plainMessages(framesOf([]byte("\xa0\x05Hello\x00\x01x\x01\x02\xff\xfe")), 64, true)
	require.Zero(t, code)
	require.Equal(t, []got{{EventPing, "between"}, {EventText, "Hello"}, {EventText, "x"}, {EventBinary, "\xff\xfe"}}, events)
	_, err := io.ReadAll(flate.NewReader(bytes.NewReader([]byte("\xff"))))
	require.ErrorAs(t, err, new(flate.CorruptInputError))
}
