package shard

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// writer is a Publisher that holds publications until the test answers them.
type writer struct {
	mu     sync.Mutex
	got    []Publication
	done   []func(*proto.Error)
	refuse *proto.Error
	auto   bool // Answer at once.
}

// Allows lets everybody publish to channels that begin with "chat", and users to their own.
func (*writer) Allows(who *Identity, channel string) bool {
	return strings.HasPrefix(channel, "chat") || who.User != "" && channel == "user."+who.User
}

func (w *writer) Publish(p Publication, done func(*proto.Error)) *proto.Error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	if w.auto {
		done(nil)
		return nil
	}
	w.got, w.done = append(w.got, p), append(w.done, done)
	return nil
}

// refuseAll refuses what comes from now on; nil: nothing.
func (w *writer) refuseAll(e *proto.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = e
}

// answer answers the publications that wait, and returns how many they were.
func (w *writer) answer(e *proto.Error) int {
	w.mu.Lock()
	done := w.done
	w.done = nil
	w.mu.Unlock()
	for _, one := range done {
		one(e)
	}
	return len(done)
}

func (w *writer) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.done)
}

func withWriter(w *writer, change func(*Options)) func(*Options) {
	return func(o *Options) {
		o.Publish.Publisher = w
		if change != nil {
			change(o)
		}
	}
}

const publishedReply = `{"id":%d,"publish":{}}`

func TestPublish(t *testing.T) {
	w := &writer{}
	r := newRig(t, withAuthority(&authority{}, withWriter(w, nil)))
	c, reply := r.login("user=alice")
	id := strings.Split(reply, `"`)[7]
	c.send(ws.OpText, `{"id":2,"publish":{"channel":"chat.a","data":{"x": 1}}}`)
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	require.Equal(t, Publication{Channel: "chat.a", Data: []byte(`{"x": 1}`), JSON: true, Client: id, User: "alice"}, w.got[0])
	require.Positive(t, r.shard.opts.Memory.Used(), "it counts while it is under way")
	require.Equal(t, 1, w.answer(nil))
	require.Equal(t, fmt.Sprintf(publishedReply, 2), c.message(wire.EventText))

	c.send(ws.OpText, `{"id":3,"publish":{"channel":"user.alice","data":1}}`)
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	w.answer(proto.ErrInternal)
	require.Equal(t, `{"id":3,"error":{"code":100,"message":"internal server error","temporary":true}}`, c.message(wire.EventText))

	for command, want := range map[string]string{
		`{"id":4,"publish":{"channel":"user.bob","data":1}}`:                        denied,
		`{"id":4,"publish":{"channel":"other","data":1}}`:                           denied,
		`{"id":4,"publish":{"channel":"chat.a"}}`:                                   `"error":{"code":107,"message":"bad request"}`,
		`{"id":4,"publish":{"channel":"` + strings.Repeat("c", 65) + `","data":1}}`: `"error":{"code":107,"message":"bad request"}`,
		`{"id":4,"publish":{"channel":"chat.a","data":1,"type":1}}`:                 `"error":{"code":108,"message":"not available"}`,
	} {
		require.Equal(t, `{"id":4,`+want+`}`, c.ask(command), command)
	}
	w.refuseAll(proto.ErrLimitExceeded)
	require.Equal(t, `{"id":5,"error":{"code":106,"message":"limit exceeded"}}`,
		c.ask(`{"id":5,"publish":{"channel":"chat.a","data":1}}`))
	require.Equal(t, uint64(1), r.shard.Stats().Published.Load())
	require.Equal(t, uint64(1), r.shard.Stats().PublishFailed.Load())
	require.Equal(t, uint64(6), r.shard.Stats().PublishRefused.Load())
	eventually(t, "the account", func() bool { return r.shard.inbox.expected == 0 })
}

func TestPublishNotConfigured(t *testing.T) {
	r := newRig(t, nil)
	c, _ := r.login("")
	require.Equal(t, `{"id":2,"error":{"code":108,"message":"not available"}}`,
		c.ask(`{"id":2,"publish":{"channel":"chat.a","data":1}}`))
}

func TestPublishProtobuf(t *testing.T) {
	w := &writer{}
	r := newRig(t, withWriter(w, nil))
	c := r.joinProtobuf()
	c.command(&protocol.Command{Id: 2, Publish: &protocol.PublishRequest{Channel: "chat", Data: []byte("\xff")}})
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	require.Equal(t, []byte("\xff"), w.got[0].Data)
	require.False(t, w.got[0].JSON)
	w.answer(nil)
	require.NotNil(t, c.replies()[0].Publish)
}

// TestPublishRate: a client over its rate gets 111 and stays, others publish, and a dry run only counts.
func TestPublishRate(t *testing.T) {
	for _, dry := range []bool{false, true} {
		w := &writer{auto: true}
		r := newRig(t, withWriter(w, func(o *Options) {
			o.Quotas.Limits[QuotaPublishRate] = QuotaLimit{Max: 5, DryRun: dry}
		}))
		one, other := r.join(), r.join()
		refused := func(c *client, n int) int {
			one := `{"id":2,"publish":{"channel":"chat","data":1}}` + "\n"
			c.send(ws.OpText, strings.Repeat(one, n)) // In one message, so in one turn.
			return strings.Count(strings.Join(c.lines(n), "\n"), tooMany)
		}
		want := 5 // Ten may be saved up in two seconds.
		if dry {
			want = 0
		}
		require.Equal(t, want, refused(one, 15))
		require.Zero(t, refused(other, 10))
		require.Equal(t, uint64(5), r.exceeded(QuotaPublishRate))
	}
}

