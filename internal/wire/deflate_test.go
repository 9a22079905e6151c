package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
	"github.com/klauspost/compress/flate"
	"github.com/stretchr/testify/require"
)

const rsv1 = 4

// compress is another library than the Inflater's.
func compress(dst, payload []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, 6)
	if err == nil {
		_, err = w.Write(payload)
	}
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		panic(err)
	}
	return append(dst, b.Bytes()[:b.Len()-4]...)
}

func deflateText(s string) string { return string(compress(nil, []byte(s))) }

// feedDeflated is feed for a connection with permessage-deflate, and inflates.
func feedDeflated(tb testing.TB, f *Inflater, stream []byte, messageMax int, next func() int) (events []got, code uint16) {
	tb.Helper()
	var r Reader
	r.AllowDeflate()
	var kept []byte
	for stream := bytes.Clone(stream); len(stream) > 0; {
		n := min(max(next(), 1), len(stream))
		kept, stream = append(kept, stream[:n]...), stream[n:]
		for {
			ev, payload, n, err := r.Next(kept, RoleServer, messageMax)
			if err != nil {
				return events, err.Code
			}
			if n == 0 {
				break
			}
			require.LessOrEqual(tb, r.Held(), DeflatedMax(messageMax))
			if ev == EventDeflatedText || ev == EventDeflatedBinary {
				require.LessOrEqual(tb, len(payload), DeflatedMax(messageMax))
				if ev, payload, err = f.Inflate(ev, payload, messageMax); err != nil {
					require.Equal(tb, EventNone, ev)
					return events, err.Code
				}
				require.LessOrEqual(tb, len(payload), messageMax)
				require.True(tb, r.Idle())
			}
			require.LessOrEqual(tb, cap(f.out), max(messageMax+1, 4096))
			if ev != EventFragment {
				events = append(events, got{ev, string(payload)})
			}
			kept = kept[n:]
		}
	}
	return events, 0
}

func all() int { return 1 << 30 }

