package shard

import (
	"io"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/wire"
)

// A client that sends a byte a minute, or nothing, is ended by the limit of what it is in the middle of, however it
// keeps moving. Others are served meanwhile, and nothing is left of it.
func TestTricklersEnd(t *testing.T) {
	const limit, minutes = 150 * time.Second, 10
	mask := [4]byte{1, 2, 3, 4}
	request := wire.AppendClientHandshake(nil, "h", pathProtocol, "", testKey)
	command := wire.AppendMasked(nil, ws.OpText, []byte(`{"id":1,"connect":{}}`), mask)
	subscribe := wire.AppendMasked(nil, ws.OpText, []byte(`{"id":2,"subscribe":{"channel":"a"}}`), mask)
	begun := wire.AppendMasked(nil, ws.OpText, []byte(`{"id":2,`), mask)
	begun[0] &^= 0x80 // FIN.
	more := wire.AppendMasked(nil, ws.OpContinuation, []byte(" "), mask)
	more[0] &^= 0x80
	ping := wire.AppendMasked(nil, ws.OpPing, nil, mask)
	connected := func(r *rig) *client { return r.join() }
	upgraded := func(r *rig) *client { return r.dial(pathProtocol) }
	opened := func(r *rig) *client { return r.open() }
	for name, test := range map[string]struct {
		begin  func(r *rig) *client
		first  []byte // Sent at once.
		piece  func(minute int) []byte
		reason Reason
	}{
		"says nothing":                     {opened, nil, nil, ReasonHandshakeTimeout},
		"a byte of the request a minute":   {opened, nil, func(n int) []byte { return request[n : n+1] }, ReasonHandshakeTimeout},
		"all but the end of the request":   {opened, request[:len(request)-2], nil, ReasonHandshakeTimeout},
		"says nothing after the upgrade":   {upgraded, nil, nil, ReasonStale},
		"a byte of connect a minute":       {upgraded, nil, func(n int) []byte { return command[n : n+1] }, ReasonStale},
		"pings before connect":             {upgraded, nil, func(int) []byte { return ping }, ReasonStale},
		"a byte of a command a minute":     {connected, nil, func(n int) []byte { return subscribe[n : n+1] }, ReasonFrameTimeout},
		"a fragment a minute":              {connected, begun, func(int) []byte { return more }, ReasonFrameTimeout},
		"pings amid a message":             {connected, begun, func(int) []byte { return ping }, ReasonFrameTimeout},
		"a message that is never complete": {connected, subscribe[:len(subscribe)-1], nil, ReasonFrameTimeout},
		"a ping in bytes amid a message":   {connected, begun, func(n int) []byte { return ping[n%len(ping) : n%len(ping)+1] }, ReasonFrameTimeout},
		"the header of a large message":    {connected, wire.AppendMasked(nil, ws.OpText, make([]byte, 60<<10), mask)[:8], nil, ReasonFrameTimeout},
		"fragments that hold nothing":      {connected, begun, func(int) []byte { return emptyFragment(mask) }, ReasonFrameTimeout},
		"a byte of a close frame a minute": {connected, nil, func(n int) []byte {
			return wire.AppendMasked(nil, ws.OpClose, []byte("\x03\xe8bye now"), mask)[n : n+1]
		}, ReasonFrameTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStepped(t, func(o *Options) {
				l := &o.Limits
				l.HandshakeTimeout, l.StaleCloseDelay, l.FrameTimeout = limit, limit, limit
			})
			var other, c *client
			r.during(func() { other = r.dial("/ws?channel=a") })
			r.during(func() { c = test.begin(r) })
			if test.first != nil {
				r.during(func() { c.write(test.first) }) // The first write may be a handshake as well.
			}
			for r.shard.connections < 2 {
				r.step()
			}
			r.step()
			ended := 0
			for minute := range minutes {
				if test.piece != nil && ended == 0 {
					r.during(func() { c.write(test.piece(minute)) })
				}
				r.later(time.Minute)
				r.publish("a", "live")
				r.step()
				require.Equal(t, "live", other.message(wire.EventText), "others are served")
				if state := r.shard.slab.get(1).state; ended == 0 && (state == stateClosing || state == stateFree) {
					ended = minute + 1
				}
			}
			// A message's time begins when its first byte is read, which the first minute may come before.
			require.Contains(t, []int{3, 4}, ended, "minutes")
			r.during(func() { _, _ = io.ReadAll(c.in) }) // To the end, or a reset.
			_ = c.conn.Close()
			for i := 0; r.shard.connections > 1; i++ {
				require.Less(t, i, 1000)
				r.later(time.Second)
			}
			require.EqualValues(t, 1, r.reason(test.reason))
			require.Zero(t, r.shard.inbound.bytes)
		})
	}
}

func emptyFragment(mask [4]byte) []byte {
	b := wire.AppendMasked(nil, ws.OpContinuation, nil, mask)
	b[0] &^= 0x80
	return b
}
