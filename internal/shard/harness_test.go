package shard

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"wsd/internal/bus"
	"wsd/internal/routing"
	"wsd/internal/stats"
	"wsd/internal/wire"
)

const waitMax = 20 * time.Second

var testIDs = routing.NewClientIDs([16]byte{7})

func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(waitMax); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "not in time: "+what)
		}
	}
}

// place is a Positions whose answer the test sets, and which can hold the shard up.
type place struct {
	mu     sync.Mutex
	offset map[string]uint64
	epoch  string // Empty: "epoch".
	block  atomic.Pointer[chan struct{}]

	unsettled atomic.Bool
}

func (p *place) Position(channel string) (uint64, string, bool) {
	if wait := p.block.Load(); wait != nil {
		<-*wait
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	offset, ok := p.offset[channel]
	return offset, cmp.Or(p.epoch, "epoch"), ok
}

func (p *place) Settled(string) bool { return !p.unsettled.Load() }

func (p *place) set(channel string, offset uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offset[channel] = offset
}

// begin lets all streams have another epoch.
func (p *place) begin(epoch string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch = epoch
}

type load struct {
	accepted, closed atomic.Uint64
	busy             atomic.Uint64
}

func (l *load) BeginTurn(now uint64) { l.busy.Store(now) }

func (l *load) EndTurn(accepted, closed, _ uint64) {
	l.accepted.Add(accepted)
	l.closed.Add(closed)
}

// rig is one shard with everything around it, fed by the test instead of Kafka.
type rig struct {
	t        testing.TB
	shard    *Shard
	ring     *bus.Ring
	builder  *bus.Builder
	interest *routing.Interest
	place    *place
	load     *load
	serving  *atomic.Bool
	address  string
	offset   uint64
	stepped  bool // The test turns the loop over itself.
	stopped  bool
	tls      bool // Clients speak TLS, unless they say otherwise.

	deliveries *stats.Deliveries // Of all that is published.
}

func testLimits() Limits {
	return Limits{
		OutboundMax: 1 << 20, MessageMax: 64 << 10, FirstMessageMax: 64 << 10, MessageOutMax: 1 << 20, HeadMax: 8 << 10, ChannelsMax: 8, ChannelLengthMax: 64, HandshakeTimeout: waitMax,
		StaleCloseDelay: waitMax, FrameTimeout: waitMax, PingInterval: 25 * time.Second, PongTimeout: 10 * time.Second,
		CloseGrace: time.Second, BatchBytesPerTurn: 64 << 10, PinnedMax: 1 << 40,
	}
}

// newRig starts a shard on a bus that soon detaches it when it does not move; change may alter its options.
func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	return newRigStalling(t, 50*time.Millisecond, change)
}

func newRigStalling(t testing.TB, stallMax time.Duration, change func(*Options)) *rig {
	t.Helper()
	r := newIdleRig(t, stallMax, change)
	r.shard.Start()
	return r
}

// newStepped returns a rig whose loop turns only in step and during, and which pings nobody: a turn may take long.
func newStepped(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	r := newIdleRig(t, waitMax, func(o *Options) {
		o.Limits.PingInterval = 24 * time.Hour
		if change != nil {
			change(o)
		}
	})
	r.stepped = true
	r.shard.work.max = time.Hour
	r.shard.work.begin(0)
	return r
}

// step turns the loop over once, without waiting, and checks the shard's sums.
func (r *rig) step() {
	r.t.Helper()
	r.shard.turnOver(false)
	check(r.t, r.shard)
}

// during turns the loop over until do has returned, which runs in a goroutine of its own.
func (r *rig) during(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		select {
		case <-done:
			check(r.t, r.shard)
			return
		default:
			r.shard.turnOver(false)
		}
	}
}

