package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// chat is the flags of a server whose clients publish to channels chat.KEY.
func chat(more map[string]any) map[string]any {
	flags := map[string]any{
		"kafka.topics": []string{"a", "news"}, "publish.rules": []string{"chat.*=all", "bad.*=all"}, "kafka.partitioner": "murmur2",
		"routes": []string{"a=chat.{key}", "news=news", "bad=bad.{header.x}"},
	}
	for k, v := range more {
		flags[k] = v
	}
	return flags
}

// fullPush is a push with all that a publication may have.
type fullPush struct {
	Push struct {
		Channel string
		Pub     struct {
			Data   json.RawMessage
			Offset uint64
			Info   *struct {
				User, Client string
				ConnInfo     json.RawMessage `json:"conn_info"`
				ChanInfo     json.RawMessage `json:"chan_info"`
			}
			Tags map[string]string
		}
	}
}

func (c *client) published() (p fullPush) {
	c.t.Helper()
	line := c.reply()
	require.NoError(c.t, json.Unmarshal([]byte(line), &p), line)
	return p
}

// connected returns the client's id.
func (r *rig) connected(channels ...string) (c *client, id string) {
	r.t.Helper()
	c = r.dial("/connection/websocket")
	c.send(`{"id":1,"connect":{}}`)
	var reply struct{ Connect struct{ Client string } }
	require.NoError(r.t, json.Unmarshal([]byte(c.reply()), &reply))
	for _, channel := range channels {
		c.send(fmt.Sprintf(`{"id":2,"subscribe":{"channel":%q}}`, channel))
		require.Contains(r.t, c.reply(), `"subscribe":{`)
	}
	return c, reply.Connect.Client
}

// TestPublish: what a client publishes is in Kafka when it is answered, and comes back to subscribers on every machine,
// the publisher among them, with who published it, live, by history and by recovery.
func TestPublish(t *testing.T) {
	r := newRig(t, chat(nil), kfake.SeedTopics(3, "news"))
	other := r.second(chat(nil))
	r.ready()
	other.ready()
	one, id := r.connected("chat.room")
	two := other.join("chat.room")
	raw := other.dial("/ws?channel=chat.room")
	one.send(`{"id":3,"publish":{"channel":"chat.room","data":{"text":"hello"}}}`)
	for range 2 { // The push may come before the reply.
		line := one.reply()
		if strings.Contains(line, `"id":3`) {
			require.Equal(t, `{"id":3,"publish":{}}`, line)
			continue
		}
		var p fullPush
		require.NoError(t, json.Unmarshal([]byte(line), &p))
		require.Equal(t, id, p.Push.Pub.Info.Client)
	}
	p := two.published()
	require.JSONEq(t, `{"text":"hello"}`, string(p.Push.Pub.Data))
	require.Equal(t, id, p.Push.Pub.Info.Client)
	require.Empty(t, p.Push.Pub.Info.User)
	require.Equal(t, uint64(1), p.Push.Pub.Offset)
	require.Equal(t, `{"text":"hello"}`, raw.message())

	two.send(`{"id":5,"history":{"channel":"chat.room","limit":10}}`)
	require.Contains(t, two.reply(), fmt.Sprintf(`"info":{"user":"","client":%q}`, id))
	late := other.join()
	late.send(`{"id":5,"history":{"channel":"chat.room"}}`)
	var history struct{ History struct{ Epoch string } }
	require.NoError(t, json.Unmarshal([]byte(late.reply()), &history))
	back := late.comeBack("chat.room", recoverFrom(0, history.History.Epoch))
	require.True(t, back.Subscribe.Recovered)
	require.Len(t, back.Subscribe.Publications, 1)

	for command, want := range map[string]string{
		`{"id":6,"publish":{"channel":"news","data":1}}`:                                       `"error":{"code":103,"message":"permission denied"}`,
		`{"id":6,"publish":{"channel":"bad.x","data":1}}`:                                      `"error":{"code":108,"message":"publishing is not available in this channel"}`,
		`{"id":6,"publish":{"channel":"chat.room"}}`:                                           `"error":{"code":107,"message":"bad request"}`,
		`{"id":6,"publish":{"channel":"chat.x","data":"` + strings.Repeat("x", 70_000) + `"}}`: `"error":{"code":106`,
	} {
		late.send(command)
		require.Contains(t, late.reply(), want)
	}
	code, metrics := r.get("/metrics")
	require.Equal(t, 200, code)
	require.Contains(t, metrics, "wsd_produced_records_total 1\n")
}

