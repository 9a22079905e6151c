package shard

import (
	"fmt"
	"net/http"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/routing"
	"wsd/internal/wire"
)

// tell puts messages on the bus for whoever is in the interest table as name, as the source does, without publishing
// yet. It returns whether there was anybody.
func (r *rig) tell(name string, values ...string) bool {
	r.t.Helper()
	ch, ok := r.interest.Lookup([]byte(name))
	for _, v := range values {
		if ok {
			r.offset++
			r.builder.AddMessage(ch, record(r.offset, v), time.Now())
		}
	}
	return ok
}

// tellConn is tell for one connection.
func (r *rig) tellConn(id routing.ConnID, values ...string) {
	r.t.Helper()
	ch := routing.Channel{ID: routing.ConnChannel(id)}
	ch.Shards.Add(0)
	for _, v := range values {
		r.offset++
		r.builder.AddMessage(ch, record(r.offset, v), time.Now())
	}
}

// connect connects by the client protocol and returns the connection's id as the client was told it.
func (r *rig) connect() (*client, routing.ConnID) {
	r.t.Helper()
	c := r.dial(pathProtocol)
	c.send(ws.OpText, `{"id":1,"connect":{}}`)
	var id string
	_, err := fmt.Sscanf(c.message(wire.EventText), `{"id":1,"connect":{"client":%q`, &id)
	require.NoError(r.t, err)
	client, ok := routing.ParseClientID([]byte(id))
	require.True(r.t, ok)
	conn, ok := testIDs.Conn(client)
	require.True(r.t, ok)
	return c, conn
}

const data = `{"push":{"message":{"data":%s}}}`

// A message to a connection comes between the records that were before it and after it, to that connection alone.
func TestMessageToConnection(t *testing.T) {
	r := newRig(t, nil)
	other := r.join("a")
	c, id := r.connect()
	c.send(ws.OpText, `{"id":2,"subscribe":{"channel":"a"}}`)
	c.message(wire.EventText)
	r.add("a", "1", "2")
	r.tellConn(id, `{"x":3}`, "4")
	r.add("a", "5")
	r.seal()
	publication := func(value string, offset int) string {
		return fmt.Sprintf(`{"push":{"channel":"a","pub":{"data":%s,"offset":%d}}}`, value, offset)
	}
	require.Equal(t, publication("1", 1)+"\n"+publication("2", 2), c.message(wire.EventText))
	require.Equal(t, fmt.Sprintf(data, `{"x":3}`)+"\n"+fmt.Sprintf(data, "4"), c.message(wire.EventText))
	require.Equal(t, publication("5", 5), c.message(wire.EventText))
	require.Equal(t, publication("1", 1)+"\n"+publication("2", 2), other.message(wire.EventText))
	require.Equal(t, publication("5", 5), other.message(wire.EventText))
	require.Zero(t, r.shard.Stats().Absent.Load())
}

// A message for a connection that is gone reaches nobody, whoever has its slot now; nor does one for a connection
// that never was.
func TestMessageToNobody(t *testing.T) {
	r := newRig(t, nil)
	c, gone := r.connect()
	require.NoError(t, c.conn.Close())
	eventually(t, "the connection is gone", func() bool { return r.shard.Stats().Connections.Load() == 0 })
	c, id := r.connect()
	require.Equal(t, gone.Slot(), id.Slot(), "the slot is used again")
	r.tellConn(gone, "1", "2")
	r.tellConn(routing.MakeConnID(0, 1, 1<<24-1), "3")
	r.tellConn(routing.MakeConnID(0, id.Generation()+1, id.Slot()), "4")
	r.tellConn(id, "6")
	r.seal()
	require.Equal(t, fmt.Sprintf(data, "6"), c.message(wire.EventText))
	require.EqualValues(t, 4, r.shard.Stats().Absent.Load())
}

func TestMessageToEverybody(t *testing.T) {
	r := newRig(t, nil)
	require.False(t, r.tell(routing.Everybody, "0"), "there is nobody")
	raw, text, binary := r.dial("/ws?channel=a"), r.join(), r.joinProtobuf()
	joining := r.dial(pathProtocol)
	require.True(t, r.tell(routing.Everybody, `{"n":1}`, "text"))
	r.seal()
	require.Equal(t, `{"n":1}`, raw.message(wire.EventText))
	require.Equal(t, "text", raw.message(wire.EventText))
	require.Equal(t, fmt.Sprintf(data, `{"n":1}`), text.message(wire.EventText), "what is not JSON is not for it")
	got := append(binary.replies(), []*protocol.Reply{}...)
	require.Len(t, got, 2)
	require.JSONEq(t, `{"n":1}`, string(got[0].Push.Message.Data))
	require.Equal(t, "text", string(got[1].Push.Message.Data))
	require.Empty(t, got[0].Push.Channel)

	joining.send(ws.OpText, `{"id":1,"connect":{}}`)
	require.Contains(t, joining.message(wire.EventText), `"connect"`, "it got nothing before")
	require.Zero(t, r.interest.Len()-1, "of channels the table has a")
	require.Equal(t, []string{"a"}, r.interest.Names(10))
	require.EqualValues(t, 1, r.shard.Stats().Channels.Load())
}

