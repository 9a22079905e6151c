package client

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

// DisturberOptions say whom to disturb. All fields are needed.
type DisturberOptions struct {
	Server  netip.AddrPort
	Host    string  // Of the Host field, with port.
	Channel Channel // What all subscribe to.
	// Seen is the number of a record that some client has got, so that no later connection is to get it; called by any goroutine.
	Seen        func() uint64
	Now         func() int64  // Nanoseconds since 1970; the clock that records are stamped by.
	Count       int           // Disturbers: connections at a time.
	Seed        uint64        // Of all that is random.
	OutboundMax int           // The server's client.outbound_max in bytes.
	StopMax     time.Duration // The longest time that one does not read, or reads slowly; above stopLeast.
}

// Disturbers are clients that do to the server what bad networks and bad clients do: they read slowly or not at all, reset their connections
// at any moment, and come back. They speak raw, one goroutine each. Whatever comes through must still be every record, once and in order.
type Disturbers struct {
	o       DisturberOptions
	request []byte
	key     string
	running sync.WaitGroup

	mu    sync.Mutex
	total Disturbed // Guarded by mu.
}

// What disturbers do, as chances and times.
const (
	stopLeast      = 200 * time.Millisecond
	readLeast      = 200 * time.Millisecond
	readMax        = 5 * time.Second
	pauseMax       = time.Second // Before coming back.
	upgradeHoldMax = time.Second // Between a part of the upgrade request and the reset; less than client.handshake_timeout.

	chanceUpgradeReset = 0.15 // Of a connection: to be reset before it is upgraded.
	chanceBehindReset  = 0.2  // Of a stop or slow reading: to end by a reset.
	chanceLeave        = 0.3  // Of a connection that is up to date: to end by a close frame.
	chanceHalfFrame    = 0.5  // Of a reset: to follow a part of a frame.
	chanceSmallBuffer  = 0.5  // Of a connection: to have a receive buffer of smallBuffer bytes.
	smallBuffer        = 4 << 10
)

// How long is waited for the server.
const (
	answerTimeout = 10 * time.Second
	catchUpMax    = 30 * time.Second
	stuckAfter    = 15 * time.Second // Without a byte for a client that is to get some.
)

// NewDisturbers returns disturbers that do nothing yet.
func NewDisturbers(o DisturberOptions) (*Disturbers, error) {
	if o.Count < 0 || o.StopMax <= stopLeast || o.OutboundMax < 1 || o.Seen == nil || o.Now == nil || o.Channel.Format == nil || o.Channel.Produced == nil {
		return nil, errors.New("disturbers need a channel, a limit, and a longest stop above 200 ms")
	}
	d := &Disturbers{o: o, key: newKey()}
	d.request = wire.AppendClientHandshake(nil, o.Host, rawPath(o.Channel.Name), "", d.key)
	return d, nil
}

// Start begins to disturb, until ctx ends. Those that are connected then read what is left and leave in order.
func (d *Disturbers) Start(ctx context.Context) {
	for i := range d.o.Count {
		d.running.Go(func() { d.disturb(ctx, rand.New(rand.NewPCG(d.o.Seed, uint64(i)))) })
	}
}

// Wait waits, after the end of the context of Start, until all have left, and returns what they did and saw.
func (d *Disturbers) Wait() Disturbed {
	d.running.Wait()
	return d.Snapshot()
}

// Snapshot returns what was done and seen up to now; of a connection that goes on, nothing.
func (d *Disturbers) Snapshot() Disturbed {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.total.clone()
}

func (d *Disturbers) disturb(ctx context.Context, chance *rand.Rand) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(chance.Int64N(int64(pauseMax))))
		if ctx.Err() != nil {
			return
		}
		n := d.connection(ctx, chance)
		d.mu.Lock()
		d.total.add(&n)
		d.mu.Unlock()
	}
}

// connection makes one connection, and does to it what chance says.
func (d *Disturbers) connection(ctx context.Context, chance *rand.Rand) Disturbed {
	v := &victim{d: d, floor: d.o.Seen()}
	small := chance.Float64() < chanceSmallBuffer
	// Not ctx: a connection that it cuts in the making would be in the server's counters, but in none of ours.
	conn, err := d.dial(context.WithoutCancel(ctx), small)
	if err != nil {
		count(&v.n.NotDialed, err.Error())
		return v.n
	}
	v.conn, v.upTo = conn, d.o.Now()
	v.n.Connected++
	if chance.Float64() < chanceUpgradeReset {
		v.upgradeReset(ctx, chance)
	} else if v.upgrade() {
		v.live(ctx, chance)
	}
	v.account()
	return v.n
}

// live is the life of a connection that is upgraded: some phases, and an end.
func (v *victim) live(ctx context.Context, chance *rand.Rand) {
	for range 1 + chance.IntN(3) {
		hold := spread(chance, stopLeast, v.d.o.StopMax)
		rate := 512 + chance.IntN(8<<10) // Bytes a second, when reading slowly.
		switch chance.IntN(3) {
		case 0:
			v.read(ctx, spread(chance, readLeast, readMax))
			if v.ended() {
				return
			}
			continue
		case 1:
			v.n.Slows++
			v.holdUp(hold, func(d time.Duration) { v.readSlowly(ctx, d, rate) })
		case 2:
			v.n.Stops++
			v.holdUp(hold, func(d time.Duration) { pause(ctx, d) })
		}
		if v.ended() {
			return
		}
		if ctx.Err() == nil && chance.Float64() < chanceBehindReset {
			v.reset(chance)
			return
		}
		if v.catchUp() {
			v.n.Recovered++
		}
		if v.ended() {
			return
		}
	}
	if ctx.Err() != nil || chance.Float64() < chanceLeave {
		v.leave()
		return
	}
	v.reset(chance)
}

// dial makes a TCP connection.
func (d *Disturbers) dial(ctx context.Context, small bool) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: answerTimeout, KeepAlive: -1}
	if small {
		// Before connecting: the window that the kernel announces depends on it.
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, smallBuffer) })
			return errors.Join(err, failed)
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.o.Server.String())
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			return nil, errno // Without the port, so that reasons can be counted.
		}
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// spread is a time between least and most whose logarithm is even: short ones are as frequent as long ones.
func spread(chance *rand.Rand, least, most time.Duration) time.Duration {
	return time.Duration(float64(least) * math.Pow(float64(most)/float64(least), chance.Float64()))
}

// pause waits.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
