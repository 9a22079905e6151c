package server

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"wsd/internal/commands"
	"wsd/internal/shard"
)

// A broadcast to more channels than there is room for waits for its own publications: all of them are written, and
// there is room for what clients publish meanwhile.
func TestBroadcastLeavesRoom(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"publish.under_way_max": "20", "auth.rules": []string{"*=all"}, "publish.rules": []string{"*=all"}}))
	r.ready()
	// Kafka answers nothing for now.
	hold := make(chan struct{})
	r.kafka.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		r.kafka.KeepControl()
		r.kafka.SleepControl(func() { <-hold })
		return nil, nil, false
	})
	c, _ := r.login(tokenFor(t, "sub", "alice"))
	names := make([]string, 300)
	for i := range names {
		names[i] = fmt.Sprintf(`"c%d"`, i)
	}
	answer := make(chan string, 1)
	go func() { answer <- r.api("broadcast", `{"channels":[`+strings.Join(names, ",")+`],"data":1}`) }()
	r.eventually("its part of the room is taken", func() bool { n, _ := r.server.producer.Usage(); return n == 10 })
	c.send(`{"id":3,"publish":{"channel":"mine","data":1}}`)
	r.eventually("there is room for a client", func() bool { n, _ := r.server.producer.Usage(); return n == 11 })
	close(hold)
	require.Contains(t, c.reply(), `"publish":{}`)
	got := <-answer
	require.Equal(t, 300, strings.Count(got, `"result":{"offset":`), "%.300s", got)
	require.NotContains(t, got, `"error"`)
}

// A request for channels ends when its time is over, however many channels there are to look at.
func TestChannelsEnd(t *testing.T) {
	r := newRig(t, map[string]any{"api.keys": []string{apiKey}})
	r.join("a", "b", "c")
	ctx, cancel := context.WithCancel(t.Context())
	looks := 0
	_, err := r.server.apiChannels(ctx, func(string) bool {
		looks++
		cancel()
		return true
	})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 1, looks)
}

// A shard that takes no orders holds up the commands of other machines for a bounded time, and those for other shards
// not at all. It misses what there is no room for, which is counted and logged.
func TestFullShardHoldsUpNobody(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"commands.topic": "commands", "shards": "2"}), kfake.SeedTopics(1, "commands"))
	r.ready()
	clients := map[string]*client{} // By shard.
	for len(clients) < 2 {
		c, _ := r.login(tokenFor(t, "sub", "alice"))
		if clients[c.shard] == nil {
			clients[c.shard] = c
		}
	}
	stuck := r.server.shards[0]
	release := make(chan struct{})
	ended := false
	end := func() {
		if !ended {
			ended = true
			close(release)
		}
	}
	t.Cleanup(end)
	held := make(chan struct{})
	require.True(t, stuck.PostOrder(&shard.Order{Kind: shard.OrderCount, Counted: func([]int) { close(held); <-release }}, nil))
	<-held
	for stuck.PostOrder(&shard.Order{Kind: shard.OrderDisconnect, User: "nobody"}, nil) {
	}
	apply := func(do *commands.Command) bool {
		done := make(chan bool, 1)
		go func() { done <- r.server.applyCommand(t.Context(), do) }()
		select {
		case all := <-done:
			return all
		case <-time.After(waitMax):
			require.FailNow(t, "the reader is held up")
			return false
		}
	}
	require.False(t, apply(&commands.Command{Do: commands.Refresh, User: "alice", ExpireAt: 4e9}))
	require.Contains(t, clients["1"].reply(), `"refresh":{"expires":true`)
	require.Len(t, r.server.handOver.full, 1)
	for range 100 { // From now on nobody waits for it at all: this would take 100 s.
		require.False(t, apply(&commands.Command{Do: commands.Refresh, User: "alice", ExpireAt: 4e9}))
	}
	require.Equal(t, 1, strings.Count(r.log.String(), "shards have too many orders to take commands of other machines"))
	end()
	r.eventually("it takes commands again", func() bool {
		return apply(&commands.Command{Do: commands.Disconnect, User: "alice"})
	})
	require.Contains(t, r.log.String(), "all shards take commands of other machines again")
	require.Empty(t, r.server.handOver.full)
}

// The log names all shards that miss commands, and says that they miss none once that is true of all.
func TestFullShardsAreNamed(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"commands.topic": "commands", "shards": "2"}), kfake.SeedTopics(1, "commands"))
	r.ready()
	shards := map[string]bool{}
	for len(shards) < 2 {
		c, _ := r.login(tokenFor(t, "sub", "alice"))
		shards[c.shard] = true
	}
	var release [2]func()
	for i, sh := range r.server.shards {
		hold, held := make(chan struct{}), make(chan struct{})
		release[i] = sync.OnceFunc(func() { close(hold) })
		t.Cleanup(release[i])
		require.True(t, sh.PostOrder(&shard.Order{Kind: shard.OrderCount, Counted: func([]int) { close(held); <-hold }}, nil))
		<-held
		for sh.PostOrder(&shard.Order{Kind: shard.OrderDisconnect, User: "nobody"}, nil) {
		}
	}
	apply := func() bool {
		return r.server.applyCommand(t.Context(), &commands.Command{Do: commands.Refresh, User: "alice", ExpireAt: 4e9})
	}
	require.False(t, apply())
	require.Contains(t, r.log.String(), `shards="[0 1]"`)
	release[1]()
	r.eventually("shard 1 takes commands again", func() bool { apply(); return len(r.server.handOver.full) == 1 })
	require.Equal(t, []int{0}, r.server.handOver.shards())
	require.NotContains(t, r.log.String(), "commands of other machines again")
	release[0]()
	r.eventually("so does shard 0", apply)
	require.Equal(t, 1, strings.Count(r.log.String(), "all shards take commands of other machines again"))
}