// The examples of RFC 7692 §7.2.3, and what is wrong with others.
func TestInflate(t *testing.T) {
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	euro := deflateText("€uro")
	for _, test := range []struct {
		name   string
		send   []byte
		expect []got
		code   uint16
	}{
		{"7.2.3.1 one block", frame(true, rsv1, text, hello), []got{{EventText, "Hello"}}, 0},
		{"7.2.3.1 fragments", join(frame(false, rsv1, text, hello[:3]), whole(cont, hello[3:])), []got{{EventText, "Hello"}}, 0},
		{"7.2.3.2 the same twice, as without context", join(frame(true, rsv1, text, hello), frame(true, rsv1, text, hello)), []got{{EventText, "Hello"}, {EventText, "Hello"}}, 0},
		{"7.2.3.2 with context", join(frame(true, rsv1, text, hello), frame(true, rsv1, text, "\xf2\x00\x11\x00\x00")), []got{{EventText, "Hello"}}, 1007},
		{"7.2.3.3 not compressed", frame(true, rsv1, text, "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), []got{{EventText, "Hello"}}, 0},
		{"7.2.3.4 BFINAL", frame(true, rsv1, text, "\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), []got{{EventText, "Hello"}}, 0},
		{"7.2.3.5 two blocks", frame(true, rsv1, text, "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"), []got{{EventText, "Hello"}}, 0},
		{"7.2.3.6 empty", frame(true, rsv1, text, "\x00"), []got{{EventText, ""}}, 0},
		{"BFINAL twice", frame(true, rsv1, text, strings.Repeat("\xf3\x48\xcd\xc9\xc9\x07\x00", 2)+"\x00"), []got{{EventText, "HelloHello"}}, 0},
		{"BFINAL without end", frame(true, rsv1, bin, strings.Repeat("\x03\x00", 400)+"\x00"), nil, 1007},
		{"binary", frame(true, rsv1, bin, deflateText("\xff\xfe")), []got{{EventBinary, "\xff\xfe"}}, 0},
		{"plain text beside", join(whole(text, "a"), frame(true, rsv1, text, hello), whole(text, "b")), []got{{EventText, "a"}, {EventText, "Hello"}, {EventText, "b"}}, 0},
		{"ping between fragments", join(frame(false, rsv1, text, hello[:1]), whole(ws.OpPing, "p"), begin(cont, ""), whole(ws.OpPong, "q"), whole(cont, hello[1:])), []got{{EventPing, "p"}, {EventPong, "q"}, {EventText, "Hello"}}, 0},
		{"rune cut by fragments", join(frame(false, rsv1, text, euro[:2]), whole(cont, euro[2:])), []got{{EventText, "€uro"}}, 0},
		{"plain fragments afterwards are checked", join(frame(false, rsv1, text, hello), whole(cont, ""), begin(text, "\xff")), []got{{EventText, "Hello"}}, 1007},
		{"not UTF-8", frame(true, rsv1, text, deflateText("a\xff")), nil, 1007},
		{"rune cut off", frame(true, rsv1, text, deflateText("\xe2\x82")), nil, 1007},
		{"nothing", frame(true, rsv1, text, ""), nil, 1007},
		{"garbage", frame(true, rsv1, text, "garbage in a frame"), nil, 1007},
		{"reserved block type", frame(true, rsv1, bin, "\xff\xff"), nil, 1007},
		{"cut off", frame(true, rsv1, text, hello[:4]), nil, 1007},
		{"distance before the beginning", frame(true, rsv1, bin, "\x4a\x04\x22\x00"), nil, 1007},
		{"RSV1 on a continuation", join(frame(false, rsv1, text, hello[:3]), frame(true, rsv1, cont, hello[3:])), nil, 1002},
		{"RSV1 on a continuation of plain", join(begin(text, "a"), frame(true, rsv1, cont, hello)), nil, 1002},
		{"RSV1 on a ping", frame(true, rsv1, ws.OpPing, ""), nil, 1002},
		{"RSV1 on a close", frame(true, rsv1, ws.OpClose, ""), nil, 1002},
		{"RSV2", frame(true, 2, text, "a"), nil, 1002},
		{"RSV1 and RSV3", frame(true, rsv1|1, text, hello), nil, 1002},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, cut := range feeds {
				events, code := feedDeflated(t, new(Inflater), test.send, 1000, cut(len(test.send)))
				require.Equal(t, test.code, code, name)
				require.Equal(t, test.expect, events, name)
			}
		})
	}
	_, code, _ := feed(t, frame(true, rsv1, text, hello), RoleServer, 1000, all)
	require.EqualValues(t, 1002, code, "RSV1 without the extension")
}

// Autobahn's groups 12 and 13 in spirit: messages of many sizes, whole and in
// fragments, by one Inflater. Also those of the largest size allowed, which do
// not compress, and the first that is too large.
func TestInflateSizes(t *testing.T) {
	var f Inflater
	random := rand.New(rand.NewPCG(3, 4))
	const largest = 131072
	for _, size := range []int{0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, largest} {
		for _, kind := range []string{"json", "random"} {
			payload := strings.Repeat(`{"price":1.25,"size":7},`, size/24+1)[:size]
			if kind == "random" {
				b := make([]byte, size)
				for i := range b {
					b[i] = byte(random.Uint32())
				}
				payload = string(b)
			}
			data := deflateText(payload)
			for _, piece := range []int{len(data), 256, 1000} {
				stream := deflatedFragments(data, piece)
				events, code := feedDeflated(t, &f, join(stream, stream), largest, func() int { return 4096 })
				require.Zero(t, code)
				require.Equal(t, []got{{EventBinary, payload}, {EventBinary, payload}}, events)
			}
		}
	}
	_, code := feedDeflated(t, &f, frame(true, rsv1, bin, deflateText(strings.Repeat("a", largest+1))), largest, all)
	require.EqualValues(t, 1009, code)
}

func deflatedFragments(data string, piece int) (stream []byte) {
	rsv, op := byte(rsv1), bin
	for len(data) > piece {
		stream = append(stream, frame(false, rsv, op, data[:piece])...)
		data, rsv, op = data[piece:], 0, cont
	}
	return append(stream, frame(true, rsv, op, data)...)
}

// A message that grows a thousandfold costs no more than the limit, and what is
// too long on the wire is refused by its header.
func TestInflateBomb(t *testing.T) {
	var f Inflater
	bomb := deflateText(strings.Repeat("\x00", 25<<20))
	require.Less(t, len(bomb), 64<<10)
	_, code := feedDeflated(t, &f, frame(true, rsv1, bin, bomb), 64<<10, all)
	require.EqualValues(t, 1009, code)
	require.LessOrEqual(t, cap(f.out), 64<<10+1)
	events, code := feedDeflated(t, &f, frame(true, rsv1, bin, deflateText("after")), 64<<10, all)
	require.Zero(t, code)
	require.Equal(t, []got{{EventBinary, "after"}}, events)

	_, code = feedDeflated(t, new(Inflater), frame(true, rsv1, bin, strings.Repeat("x", DeflatedMax(1000)+1))[:8], 1000, all)
	require.EqualValues(t, 1009, code)
	half := strings.Repeat("x", DeflatedMax(1000)/2+1)
	_, code = feedDeflated(t, new(Inflater), join(frame(false, rsv1, bin, half), whole(cont, half)), 1000, all)
	require.EqualValues(t, 1009, code)
}

// Frames from the threshold on are compressed if that makes them smaller; all
// read as they did, and those below are the same bytes.
func TestAppendDeflated(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	noise := make([]byte, 700)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var frames []byte
	var want []got
	var plain []bool
	for _, m := range []struct {
		op      ws.OpCode
		payload string
		plain   bool
	}{
		{text, "", true},
		{text, "short", true},
		{text, strings.Repeat("a", 99), true},
		{text, strings.Repeat("a", 100), false},
		{bin, string(noise), true},
		{bin, strings.Repeat("\xff", 125), false},
		{text, strings.Repeat("b", 126), false},
		{text, strings.Repeat("cde", 30000), false},
		{bin, string(noise[:90]) + strings.Repeat("x", 40), false}, // Shrinks to a shorter header.
	} {
		frames = AppendFrame(frames, m.op, []byte(m.payload))
		ev := EventText
		if m.op == bin {
			ev = EventBinary
		}
		want, plain = append(want, got{ev, m.payload}), append(plain, m.plain)
	}
	before := bytes.Clone(frames)
	out := AppendDeflated([]byte("before"), frames, 100, compress)
	require.Equal(t, before, frames)
	require.Equal(t, "before", string(out[:6]))
	require.Less(t, len(out), len(frames))
	out = out[6:]
	var r Reader
	r.AllowDeflate()
	var f Inflater
	for i := range want {
		ev, payload, n, err := r.Next(out, RoleClient, 1<<20)
		require.Nil(t, err)
		require.Positive(t, n)
		require.Equal(t, plain[i], ev == EventText || ev == EventBinary)
		if !plain[i] {
			ev, payload, err = f.Inflate(ev, payload, 1<<20)
			require.Nil(t, err)
		}
		seen := got{ev, string(payload)}
		require.Equal(t, want[i], seen)
		out = out[n:]
	}
	require.Empty(t, out)
}

// FuzzInflate expects that no data makes more than the limit, and that what one
// Inflater makes of it does not depend on what it saw before.
func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"), uint16(100), true)
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), uint16(4), true)
	f.Add([]byte("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"), uint16(5), false)
	f.Add(compress(nil, bytes.Repeat([]byte("0123456789"), 1000)), uint16(9999), false)
	f.Add(compress(nil, []byte("€")), uint16(3), true)
	var used Inflater
	f.Fuzz(func(t *testing.T, data []byte, messageMax uint16, isText bool) {
		ev := EventDeflatedBinary
		if isText {
			ev = EventDeflatedText
		}
		before := bytes.Clone(data)
		var fresh Inflater
		gotEvent, payload, err := fresh.Inflate(ev, data, int(messageMax))
		require.Equal(t, before, data)
		require.LessOrEqual(t, cap(fresh.out), max(int(messageMax)+1, 4096))
		againEvent, again, againErr := used.Inflate(ev, data, int(messageMax))
		require.Equal(t, gotEvent, againEvent)
		require.Equal(t, err, againErr)
		require.Equal(t, string(payload), string(again))
		if err != nil {
			require.Contains(t, []uint16{1007, 1009}, err.Code)
			return
		}
		require.LessOrEqual(t, len(payload), int(messageMax))
		require.Equal(t, isText, gotEvent == EventText)
		require.True(t, !isText || utf8.Valid(payload))
		// What it makes, compressed again, is the same.
		_, back, err := fresh.Inflate(ev, compress(nil, bytes.Clone(payload)), int(messageMax))
		require.Nil(t, err)
		require.Equal(t, string(again), string(back))
	})
}

func BenchmarkInflate(b *testing.B) {
	for _, size := range []int{100, 4096, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			data := compress(nil, []byte(strings.Repeat(`{"price":1.25,"size":7},`, size/24+1)[:size]))
			var f Inflater
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := f.Inflate(EventDeflatedText, data, size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
