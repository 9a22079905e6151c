package shard

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// model is a shard with clients of all sorts, and what must become of the records that are published.
type model struct {
	*rig
	random    *rand.Rand
	records   map[uint64]published // By offset.
	listeners []*listener          // Those that are connected.
	expected  uint64               // Publications that were meant for somebody, summed over connections.
}

type published struct {
	offset  uint64
	channel string
	key     string
	value   string // "": a null.
	json    bool   // The value is JSON.
}

// listener is a client of the model, which reads when the test says so.
type listener struct {
	*client
	m        *model
	conn     *conn
	alive    uint32 // The generation of conn.
	protocol bool
	follows  map[string]*followed // By channel.
	leaving  string               // The channel of the last unsubscribe command.
	left     bool                 // It has been answered.
}

// followed is what a listener knows of a channel since it subscribed.
type followed struct {
	want   []published          // What was published and has something for it.
	newest map[string]published // By key, a null for a raw client too.
	got    []uint64             // Offsets.
}

var modelChannels = []string{"c.1", "c.2", "d.1"}

func (m *model) join() {
	l := &listener{m: m, protocol: m.random.IntN(3) > 0, follows: map[string]*followed{}}
	channels := modelChannels[:2+m.random.IntN(2)]
	m.during(func() {
		if l.protocol {
			l.client = m.rig.join(channels...)
		} else {
			l.client = m.dial("/ws?channel=" + strings.Join(channels, "&channel="))
		}
	})
	for _, c := range channels {
		l.follow(c)
	}
	tcp := tcp(l.client.conn)
	require.NoError(m.t, tcp.SetDeadline(time.Time{}))
	require.NoError(m.t, tcp.SetReadBuffer(32<<10)) // Less, and the kernel waits for its timers.
	port := tcp.LocalAddr().(*net.TCPAddr).Port
	m.shard.slab.each(func(c *conn) {
		peer, err := unix.Getpeername(int(c.fd))
		if err == nil && peer.(*unix.SockaddrInet4).Port == port {
			l.conn, l.alive = c, c.generation
		}
	})
	require.NotNil(m.t, l.conn)
	m.listeners = append(m.listeners, l)
}

func (l *listener) follow(channel string) {
	l.follows[channel] = &followed{newest: map[string]published{}}
}

// ended reports whether the shard has closed the connection or begun to.
func (l *listener) ended() bool { return l.conn.generation != l.alive || !l.conn.isClient() }

// drain reads up to n bytes, takes note of what came, and returns whether there was something.
func (l *listener) drain(n int) bool {
	buf := make([]byte, n)
	n, err := l.client.readNow(buf)
	if n <= 0 || err != nil {
		return false
	}
	l.buf = append(l.buf, buf[:n]...)
	for {
		event, payload, n, closeErr := l.reader.Next(l.buf, wire.RoleClient, 64<<20)
		require.Nil(l.t, closeErr)
		if n == 0 {
			return true
		}
		l.buf = l.buf[n:]
		if event == wire.EventText {
			for line := range strings.SplitSeq(string(payload), "\n") {
				l.take(line)
			}
		}
	}
}

// take takes note of one publication; other lines answer commands.
func (l *listener) take(line string) {
	number := strings.TrimLeft(line, `{"o: x`)
	if l.protocol {
		if !strings.HasPrefix(line, `{"push"`) {
			l.left = l.left || strings.Contains(line, `"unsubscribe"`)
			return
		}
		_, number, _ = strings.Cut(line, `"offset":`)
	}
	var offset uint64
	_, err := fmt.Sscanf(number, "%d", &offset)
	require.NoError(l.t, err, line)
	p := l.m.records[offset]
	require.Contains(l.t, line, p.value)
	require.False(l.t, l.left && p.channel == l.leaving, "a publication of a channel that it left")
	f := l.follows[p.channel]
	f.got = append(f.got, offset)
}

// settle has l read everything that the shard has for it.
func (l *listener) settle() {
	eventually(l.t, "settled", func() bool {
		l.m.step()
		for l.drain(64 << 10) {
			l.m.step()
		}
		if l.ended() {
			return true
		}
		unsent, err := unix.IoctlGetInt(int(l.conn.fd), unix.SIOCOUTQ)
		return err == nil && unsent == 0 && len(l.conn.out.chunks) == 0 && !l.drain(1)
	})
}

// publish puts a batch for one channel onto the bus and has it delivered. Somebody may join in its middle.
func (m *model) publish() {
	channel := modelChannels[m.random.IntN(len(modelChannels))]
	for range 1 + m.random.IntN(8) {
		m.add(channel)
		if l := m.listeners[m.random.IntN(len(m.listeners))]; l.follows[channel] == nil && m.random.IntN(10) == 0 {
			m.toggle(l, channel)
		}
		if m.random.IntN(2000) == 0 {
			m.join()
		}
	}
	m.seal()
	for state := bus.StateReady; state != bus.StateEmpty; _, state = m.shard.opts.Cursor.Next() {
		if m.shard.sender.pacing.until != 0 { // The batch is left on the bus for a moment: it passes.
			m.shard.start = m.shard.start.Add(-tickLength)
		}
		m.step()
	}
}