// TestPublishInfoIsNotForged: headers say who published only in topics that clients can publish to.
func TestPublishInfoIsNotForged(t *testing.T) {
	r := newRig(t, chat(nil), kfake.SeedTopics(1, "news"))
	r.ready()
	c := r.join("news", "chat.k")
	for _, topic := range []string{"news", "a"} {
		record := &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("1"), Headers: []kgo.RecordHeader{
			{Key: "wsd-client", Value: []byte("c")}, {Key: "wsd-user", Value: []byte("root")}, {Key: "wsd-tag-t", Value: []byte("v")}}}
		require.NoError(t, r.producer.ProduceSync(t.Context(), record).FirstErr())
		p := c.published()
		require.Equal(t, topic == "a", p.Push.Pub.Info != nil, topic)
		require.Equal(t, topic == "a", p.Push.Pub.Tags["t"] == "v", topic)
	}
}

// TestPublishWithoutKafka: a publication gets a temporary error in time while Kafka is away, and the loop serves on.
func TestPublishWithoutKafka(t *testing.T) {
	r := newRig(t, chat(map[string]any{"publish.timeout": "1s"}), kfake.SeedTopics(1, "news"))
	r.ready()
	c := r.join()
	r.kafka.Close()
	c.send(`{"id":3,"publish":{"channel":"chat.room","data":1}}`)
	c.send(`{"id":4,"subscribe":{"channel":"chat.room"}}`)
	require.Contains(t, c.reply(), `{"id":4,"subscribe":{`)
	require.Equal(t, `{"id":3,"error":{"code":100,"message":"Kafka cannot take the publication now","temporary":true}}`, c.reply())
}

// TestPublishByUser: rules speak of users and claims as those of subscriptions do, and the info has the user.
func TestPublishByUser(t *testing.T) {
	r := newRig(t, map[string]any{
		"routes": []string{"a=chat.{key}"}, "publish.rules": []string{"chat.of-{sub}=user", "chat.*=claim:rooms"}, "kafka.partitioner": "murmur2",
		"auth.mode": "token", "auth.hmac_secret": tokenSecret, "auth.rules": []string{"chat.*=user"},
	})
	r.ready()
	c := r.dial("/connection/websocket")
	token := tokenFor(t, "sub", "alice", "rooms", []string{"chat.open"})
	c.send(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, token))
	require.Contains(t, c.reply(), `"connect":{`)
	c.send(`{"id":2,"subscribe":{"channel":"chat.of-alice"}}`)
	require.Contains(t, c.reply(), `"subscribe":{`)
	for channel, want := range map[string]string{"chat.open": `"publish":{}`, "chat.closed": `"code":103`, "chat.of-bob": `"code":103`} {
		c.send(fmt.Sprintf(`{"id":3,"publish":{"channel":%q,"data":1}}`, channel))
		require.Contains(t, c.reply(), want, channel)
	}
	c.send(`{"id":3,"publish":{"channel":"chat.of-alice","data":1}}`)
	lines := c.reply() + c.reply()
	require.Contains(t, lines, `"publish":{}`)
	require.Contains(t, lines, `"user":"alice"`)
}

// TestPublishOutlivesStop: what is under way when the server stops is written before it ends.
func TestPublishOutlivesStop(t *testing.T) {
	r := newRig(t, chat(nil), kfake.SeedTopics(1, "news"))
	r.ready()
	c := r.join()
	for i := range 20 {
		c.send(fmt.Sprintf(`{"id":%d,"publish":{"channel":"chat.room","data":%d}}`, i+2, i))
	}
	require.Contains(t, c.reply(), `"publish":{}`) // The shard has read at least one.
	require.NoError(t, r.stop())
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	consumer, err := kgo.NewClient(kgo.SeedBrokers(r.kafka.ListenAddrs()...), kgo.ConsumeTopics("a"))
	require.NoError(t, err)
	defer consumer.Close()
	require.NotZero(t, consumer.PollFetches(ctx).NumRecords())
}