// TestPublishUnderWay: a client whose publications are not answered gets 111 for more. When it ends, nothing of it is
// left, and late answers find nobody.
func TestPublishUnderWay(t *testing.T) {
	w := &writer{}
	r := newRig(t, withWriter(w, func(o *Options) { o.Quotas.Limits[QuotaPublishUnderWay].Max = 3 }))
	c := r.join()
	for range 3 {
		c.send(ws.OpText, `{"id":2,"publish":{"channel":"chat","data":1}}`)
	}
	require.Equal(t, `{"id":3,`+tooMany+`}`, c.ask(`{"id":3,"publish":{"channel":"chat","data":1}}`))
	require.Equal(t, 3, w.answer(nil))
	require.Len(t, c.lines(3), 3)
	c.send(ws.OpText, `{"id":2,"publish":{"channel":"chat","data":1}}`)
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	require.NoError(t, c.conn.Close())
	eventually(t, "the end", func() bool { return r.shard.Stats().Connections.Load() == 0 })
	require.Equal(t, 1, w.answer(nil))
	next := r.join()
	next.send(ws.OpText, `{"id":2,"publish":{"channel":"chat","data":1}}`)
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	w.answer(nil)
	require.Equal(t, fmt.Sprintf(publishedReply, 2), next.message(wire.EventText))
	require.NoError(t, next.conn.Close())
	eventually(t, "the end", func() bool { return r.shard.Stats().Connections.Load() == 0 })
	eventually(t, "the account", func() bool { return r.shard.opts.Memory.Used() == 0 })
}

// TestPublishWithoutMemory: publications get a temporary error while the account of memory is tight.
func TestPublishWithoutMemory(t *testing.T) {
	w := &writer{}
	r := newRig(t, withWriter(w, func(o *Options) { o.Memory = &Memory{Limit: 1 << 20} }))
	c := r.join()
	r.shard.opts.Memory.add(900 << 10)
	require.Equal(t, `{"id":2,"error":{"code":100,"message":"there is no memory for it now","temporary":true}}`,
		c.ask(`{"id":2,"publish":{"channel":"chat","data":1}}`))
	r.shard.opts.Memory.add(-900 << 10)
	c.send(ws.OpText, `{"id":2,"publish":{"channel":"chat","data":1}}`)
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	w.answer(nil)
	require.Equal(t, fmt.Sprintf(publishedReply, 2), c.message(wire.EventText))
}

// TestPublishRaw: what a raw client sends is published to the channel that it named; it is closed if that fails.
func TestPublishRaw(t *testing.T) {
	w := &writer{}
	r := newRig(t, withAuthority(&authority{}, withWriter(w, func(o *Options) { o.Publish.Raw = true })))
	for path, status := range map[string]int{
		"/ws?token=user=alice&publish=user.bob":                   403,
		"/ws?token=user=alice&publish=chat&publish=a":             400,
		"/ws?token=user=alice&publish=" + strings.Repeat("c", 65): 400,
		"/ws?token=user=alice":                                    400,
	} {
		_, got, _ := r.ask(path)
		require.Equal(t, status, got, path)
	}
	c := r.dial("/ws?token=user%3Dalice&publish=chat&channel=public")
	for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
		c.send(op, "hello")
		eventually(t, "the publication", func() bool { return w.waiting() == 1 })
		p := w.got[len(w.got)-1]
		require.Equal(t, Publication{Channel: "chat", Data: []byte("hello"), User: "alice", Client: p.Client}, p)
		require.Len(t, p.Client, 32)
		w.answer(nil)
	}
	r.publish("public", "1")
	require.Equal(t, "1", c.message(wire.EventText), "no reply comes before it")
	c.send(ws.OpText, "x")
	eventually(t, "the publication", func() bool { return w.waiting() == 1 })
	w.answer(proto.ErrInternal)
	code, text := c.closed()
	require.EqualValues(t, 1013, code)
	require.Contains(t, text, "internal server error")
	eventually(t, "the reason", func() bool { return r.reason(ReasonPublish) == 1 })

	c = r.dial("/ws?token=user%3Dalice&publish=chat")
	w.refuseAll(proto.ErrTooManyRequests)
	c.send(ws.OpText, "x")
	code, text = c.closed()
	require.EqualValues(t, 1008, code)
	require.Contains(t, text, "limits.publish_rate")
	w.refuseAll(nil)

	off := newRig(t, withWriter(w, nil))
	c = off.dial("/ws?channel=a&publish=chat")
	c.send(ws.OpText, "x")
	off.publish("a", "1")
	require.Equal(t, "1", c.message(wire.EventText))
	require.Zero(t, w.waiting(), "what raw clients send is ignored without the option")
}
