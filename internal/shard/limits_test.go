package shard

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// triesOrKeeps runs a test once with a limit that is kept and once with one in a dry run, whose field of Limits then
// has the ceiling.
func triesOrKeeps(
	t *testing.T, quota Quota, most, ceiling int, set func(*Options, int), test func(t *testing.T, r *rig, dry bool),
) {
	t.Helper()
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := newRig(t, func(o *Options) {
			o.Quotas.Limits[quota] = QuotaLimit{int64(most), dry}
			o.Deflate = Deflate{&slowDeflater{}, testLeast, testInline}
			set(o, most)
			if dry {
				set(o, ceiling)
			}
		})
		test(t, r, dry)
	})
}

// connectWith is a first message as SDKs send it: connect and a subscription, n bytes in all.
func connectWith(n int) string {
	message := `{"id":1,"connect":{"token":"%s"}}` + "\n" + `{"id":2,"subscribe":{"channel":"a"}}`
	return fmt.Sprintf(message, noise(n-len(message)+2))
}

// noise returns n characters that hardly compress.
func noise(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[random.IntN(64)]
	}
	return string(b)
}

// Before a client is connected, a message has a limit of its own, sent as it is, in fragments or compressed. What is
// longer is not read, or inflated, further, and a client that is connected has the other limit.
func TestFirstMessageMax(t *testing.T) {
	const first, later = 4 << 10, 16 << 10
	set := func(o *Options, n int) { o.Limits.FirstMessageMax, o.Limits.MessageMax = n, later }
	send := map[string]func(*client, string){
		"plain":      func(c *client, text string) { c.send(ws.OpText, text) },
		"compressed": func(c *client, text string) { c.sendDeflated(text) },
		"fragments": func(c *client, text string) {
			half := wire.AppendMasked(nil, ws.OpText, []byte(text[:len(text)/2]), [4]byte{})
			half[0] &^= 0x80
			rest := wire.AppendMasked(nil, ws.OpContinuation, []byte(text[len(text)/2:]), [4]byte{})
			c.write(append(half, rest...))
		},
	}
	for name, send := range send {
		t.Run(name, func(t *testing.T) {
			triesOrKeeps(t, QuotaFirstMessage, first, later, set, func(t *testing.T, r *rig, dry bool) {
				t.Helper()
				c := r.dialDeflate(pathProtocol)
				send(c, connectWith(first))
				require.Contains(t, c.message(wire.EventText), `"subscribe":{`, "what SDKs send has room")
				c.send(ws.OpText, `{"id":3,"rpc":{"data":"`+noise(later-100)+`"}}`)
				require.Contains(t, c.message(wire.EventText), `{"id":3,"error":{"code":108`)
				require.Zero(t, r.exceeded(QuotaFirstMessage))

				c = r.dialDeflate(pathProtocol)
				send(c, connectWith(2*first))
				if dry {
					require.Contains(t, c.message(wire.EventText), `"subscribe":{`)
				} else {
					code, text := c.closed()
					require.EqualValues(t, 1009, code)
					require.Contains(t, text, "more than 4096 bytes (client.first_message_max)")
				}
				require.EqualValues(t, 1, r.exceeded(QuotaFirstMessage))
				if dry { // What ends it then is the other limit.
					c = r.dialDeflate(pathProtocol)
					send(c, connectWith(2*later))
					code, text := c.closed()
					require.EqualValues(t, 1009, code)
					require.Contains(t, text, "more than 16384 bytes (client.message_max)")
					require.EqualValues(t, 1, r.exceeded(QuotaFirstMessage))
					require.EqualValues(t, 1, r.exceeded(QuotaMessage))
				}
			})
		})
	}
}

// A message that is not even small when compressed is refused by its header.
func TestFirstMessageMaxOnTheWire(t *testing.T) {
	r, _ := newDeflateRig(t, func(o *Options) { o.Limits.FirstMessageMax = 4 << 10 })
	c := r.dialDeflate(pathProtocol)
	header := wire.AppendMasked(nil, ws.OpText, make([]byte, wire.DeflatedMax(4<<10)+1), [4]byte{})[:8]
	header[0] |= 0x40
	c.write(header)
	code, text := c.closed()
	require.EqualValues(t, 1009, code)
	require.Contains(t, text, "client.first_message_max")
}