// TestPublishInfo: subscribers get what the publisher's tokens say that others may know, live, in history and by the
// server API, and never what somebody else wrote in its place.
func TestPublishInfo(t *testing.T) {
	r := newRig(t, map[string]any{
		"routes": []string{"a=chat.{key}"}, "publish.rules": []string{"chat.*=user"}, "kafka.partitioner": "murmur2", "api.keys": []string{apiKey},
		"auth.mode": "token", "auth.hmac_secret": tokenSecret, "auth.rules": []string{"chat.open=user", "chat.*=token"},
	})
	r.ready()
	long := strings.Repeat("x", 4096)
	c, reply := r.login(tokenFor(t, "sub", "alice", "info", map[string]any{"name": "Alice\n"}))
	require.Contains(t, reply, `"connect":{`)
	c.send(fmt.Sprintf(`{"id":2,"subscribe":{"channel":"chat.x","token":%q}}`, tokenFor(t, "sub", "alice", "channel", "chat.x", "info", map[string]any{"role": "host"})))
	require.Contains(t, c.reply(), `"subscribe":{`)
	c.send(`{"id":3,"subscribe":{"channel":"chat.open"}}`)
	require.Contains(t, c.reply(), `"subscribe":{`)
	push := func(do string) fullPush {
		t.Helper()
		c.send(do)
		for _, line := range []string{c.reply(), c.reply()} { // The reply may come after the push.
			if strings.Contains(line, `"push"`) {
				var p fullPush
				require.NoError(t, json.Unmarshal([]byte(line), &p))
				return p
			}
			require.Contains(t, line, `"publish":{}`)
		}
		require.FailNow(t, "no push")
		return fullPush{}
	}
	p := push(`{"id":4,"publish":{"channel":"chat.x","data":1}}`)
	require.Equal(t, "alice", p.Push.Pub.Info.User)
	require.JSONEq(t, `{"name":"Alice\n"}`, string(p.Push.Pub.Info.ConnInfo))
	require.JSONEq(t, `{"role":"host"}`, string(p.Push.Pub.Info.ChanInfo))
	p = push(`{"id":5,"publish":{"channel":"chat.open","data":1}}`)
	require.JSONEq(t, `{"name":"Alice\n"}`, string(p.Push.Pub.Info.ConnInfo))
	require.Nil(t, p.Push.Pub.Info.ChanInfo)
	const want = `"conn_info":{"name":"Alice\n"},"chan_info":{"role":"host"}`
	require.Contains(t, c.ask(`{"id":6,"history":{"channel":"chat.x","limit":10}}`), want)
	require.Contains(t, r.api("history", `{"channel":"chat.x","limit":10}`), want)

	// A refresh may change it. What is too long is left out.
	require.Contains(t, c.ask(fmt.Sprintf(`{"id":7,"sub_refresh":{"channel":"chat.x","token":%q}}`, tokenFor(t, "sub", "alice", "channel", "chat.x", "info", long))), `"sub_refresh"`)
	p = push(`{"id":8,"publish":{"channel":"chat.x","data":1}}`)
	require.JSONEq(t, `{"name":"Alice\n"}`, string(p.Push.Pub.Info.ConnInfo))
	require.Nil(t, p.Push.Pub.Info.ChanInfo)

	// Whoever may write to the topic can say who published, but cannot break the message.
	for _, info := range []string{"{", "1\n2", `"` + long + `"`, "\xff"} {
		record := &kgo.Record{Topic: "a", Key: []byte("x"), Value: []byte("2"), Headers: []kgo.RecordHeader{
			{Key: "wsd-client", Value: []byte("c")}, {Key: "wsd-user", Value: []byte("u")}, {Key: "wsd-conn-info", Value: []byte(info)},
		}}
		require.NoError(t, r.producer.ProduceSync(t.Context(), record).FirstErr())
		p := c.published()
		require.Equal(t, "2", string(p.Push.Pub.Data))
		require.Nil(t, p.Push.Pub.Info)
	}
	record := &kgo.Record{Topic: "a", Key: []byte("x"), Value: []byte("3"), Headers: []kgo.RecordHeader{
		{Key: "wsd-client", Value: []byte("c")}, {Key: "wsd-conn-info", Value: []byte("{\n\"a\":\n1}")},
	}}
	require.NoError(t, r.producer.ProduceSync(t.Context(), record).FirstErr())
	require.Equal(t, `{"a":1}`, string(c.published().Push.Pub.Info.ConnInfo))
}
