package wire

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
)

// conformance is one case of the Autobahn test suite, as far as it concerns the
// reading of frames: what a client sends, and what comes of it.
type conformance struct {
	id     string
	send   []byte
	expect []got
	code   uint16 // 0: the connection goes on.
}

const autobahnMax = 1 << 20

// TestAutobahn runs the cases 1.* to 5.* and 7.1 by number; autobahn_utf8_test.go
// has 6.*, TestAutobahnClose the rest of 7.*. Cases that differ in how the sender
// cuts its stream alone are run in all cuts.
func TestAutobahn(t *testing.T) {
	runConformance(t, dataCases())
	runConformance(t, controlCases())
	runConformance(t, fragmentCases())
}

func runConformance(t *testing.T, cases []conformance) {
	t.Helper()
	for _, c := range cases {
		for name, cut := range feeds {
			t.Run(c.id+"/"+name, func(t *testing.T) {
				if name == "byte by byte" && len(c.send) > 1<<14 {
					// Every piece shows the reader the frame from its start, so
					// one byte a time would take minutes for what 997 show as well.
					cut = func(int) func() int { return func() int { return 997 } }
				}
				events, code, left := feed(t, c.send, RoleServer, autobahnMax, cut(len(c.send)))
				require.Equal(t, c.code, code)
				require.Equal(t, c.expect, events)
				if c.code == 0 {
					require.Zero(t, left)
				}
			})
		}
	}
}

func dataCases() (cases []conformance) {
	for group, op := range []ws.OpCode{text, bin} {
		ev, fill := EventText, "*"
		if op == bin {
			ev, fill = EventBinary, "\xfe"
		}
		for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
			payload := strings.Repeat(fill, n)
			cases = append(cases, conformance{fmt.Sprintf("1.%d.%d", group+1, i+1), whole(op, payload), []got{{ev, payload}}, 0})
		}
	}
	return cases
}