func TestMessageMaxInDryRun(t *testing.T) {
	set := func(o *Options, n int) { o.Limits.MessageMax = n }
	triesOrKeeps(t, QuotaMessage, 1<<10, 64<<10, set, func(t *testing.T, r *rig, dry bool) {
		t.Helper()
		c := r.join()
		c.send(ws.OpText, `{"id":2,"rpc":{"data":"`+strings.Repeat("x", 2<<10)+`"}}`)
		if dry {
			require.Contains(t, c.message(wire.EventText), `{"id":2,`)
		} else {
			code, text := c.closed()
			require.EqualValues(t, 1009, code)
			require.Contains(t, text, "client.message_max")
		}
		require.EqualValues(t, 1, r.exceeded(QuotaMessage))
	})
}

func TestHeadMaxInDryRun(t *testing.T) {
	set := func(o *Options, n int) { o.Limits.HeadMax = n }
	triesOrKeeps(t, QuotaHead, 1<<10, 64<<10, set, func(t *testing.T, r *rig, dry bool) {
		t.Helper()
		_, status, body := r.ask("/ws?channel=a&x=" + strings.Repeat("x", 2<<10))
		if dry {
			require.Equal(t, 101, status)
		} else {
			require.Equal(t, 431, status)
			require.Contains(t, body, "client.head_max")
		}
		eventually(t, "counted", func() bool { return r.exceeded(QuotaHead) == 1 })
	})
}

func TestChannelsMaxInDryRun(t *testing.T) {
	set := func(o *Options, n int) { o.Limits.ChannelsMax = n }
	triesOrKeeps(t, QuotaSubscriptions, 2, 10, set, func(t *testing.T, r *rig, dry bool) {
		t.Helper()
		c := r.join("a", "b")
		c.send(ws.OpText, `{"id":9,"subscribe":{"channel":"c"}}`)
		_, status, body := r.ask("/ws?channel=a&channel=b&channel=c")
		if dry {
			require.Contains(t, c.message(wire.EventText), `{"id":9,"subscribe":{`)
			require.Equal(t, 101, status)
		} else {
			require.Contains(t, c.message(wire.EventText), `{"id":9,"error":{"code":106,`)
			require.Equal(t, 400, status)
			require.Contains(t, body, "client.channels_max")
		}
		require.EqualValues(t, 2, r.exceeded(QuotaSubscriptions))
	})
}

// In a dry run a client that does not read is counted once, goes on, and gets everything when it reads.
func TestOutboundMaxInDryRun(t *testing.T) {
	const records, size = 40, 64 << 10
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := newStepped(t, func(o *Options) {
			o.Limits.OutboundMax = 256 << 10
			o.Quotas.Limits[QuotaOutbound] = QuotaLimit{256 << 10, dry}
		})
		var c *client
		r.during(func() { c = r.dial("/ws?channel=a") })
		conn := r.shard.slab.get(0)
		value := strings.Repeat("v", size)
		for i := 0; i < records && conn.isClient(); i++ {
			r.publish("a", fmt.Sprintf("%04d%s", i, value))
			for eventually(t, "taken", func() bool { r.step(); return r.shard.gatherer.wakeAt == 0 }); ; r.step() {
				if _, state := r.shard.opts.Cursor.Next(); state == bus.StateEmpty {
					break
				}
			}
		}
		require.EqualValues(t, 1, r.exceeded(QuotaOutbound))
		require.Equal(t, dry, conn.isClient())
		if !dry {
			return
		}
		require.Greater(t, conn.out.cost, 256<<10)
		r.during(func() {
			for i := range records {
				require.Equal(t, fmt.Sprintf("%04d", i), c.message(wire.EventText)[:4])
			}
		})
		require.False(t, conn.out.counted)
		require.Zero(t, r.shard.Stats().Dropped.Load())
	})
}

// A dry run of the memory for clients refuses and closes nobody, and counts.
func TestMemoryInDryRun(t *testing.T) {
	memory := &Memory{Limit: 1000}
	p := newPastRig(t, func(o *Options) {
		o.Memory = memory
		o.Quotas.Limits[QuotaMemory] = QuotaLimit{1000, true}
	})
	p.numbers(1, 6)
	c := p.joined()
	memory.add(5000)
	p.say(c, `{"id":6,"history":{"channel":"a","limit":5}}`)
	p.past.answer(bus.ResultOK)
	require.Contains(t, p.hear(c), `{"id":6,"history":{`)
	require.GreaterOrEqual(t, p.exceeded(QuotaMemory), uint64(2))
	p.shard.start = p.shard.start.Add(-tickLength) // It counts once a tick.
	c.write([]byte{0x81, 0xfe, 0x10, 0})           // A part of a frame is memory.
	before := p.exceeded(QuotaMemory)
	eventually(t, "kept", func() bool { p.step(); return p.shard.inbound.bytes > 0 })
	require.Greater(t, p.exceeded(QuotaMemory), before)
	require.Zero(t, p.reason(ReasonMemory))
	memory.add(-5000)
}