// What Kafka says about a publication reaches the API's client as an error that says whether to try again.
func TestPublishRefusedByKafka(t *testing.T) {
	for _, c := range []struct {
		code *kerr.Error
		want string
	}{
		{kerr.TopicAuthorizationFailed, `"code":100,"message":"the server may not write to the channel's topic"`},
		{kerr.MessageTooLarge, `"code":106,"message":"the publication is too large"`},
		{kerr.InvalidRecord, `"code":100,"message":"Kafka cannot take the publication now"`},
		{kerr.NotEnoughReplicas, `"code":100,"message":"Kafka cannot take the publication now"`},
		// These the producer gets over by itself.
		{kerr.InvalidProducerEpoch, ""}, {kerr.OutOfOrderSequenceNumber, ""}, {kerr.UnknownProducerID, ""}, {kerr.NotLeaderForPartition, ""},
	} {
		t.Run(c.code.Message, func(t *testing.T) {
			r := newRig(t, apiFlags(map[string]any{"publish.timeout": "2s"}))
			r.ready()
			answers := 0
			r.kafka.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				r.kafka.KeepControl()
				if answers++; c.want == "" && answers > 1 {
					return nil, nil, false
				}
				resp := req.ResponseKind().(*kmsg.ProduceResponse)
				for _, topic := range req.(*kmsg.ProduceRequest).Topics {
					st := kmsg.NewProduceResponseTopic()
					st.Topic, st.TopicID = topic.Topic, topic.TopicID
					for _, p := range topic.Partitions {
						sp := kmsg.NewProduceResponseTopicPartition()
						sp.Partition, sp.ErrorCode = p.Partition, c.code.Code
						st.Partitions = append(st.Partitions, sp)
					}
					resp.Topics = append(resp.Topics, st)
				}
				return resp, nil, true
			})
			got := r.api("publish", `{"channel":"a","data":1}`)
			if c.want == "" {
				require.Contains(t, got, `"offset":1`)
				require.Contains(t, r.api("publish", `{"channel":"a","data":2}`), `"offset":2`)
			} else {
				require.Contains(t, got, c.want)
			}
		})
	}
}

// Names that nobody chooses in earnest go to Kafka and back as they are.
func TestOddNames(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"auth.rules": []string{"*=all"}, "publish.rules": []string{"*=all"}}))
	r.ready()
	c, _ := r.login(tokenFor(t, "sub", "alice"))
	for i, name := range []string{" ", "a\nb", "\x00", "日本", "#1,2", "a:b/../c", "{key}", strings.Repeat("é", 127), "\u2028", "\ufffd", "$x", "*"} {
		quoted := fmt.Sprintf("%+q", name)
		quoted = strings.ReplaceAll(quoted, `\x`, `\u00`)
		require.Contains(t, c.ask(`{"id":2,"subscribe":{"channel":`+quoted+`}}`), `"subscribe":{`, quoted)
		require.Contains(t, r.api("publish", `{"channel":`+quoted+`,"data":1}`), fmt.Sprintf(`"offset":%d`, i+1), quoted)
		p := c.published()
		require.Equal(t, name, p.Push.Channel)
	}
	for _, name := range []string{strings.Repeat("x", 256), strings.Repeat("x", 100_000)} {
		for _, do := range []string{"publish", "subscribe", "unsubscribe", "history"} {
			require.Contains(t, r.api(do, `{"user":"alice","channel":"`+name+`","data":1}`), `"code":107,"message":"bad request: the channel's name has`)
		}
	}
}

// A command of the largest size goes to commands.topic, however small publications are.
func TestLargestCommand(t *testing.T) {
	r := newRig(t, apiFlags(map[string]any{"commands.topic": "commands", "publish.bytes_max": "1KiB"}), kfake.SeedTopics(1, "commands"))
	r.ready()
	data := base64.StdEncoding.EncodeToString(make([]byte, commands.DataMax))
	list := strings.Repeat(`"`+strings.Repeat("x", commands.ClientMax)+`",`, commands.KeepMax)
	for do, params := range map[string]string{
		"subscribe":  `{"user":"alice","channel":"c","b64data":"` + data + `"}`,
		"disconnect": `{"user":"alice","whitelist":[` + strings.TrimSuffix(list, ",") + `]}`,
	} {
		require.JSONEq(t, `{"result":{"scope":"cluster"}}`, r.api(do, params), do)
	}
	r.eventually("they are applied", func() bool { return r.server.commandsStats().Applied.Load() == 2 })
}