func controlCases() []conformance {
	const unasked = "unsolicited pong payload"
	fe := strings.Repeat("\xfe", 125)
	var tenPings []byte
	var tenExpected []got
	for i := range 10 {
		payload := fmt.Sprintf("payload-%d", i)
		tenPings = append(tenPings, whole(ws.OpPing, payload)...)
		tenExpected = append(tenExpected, got{EventPing, payload})
	}
	hello := got{EventText, "hello"}
	textHello, ping := whole(text, "hello"), whole(ws.OpPing, "")
	cases := []conformance{
		{"2.1", ping, []got{{EventPing, ""}}, 0},
		{"2.2", whole(ws.OpPing, "Hello, world!"), []got{{EventPing, "Hello, world!"}}, 0},
		{"2.3", whole(ws.OpPing, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), []got{{EventPing, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"}}, 0},
		{"2.4", whole(ws.OpPing, fe), []got{{EventPing, fe}}, 0},
		{"2.5", whole(ws.OpPing, fe+"\xfe"), nil, 1002},
		{"2.6", whole(ws.OpPing, fe), []got{{EventPing, fe}}, 0},
		{"2.7", whole(ws.OpPong, ""), []got{{EventPong, ""}}, 0},
		{"2.8", whole(ws.OpPong, unasked), []got{{EventPong, unasked}}, 0},
		{"2.9", join(whole(ws.OpPong, unasked), whole(ws.OpPing, "ping payload")), []got{{EventPong, unasked}, {EventPing, "ping payload"}}, 0},
		{"2.10", tenPings, tenExpected, 0},
		{"2.11", tenPings, tenExpected, 0},
		{"3.1", frame(true, 1, text, "hello"), nil, 1002},
		{"3.2", join(textHello, frame(true, 2, text, "hello"), ping), []got{hello}, 1002},
		{"3.3", join(textHello, frame(true, 3, text, "hello"), ping), []got{hello}, 1002},
		{"3.4", join(textHello, frame(true, 4, text, "hello"), ping), []got{hello}, 1002},
		{"3.5", frame(true, 5, bin, "\x00\xff"), nil, 1002},
		{"3.6", frame(true, 6, ws.OpPing, "hello"), nil, 1002},
		{"3.7", frame(true, 7, ws.OpClose, ""), nil, 1002},
	}
	for group, ops := range [][]ws.OpCode{{3, 4, 5, 6, 7}, {11, 12, 13, 14, 15}} {
		for i, op := range ops {
			c := conformance{id: fmt.Sprintf("4.%d.%d", group+1, i+1), code: 1002}
			payload := "reserved opcode payload"
			if i%2 == 0 {
				payload = ""
			}
			if c.send = join(whole(op, payload), ping); i >= 2 {
				c.send, c.expect = join(textHello, c.send), []got{hello}
			}
			cases = append(cases, c)
		}
	}
	return cases
}

func fragmentCases() []conformance {
	const one, two = "fragment1", "fragment2"
	both := got{EventText, one + two}
	pinged := got{EventPing, "ping payload"}
	ping := whole(ws.OpPing, "ping payload")
	hello := whole(text, "hello")
	loose := join(begin(cont, one), begin(text, two), whole(cont, one))
	five := join(
		begin(text, one), begin(cont, two), whole(ws.OpPing, "1"),
		begin(cont, "fragment3"), begin(cont, "fragment4"), whole(ws.OpPing, "2"), whole(cont, "fragment5"))
	fiveExpected := []got{{EventPing, "1"}, {EventPing, "2"}, {EventText, "fragment1fragment2fragment3fragment4fragment5"}}
	bye := whole(ws.OpClose, "\x03\xe8")
	closed := got{EventClose, "\x03\xe8"}
	big := strings.Repeat("BAsd7&jh23", 26215)
	return []conformance{
		{"5.1", join(begin(ws.OpPing, one), whole(cont, two)), nil, 1002},
		{"5.2", join(begin(ws.OpPong, one), whole(cont, two)), nil, 1002},
		{"5.3", join(begin(text, one), whole(cont, two)), []got{both}, 0},
		{"5.4", join(begin(text, one), whole(cont, two)), []got{both}, 0},
		{"5.5", join(begin(text, one), whole(cont, two)), []got{both}, 0},
		{"5.6", join(begin(text, one), ping, whole(cont, two)), []got{pinged, both}, 0},
		{"5.7", join(begin(text, one), ping, whole(cont, two)), []got{pinged, both}, 0},
		{"5.8", join(begin(text, one), ping, whole(cont, two)), []got{pinged, both}, 0},
		{"5.9", join(whole(cont, "non-continuation payload"), hello), nil, 1002},
		{"5.10", join(whole(cont, "non-continuation payload"), hello), nil, 1002},
		{"5.11", join(whole(cont, "non-continuation payload"), hello), nil, 1002},
		{"5.12", join(begin(cont, "non-continuation payload"), hello), nil, 1002},
		{"5.13", join(begin(cont, "non-continuation payload"), hello), nil, 1002},
		{"5.14", join(begin(cont, "non-continuation payload"), hello), nil, 1002},
		{"5.15", join(begin(text, one), whole(cont, two), begin(cont, "fragment3"), whole(text, "fragment4")), []got{both}, 1002},
		{"5.16", join(loose, loose), nil, 1002},
		{"5.17", join(whole(cont, one), begin(text, two), whole(cont, one)), nil, 1002},
		{"5.18", join(begin(text, one), whole(text, two)), nil, 1002},
		{"5.19", five, fiveExpected, 0},
		{"5.20", five, fiveExpected, 0},
		{"7.1.1", join(hello, bye), []got{{EventText, "hello"}, closed}, 0},
		// What follows a close frame is read as well: the caller stops by itself.
		{"7.1.2", join(bye, bye), []got{closed, closed}, 0},
		{"7.1.3", join(bye, whole(ws.OpPing, "")), []got{closed, {EventPing, ""}}, 0},
		{"7.1.4", join(bye, hello), []got{closed, {EventText, "hello"}}, 0},
		{"7.1.5", join(begin(text, one), bye, whole(cont, two)), []got{closed, both}, 0},
		{"7.1.6", join(whole(text, big), hello, bye), []got{{EventText, big}, {EventText, "hello"}, closed}, 0},
	}
}

// TestAutobahnClose has the cases of 7.* that concern the close frame's payload.
// code and reason are what CloseCode says, fail what the connection is then
// failed with.
func TestAutobahnClose(t *testing.T) {
	cases := []struct {
		id, payload string
		code        uint16
		reason      string
		fail        uint16
	}{
		{"7.3.1", "", 1005, "", 0},
		{"7.3.2", "a", 0, "", 1002},
		{"7.3.3", closePayload(1000, ""), 1000, "", 0},
		{"7.3.4", closePayload(1000, "Hello World!"), 1000, "Hello World!", 0},
		{"7.3.5", closePayload(1000, strings.Repeat("*", 123)), 1000, strings.Repeat("*", 123), 0},
		{"7.5.1", closePayload(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"), 0, "", 1007},
		{"7.13.1", closePayload(5000, ""), 0, "", 1002},
		{"7.13.2", closePayload(65535, ""), 0, "", 1002},
		// Not of the suite: codes registered since, and theirs as an oracle.
		{"restart", closePayload(1012, "x"), 1012, "x", 0},
		{"gateway", closePayload(1014, ""), 1014, "", 0},
		{"later, bad reason", closePayload(1013, "\xff"), 0, "", 1007},
		{"tls", closePayload(1015, ""), 0, "", 1002},
	}
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		cases = append(cases, struct {
			id, payload string
			code        uint16
			reason      string
			fail        uint16
		}{fmt.Sprintf("7.7.%d", i+1), closePayload(code, ""), code, "", 0})
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		cases = append(cases, struct {
			id, payload string
			code        uint16
			reason      string
			fail        uint16
		}{fmt.Sprintf("7.9.%d", i+1), closePayload(code, ""), 0, "", 1002})
	}
	for _, c := range cases {
		t.Run(c.id, func(t *testing.T) {
			for _, cut := range feeds {
				b := whole(ws.OpClose, c.payload)
				events, failed, _ := feed(t, b, RoleServer, autobahnMax, cut(len(b)))
				require.Zero(t, failed)
				require.Equal(t, []got{{EventClose, c.payload}}, events)
			}
			code, reason, err := CloseCode([]byte(c.payload))
			require.Equal(t, c.code, code)
			require.Equal(t, c.reason, reason)
			if c.fail == 0 {
				require.Nil(t, err)
				return
			}
			require.NotNil(t, err)
			require.Equal(t, c.fail, err.Code)
		})
	}
	t.Run("7.3.6", func(t *testing.T) {
		for _, cut := range feeds {
			b := whole(ws.OpClose, closePayload(1000, strings.Repeat("*", 124)))
			events, failed, _ := feed(t, b, RoleServer, autobahnMax, cut(len(b)))
			require.Equal(t, uint16(1002), failed)
			require.Empty(t, events)
		}
	})
}

func closePayload(code uint16, reason string) string {
	return string([]byte{byte(code >> 8), byte(code)}) + reason
}