// withUser connects a client whose connection has a user, in a rig that the test steps.
func (r *rig) withUser(user string, path string) *client {
	r.t.Helper()
	var c *client
	before := map[uint32]bool{}
	r.shard.slab.each(func(c *conn) { before[c.slot] = true })
	r.during(func() {
		if c = r.dial(path); path == pathProtocol {
			c.send(ws.OpText, `{"id":1,"connect":{}}`)
			c.message(wire.EventText)
		}
	})
	r.shard.slab.each(func(c *conn) {
		if !before[c.slot] {
			r.shard.setUser(c, user)
		}
	})
	return c
}

// A message to a user reaches each connection of it, and counts as no subscription; the client can neither leave it
// nor get into it.
func TestMessageToUser(t *testing.T) {
	r := newStepped(t, func(o *Options) {
		o.Limits.ChannelsMax = 1
		o.Slow = []SlowPolicy{{Pattern: "*", Policy: PolicyConflate}}
	})
	ann := string(routing.AppendUser(nil, []byte("ann")))
	require.False(t, r.tell(ann, "0"), "nobody has the user")
	first, second := r.withUser("ann", pathProtocol), r.withUser("ann", pathProtocol+"?cf_protocol=protobuf&x")
	bob := r.withUser("bob", pathProtocol)
	binary := protobufClient{second}
	r.during(func() {
		first.send(ws.OpText, `{"id":2,"subscribe":{"channel":"a"}}`)
		require.Contains(t, first.message(wire.EventText), `{"id":2,"subscribe":`, "its user takes no place of a channel")
		binary.command(&protocol.Command{Id: 1, Connect: &protocol.ConnectRequest{}})
		require.NotNil(t, binary.replies()[0].Connect)
		bob.send(ws.OpText, `{"id":2,"subscribe":{"channel":"b"}}`)
		bob.message(wire.EventText)
	})
	require.EqualValues(t, 2, r.shard.Stats().Subscriptions.Load())
	require.EqualValues(t, 2, r.shard.Stats().Channels.Load())
	require.Equal(t, 2, r.interest.Len())
	require.True(t, r.tell(ann, `{"n":1}`, `{"n":2}`))
	r.add("b", "3")
	r.seal()
	r.during(func() {
		require.Equal(t, fmt.Sprintf(data, `{"n":1}`)+"\n"+fmt.Sprintf(data, `{"n":2}`), first.message(wire.EventText))
		got := binary.replies()
		require.JSONEq(t, `{"n":2}`, string(got[1].Push.Message.Data))
		require.Contains(t, bob.message(wire.EventText), `"channel":"b"`, "the message is not for bob")
	})
	// A shard that was left behind tells of channels, and the user's connections stay the user's.
	r.shard.reattach()
	r.during(func() {
		require.Contains(t, first.message(wire.EventText), `{"push":{"channel":"a","unsubscribe":{"code":2500`)
		require.Contains(t, bob.message(wire.EventText), `{"push":{"channel":"b","unsubscribe":{"code":2500`)
	})
	require.True(t, r.tell(ann, `{"n":4}`))
	r.seal()
	r.during(func() {
		require.Equal(t, fmt.Sprintf(data, `{"n":4}`), first.message(wire.EventText))
		require.JSONEq(t, `{"n":4}`, string(binary.replies()[0].Push.Message.Data))
	})
	r.during(func() { require.NoError(t, first.conn.Close()); require.NoError(t, second.conn.Close()) })
	for r.shard.Stats().Clients.Load() > 1 {
		r.step()
	}
	require.False(t, r.tell(ann, "5"), "the last connection of the user is gone")
}

// No client can name what only the server may.
func TestReservedNames(t *testing.T) {
	r := newRig(t, nil)
	for _, name := range []string{"%FFeverybody", "%FFuser:ann"} {
		c := r.open()
		c.write(wire.AppendClientHandshake(nil, r.address, "/ws?channel="+name, "", testKey))
		status, _ := c.response()
		require.Equal(t, http.StatusBadRequest, status)
	}
	for _, cmd := range []*protocol.Command{
		{Id: 9, Subscribe: &protocol.SubscribeRequest{Channel: routing.Everybody}},
		{Id: 9, Unsubscribe: &protocol.UnsubscribeRequest{Channel: string(routing.AppendUser(nil, []byte("ann")))}},
	} {
		c := r.joinProtobuf()
		c.command(cmd)
		code, _ := c.closed()
		require.EqualValues(t, 3501, code, "the decoder takes no text that is not UTF-8")
	}
	// The JSON decoder mends such a text: it makes another name of it, which is a channel's.
	c := r.join()
	c.send(ws.OpText, "{\"id\":9,\"subscribe\":{\"channel\":\"\xffeverybody\"}}")
	_, _, err := c.next()
	require.NoError(t, err)
	for _, name := range r.interest.Names(10) {
		require.True(t, utf8.ValidString(name), name)
	}
}

// Whoever does not read meets the limit for messages as for publications.
func TestSlowForMessages(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.OutboundMax = 64 << 10 })
	_, id := r.connect()
	value := `{"x":"` + fmt.Sprintf("%060000d", 1) + `"}`
	eventually(t, "the client is closed as slow", func() bool {
		r.tellConn(id, value)
		r.seal()
		return r.shard.Stats().Slow[PolicyDisconnect].Load() == 1
	})
	eventually(t, "later messages find nobody", func() bool {
		r.tellConn(id, value)
		r.seal()
		return r.shard.Stats().Absent.Load() > 0
	})
}