func newIdleRig(t testing.TB, stallMax time.Duration, change func(*Options)) *rig {
	t.Helper()
	r := &rig{
		t: t, interest: routing.NewInterest(), place: &place{offset: map[string]uint64{}}, load: &load{}, serving: new(atomic.Bool),
		builder: bus.NewBuilder(bus.BuilderOptions{RecordsMax: 1 << 20, BytesMax: 64 << 20}),
	}
	r.serving.Store(true)
	r.deliveries = stats.NewDeliveries("topic", 1)
	if !*uncounted {
		r.builder.From(bus.Origin{Topic: r.deliveries, Fetched: stats.Clock(time.Now()), Partition: 7})
	}
	fd, address := listenTCP(t, 0)
	r.address = address
	ring, err := bus.New(bus.Options{
		Shards: 1, Slots: 64, BytesMax: 64 << 20, StallMax: stallMax, Logger: slog.New(slog.DiscardHandler),
		Wake: func(routing.ShardID) { r.shard.PostWake() },
	})
	require.NoError(t, err)
	r.ring = ring
	o := Options{
		ID: 0, Listeners: []int{fd}, Cursor: ring.Cursor(0), Head: ring.Head, Interest: r.interest, Positions: r.place, Load: r.load,
		Serving: r.serving, Descriptors: &Descriptors{Max: 1 << 20}, Memory: &Memory{Limit: 1 << 40}, Drain: &Drain{}, Quotas: &Quotas{}, Limits: testLimits(), Version: "test", ClientIDs: testIDs, Logger: slog.New(slog.DiscardHandler),
	}
	if *everythingTLS {
		o.TLS.Handshakes = newHandshakes(t)
	}
	if change != nil {
		change(&o)
	}
	r.tls = o.TLS.Handshakes != nil
	r.shard, err = New(o)
	require.NoError(t, err)
	t.Cleanup(func() {
		r.stop(5 * time.Second)
		stats := r.shard.Stats()
		require.Zero(t, stats.Connections.Load(), "connections left")
		require.Zero(t, stats.Clients.Load(), "clients left")
		require.Zero(t, stats.Subscriptions.Load(), "subscriptions left")
		require.Zero(t, stats.Channels.Load(), "channels left")
		require.Zero(t, stats.OutboundBytes.Load(), "bytes left")
		require.Zero(t, r.ring.Stats().PinnedBytes.Load(), "bytes pinned")
		require.Len(t, r.shard.sender.holds.free, len(r.shard.sender.holds.list)-1, "pins left")
		require.Zero(t, r.interest.Len(), "interest left")
		_, ok := r.interest.Lookup([]byte(routing.Everybody))
		require.False(t, ok, "interest in messages for everybody left")
		require.Equal(t, stats.Accepted.Load(), r.load.accepted.Load(), "accepts reported to steering")
		require.Equal(t, stats.Accepted.Load(), r.load.closed.Load(), "closes reported to steering")
		require.Zero(t, r.load.busy.Load())
		require.Zero(t, r.shard.opts.Quotas.Connections(), "places left")
		require.Zero(t, r.shard.opts.Quotas.Handshakes(), "handshakes left")
		require.Zero(t, r.shard.opts.Quotas.addresses.len(), "addresses left")
		require.Zero(t, r.shard.opts.Quotas.users.len(), "users left")
		require.Zero(t, r.shard.identities.bytes, "memory of identities left")
		require.Empty(t, r.shard.proxied.bySlot, "clients of proxies left")
	})
	return r
}

func (r *rig) stop(drain time.Duration) {
	if r.stopped {
		return
	}
	r.stopped = true
	r.shard.PostShutdown(time.Now().Add(drain))
	if r.stepped {
		r.shard.run()
	}
	select {
	case <-r.shard.Done():
	case <-time.After(drain + waitMax):
		require.Fail(r.t, "the shard did not end")
	}
}

// listenTCP opens a non-blocking listener on loopback as the listen package does.
func listenTCP(t testing.TB, sendBuffer int) (fd int, address string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if sendBuffer == 0 {
		sendBuffer = 32 << 10
	}
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, sendBuffer))
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 4096))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}

// publish puts values onto a channel, in one batch, as the source does. Nobody interested: they are gone.
func (r *rig) publish(channel string, values ...string) {
	r.t.Helper()
	r.add(channel, values...)
	r.seal()
}

// add is publish without the end of the batch.
func (r *rig) add(channel string, values ...string) {
	r.t.Helper()
	for _, v := range values {
		r.offset++
		r.place.mu.Lock()
		if _, ok := r.place.offset[channel]; ok {
			r.place.offset[channel] = r.offset
		}
		r.place.mu.Unlock()
		if ch, ok := r.interest.Take([]byte(channel), r.offset); ok {
			r.builder.Add(ch, record(r.offset, v), time.Now())
		}
	}
}

func (r *rig) seal() {
	r.t.Helper()
	if b := r.builder.Seal(); b != nil {
		require.NoError(r.t, r.ring.Publish(context.Background(), b))
	}
}

// record makes what the source makes of a value: "\x00" stands for a null, a value that starts with "{" or a digit is
// JSON.
func record(offset uint64, v string) bus.Record {
	switch {
	case v == "\x00":
		return bus.Record{Offset: offset, JSON: []byte("null"), Text: true}
	case v[0] == '{' || v[0] >= '0' && v[0] <= '9':
		return bus.Record{Offset: offset, Value: []byte(v), JSON: []byte(v), Text: true}
	default:
		return bus.Record{Offset: offset, Value: []byte(v), Text: v[0] < 0x80}
	}
}