// Answers have a part of the memory: clients that ask and do not read get no more than that, however many they are, and
// others get theirs when it is free again.
func TestAnswersHaveAPart(t *testing.T) {
	const clients, limit, each = 30, 256 << 10, 40 << 10
	for _, dry := range []bool{false, true} {
		t.Run(fmt.Sprint("dry ", dry), func(t *testing.T) {
			memory := &Memory{Limit: 1 << 40, AnswersLimit: limit}
			p := newPastRig(t, func(o *Options) {
				o.Memory, o.Recovery.HistoryMax = memory, 10
				o.Quotas.Limits[QuotaAnswers] = QuotaLimit{limit, dry}
			})
			for n := 1; n <= 5; n++ {
				p.past.records = append(p.past.records, record(uint64(n), fmt.Sprintf(`{"pad":%q}`, strings.Repeat("v", each/5))))
			}
			p.place.set("a", 5)
			p.past.auto()
			var list []*client
			p.during(func() {
				for range clients {
					list = append(list, p.join())
				}
			})
			for range 30 { // Nobody reads: the kernel's buffers fill first.
				for _, c := range list {
					if p.shard.slab.get(0).state == stateFree {
						break
					}
					c.send(ws.OpText, `{"id":5,"history":{"channel":"a","limit":5}}`)
				}
				p.step()
				if !dry {
					require.Less(t, memory.Answers(), int64(limit+2*each))
				}
			}
			require.Positive(t, p.exceeded(QuotaAnswers))
			if dry {
				require.Greater(t, memory.Answers(), int64(limit+2*each))
				return
			}
			require.LessOrEqual(t, memory.Answers(), memory.Used())
			var other *client
			p.during(func() { other = p.join() })
			p.say(other, `{"id":6,"history":{"channel":"a","limit":5}}`)
			require.Contains(t, p.hear(other), `{"id":6,"error":{"code":100,"message":"history cannot be read now","temporary":true}}`)
			// They do not keep the others from theirs for long: those that hold most are closed.
			require.Zero(t, p.reason(ReasonMemory))
			p.step()
			require.NotZero(t, p.shard.answersFull)
			p.shard.start = p.shard.start.Add(-answersPatience - tickLength)
			p.step()
			require.Positive(t, p.reason(ReasonMemory))
			require.LessOrEqual(t, memory.Answers(), int64(limit/100*fullPart))
			require.Equal(t, p.shard.connections, clients+1-int(p.reason(ReasonMemory)))
			p.say(other, `{"id":7,"history":{"channel":"a","limit":5}}`)
			p.during(func() { require.Contains(t, other.message(wire.EventText), `{"id":7,"history":{`) })
			require.NoError(t, p.abandon(list))
			eventually(t, "free again", func() bool { p.step(); return memory.Answers() == 0 })
			require.Zero(t, p.shard.answersFull)
		})
	}
}

// abandon closes the sockets of clients.
func (p *pastRig) abandon(list []*client) error {
	for _, c := range list {
		if err := tcp(c.conn).Close(); err != nil {
			return err
		}
	}
	return nil
}

// What is pinned is counted, and nobody is closed for it, in a dry run.
func TestPinnedMaxInDryRun(t *testing.T) {
	dryOrNot(t, func(t *testing.T, dry bool) {
		t.Helper()
		r := newStepped(t, func(o *Options) {
			o.Limits.PinnedMax, o.Limits.OutboundMax = 1<<20, 64<<20
			o.Quotas.Limits[QuotaPinned] = QuotaLimit{1 << 20, dry}
		})
		r.during(func() { r.dial("/ws?channel=a") })
		conn := r.shard.slab.get(0)
		for range 100 { // More than the ring has slots.
			r.publish("a", strings.Repeat("v", 64<<10))
			r.step()
		}
		eventually(t, "over", func() bool {
			r.shard.start = r.shard.start.Add(-tickLength)
			r.step()
			return r.exceeded(QuotaPinned) > 0
		})
		require.Equal(t, dry, conn.isClient())
	})
}