func (m *model) add(channel string) {
	m.offset++
	p := published{offset: m.offset, channel: channel, key: strconv.Itoa(m.random.IntN(12)), json: true}
	r := bus.Record{Offset: m.offset, Text: true, JSON: []byte("null")}
	var key []byte // Those without one share the empty one.
	if p.key != "0" {
		key = []byte(p.key)
	}
	switch m.random.IntN(8) {
	case 0:
	case 1:
		p.json, p.value = false, fmt.Sprintf("x %d", p.offset)
		r.Value, r.JSON = []byte(p.value), nil
	default:
		p.value = fmt.Sprintf(`{"o":%d,"pad":%q}`, p.offset, strings.Repeat("v", m.random.IntN(400)))
		r.Value, r.JSON = []byte(p.value), []byte(p.value)
	}
	m.records[m.offset] = p
	m.place.set(channel, m.offset)
	if ch, ok := m.interest.Lookup([]byte(channel)); ok {
		m.builder.AddKeyed(ch, r, key, time.Now())
	}
	for _, l := range m.listeners {
		f := l.follows[channel]
		if f == nil || l.ended() || l.protocol && !p.json {
			continue
		}
		f.newest[p.key] = p
		if l.protocol || p.value != "" {
			f.want = append(f.want, p)
			m.expected++
		}
	}
}

// toggle unsubscribes l from a channel, or subscribes it again.
func (m *model) toggle(l *listener, channel string) {
	if !l.protocol || l.ended() {
		return
	}
	command := "subscribe"
	if l.follows[channel] != nil {
		command = "unsubscribe"
		l.leaving, l.left = channel, false
	}
	before := m.shard.Stats().Commands.Load()
	l.send(ws.OpText, fmt.Sprintf(`{"id":77,%q:{"channel":%q}}`, command, channel))
	for m.shard.Stats().Commands.Load() == before && !l.ended() {
		m.step()
	}
	if command == "subscribe" {
		l.leaving = "" // All that is answered has been read.
		l.follow(channel)
		return
	}
	l.settle() // What was queued before it left still comes.
	l.check(channel, false)
	delete(l.follows, channel)
}

// check compares what came with what was published: a part of it, in its order, and when the client has stayed to the
// end with the newest of each key, or everything where nothing is left out.
func (l *listener) check(channel string, stayed bool) {
	f := l.follows[channel]
	at, newest := 0, map[string]uint64{}
	for _, offset := range f.got {
		for at < len(f.want) && f.want[at].offset != offset {
			at++
		}
		require.Less(l.t, at, len(f.want), "offset %d is out of order, came twice or was not for it", offset)
		at++
		newest[l.m.records[offset].key] = offset
	}
	if !stayed {
		return
	}
	if channel[0] == 'd' {
		require.Len(l.t, f.got, len(f.want))
	}
	for key, p := range f.newest {
		if l.protocol || p.value != "" {
			require.Equal(l.t, p.offset, newest[key], "the newest of key %s of %s", key, channel)
		}
	}
}

// forget does without those whose connections are at an end, and looks at the shard's books.
func (m *model) forget() {
	kept := m.listeners[:0]
	for _, l := range m.listeners {
		if l.ended() {
			for l.drain(64 << 10) {
			}
			for channel := range l.follows {
				l.check(channel, false)
			}
			_ = l.client.conn.Close()
			continue
		}
		kept = append(kept, l)
	}
	m.listeners = kept
	s := m.shard
	s.slab.each(func(c *conn) {
		if c.out.merge != nil {
			require.NotEmpty(m.t, c.out.chunks)
		}
		if c.isClient() {
			require.LessOrEqual(m.t, c.out.cost, s.opts.Limits.OutboundMax+8<<10)
		}
	})
	check(m.t, s)
}

// Clients of all sorts read, stop, leave channels and vanish at random while records of several channels come.
// Whoever stays has the newest record of each key in the end, in order, and every publication that somebody did not
// get has been counted.
func TestConflateModel(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &model{random: rand.New(rand.NewPCG(seed, 2)), records: map[uint64]published{}}
			m.rig = newStepped(t, func(o *Options) {
				o.Limits.OutboundMax, o.Limits.CloseGrace, o.Limits.PingInterval = 64<<10, waitMax, 24*time.Hour
				o.Slow = []SlowPolicy{{"c.*", PolicyConflate}}
			})
			for range 6 {
				m.join()
			}
			for range 4000 {
				l := m.listeners[m.random.IntN(len(m.listeners))]
				switch n := m.random.IntN(1000); {
				case n < 750:
					m.publish()
				case n < 980:
					l.drain(1 + m.random.IntN(8<<10))
					m.step()
				case n < 995:
					m.toggle(l, modelChannels[m.random.IntN(len(modelChannels))])
				case n < 998:
					_ = l.client.conn.Close()
					eventually(t, "seen", func() bool { m.step(); return l.ended() })
				default:
					m.join()
				}
				m.forget()
				for len(m.listeners) < 4 {
					m.join()
				}
			}
			for _, l := range m.listeners {
				l.settle()
				for channel := range l.follows {
					l.check(channel, true)
				}
			}
			m.forget()
			require.Zero(t, m.shard.sender.pacing.conflating, "nothing is left of the conflations")
			stats := m.shard.Stats()
			for stats.Connections.Load() > int64(len(m.listeners)) {
				m.step()
			}
			t.Log("published", m.expected, "delivered", stats.Deliveries.Load(), "conflated", stats.Conflated.Load(), "dropped", stats.Dropped.Load(),
				"conflations", stats.Slow[PolicyConflate].Load(), "disconnects", stats.Slow[PolicyDisconnect].Load())
			require.Equal(t, m.expected, stats.Deliveries.Load()+stats.Conflated.Load()+stats.Dropped.Load())
			require.Positive(t, stats.Slow[PolicyConflate].Load())
		})
	}
}