// client is a WebSocket client of the test.
type client struct {
	t      testing.TB
	conn   net.Conn
	in     *bufio.Reader
	reader wire.Reader
	buf    []byte
	header http.Header
}

var testKey = base64.StdEncoding.EncodeToString(make([]byte, 16))

// dial connects and upgrades. path is that of the request with its query.
func (r *rig) dial(path string) *client {
	r.t.Helper()
	c := r.open()
	c.write(wire.AppendClientHandshake(nil, r.address, path, "", testKey))
	status, body := c.response()
	require.Equal(r.t, 101, status, body)
	return c
}

func (r *rig) open() *client {
	r.t.Helper()
	if r.tls {
		c := r.openPlain()
		startTLS(c, new(tls.Config)) // The handshake comes with the first write.
		return c
	}
	return r.openPlain()
}

func (r *rig) openPlain() *client {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.address)
	require.NoError(r.t, err)
	require.NoError(r.t, conn.SetDeadline(time.Now().Add(waitMax)))
	r.t.Cleanup(func() { _ = conn.Close() })
	return &client{t: r.t, conn: conn, in: bufio.NewReader(conn)}
}

// response reads the answer to an upgrade request; of a refusal the body too.
func (c *client) response() (status int, body string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.in, nil)
	require.NoError(c.t, err)
	c.header = res.Header
	if res.StatusCode == http.StatusSwitchingProtocols {
		return res.StatusCode, ""
	}
	b, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	return res.StatusCode, strings.TrimSuffix(string(b), "\n")
}

func (c *client) write(b []byte) {
	c.t.Helper()
	_, err := c.conn.Write(b)
	require.NoError(c.t, err)
}

func (c *client) send(op ws.OpCode, payload string) {
	c.t.Helper()
	c.write(wire.AppendMasked(nil, op, []byte(payload), [4]byte{1, 2, 3, 4}))
}

// next reads one message or control frame; an error means that the socket has ended.
func (c *client) next() (wire.Event, string, error) {
	c.t.Helper()
	for {
		event, payload, n, closeErr := c.reader.Next(c.buf, wire.RoleClient, 64<<20)
		require.Nil(c.t, closeErr)
		if n > 0 {
			text := string(payload)
			c.buf = c.buf[n:]
			if event == wire.EventFragment {
				continue
			}
			return event, text, nil
		}
		chunk := make([]byte, 64<<10)
		_ = c.conn.SetReadDeadline(time.Now().Add(waitMax)) // Fails where the Read does.
		got, err := c.in.Read(chunk)
		if err != nil && got == 0 { // crypto/tls returns the last bytes and the end together.
			return wire.EventNone, "", err
		}
		c.buf = append(c.buf, chunk[:got]...)
	}
}

// message reads the next message, which must be of the given kind.
func (c *client) message(event wire.Event) string {
	c.t.Helper()
	got, payload, err := c.next()
	require.NoError(c.t, err)
	require.Equal(c.t, event, got, payload)
	return payload
}

// closed reads a close frame and the end of the socket.
func (c *client) closed() (code uint16, reason string) {
	c.t.Helper()
	payload := c.message(wire.EventClose)
	code, reason, closeErr := wire.CloseCode([]byte(payload))
	require.Nil(c.t, closeErr)
	_, _, err := c.next()
	require.ErrorIs(c.t, err, io.EOF)
	return code, reason
}

// join connects by the client protocol and subscribes. Messages for everybody may come between the replies.
func (r *rig) join(channels ...string) *client {
	r.t.Helper()
	c := r.dial(pathProtocol)
	reply := func() string {
		r.t.Helper()
		for {
			if m := c.message(wire.EventText); !strings.HasPrefix(m, `{"push":{"message":`) {
				return m
			}
		}
	}
	c.send(ws.OpText, `{"id":1,"connect":{}}`)
	require.Contains(r.t, reply(), `{"id":1,"connect":{"client":"`)
	for i, name := range channels {
		c.send(ws.OpText, fmt.Sprintf(`{"id":%d,"subscribe":{"channel":%q}}`, i+2, name))
		require.Contains(r.t, reply(), fmt.Sprintf(`{"id":%d,"subscribe":{`, i+2))
	}
	return c
}

func (r *rig) reason(reason Reason) uint64 { return r.shard.Stats().Closed[reason].Load() }

// limitFiles lowers the limit of open files until restore is called or the test ends.
func limitFiles(t testing.TB, n uint64) (restore func()) {
	t.Helper()
	var before syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: before.Max}))
	restore = sync.OnceFunc(func() { require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)) })
	t.Cleanup(restore)
	return restore
}
