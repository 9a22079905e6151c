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

// DisturberOptions is what NewDisturbers needs. All fields are required.
type DisturberOptions struct {
	Server  netip.AddrPort // Address of the server.
	Host    string         // Value of the Host field, with port.
	Channel Channel        // Channel that all subscribe to.

	// Seen returns the number of a record that some client has got, so that later connections must not get it. Any
	// goroutine may call it.
	Seen        func() uint64
	Now         func() int64  // Returns nanoseconds since 1970, of the clock that the times of records come from.
	Count       int           // Number of disturbers, which have one connection each at a time.
	Seed        uint64        // Seed of everything random.
	OutboundMax int           // The server's client.outbound_max in bytes.
	StopMax     time.Duration // Maximum time for which a client does not read, or reads slowly; above shortestStop.
}

// Disturbers are clients that behave like bad clients on bad networks: they read slowly or not at all, reset their
// connections at any time, and reconnect. They use the raw protocol, with one goroutine each. What they do receive must
// still be every record, once and in order.
type Disturbers struct {
	o       DisturberOptions
	request []byte
	key     string
	running sync.WaitGroup

	mu    sync.Mutex
	total Disturbed // Guarded by mu.
}

// Probabilities and times of what disturbers do.
const (
	shortestStop = 200 * time.Millisecond
	shortestRead = 200 * time.Millisecond
	readMax      = 5 * time.Second
	pauseMax     = time.Second // Maximum time before reconnecting.

	// Maximum time between a part of the upgrade request and the reset; less than client.handshake_timeout.
	upgradeHoldMax = time.Second

	chanceUpgradeReset = 0.15 // That a connection is reset before it is upgraded.
	chanceBehindReset  = 0.2  // That a stop or slow reading ends with a reset.
	chanceLeave        = 0.3  // That a connection that is up to date ends with a close frame.
	chanceHalfFrame    = 0.5  // That a reset follows a part of a frame.
	chanceSmallBuffer  = 0.5  // That a connection has a receive buffer of smallBuffer bytes.
	smallBuffer        = 4 << 10
)

// Limits of waiting for the server.
const (
	responseTimeout = 10 * time.Second
	catchUpMax      = 30 * time.Second
	stuckAfter      = 15 * time.Second // Maximum time without a byte for a client that should get some.
)

// NewDisturbers returns disturbers that have not started yet.
func NewDisturbers(o DisturberOptions) (*Disturbers, error) {
	if o.Count < 0 || o.StopMax <= shortestStop || o.OutboundMax < 1 || o.Seen == nil || o.Now == nil ||
		o.Channel.Format == nil || o.Channel.Produced == nil {
		return nil, errors.New("disturbers need a channel, a limit, and a StopMax above 200 ms")
	}
	d := &Disturbers{o: o, key: newKey()}
	d.request = wire.AppendClientHandshake(nil, o.Host, rawPath(o.Channel.Name), "", d.key)
	return d, nil
}

// Start starts the disturbers. When ctx ends, those that are connected read the rest and close properly.
func (d *Disturbers) Start(ctx context.Context) {
	for i := range d.o.Count {
		d.running.Go(func() { d.disturb(ctx, rand.New(rand.NewPCG(d.o.Seed, uint64(i)))) })
	}
}

// Wait waits until all disturbers have ended, after the end of the context of Start, and returns what they did and saw.
func (d *Disturbers) Wait() Disturbed {
	d.running.Wait()
	return d.Snapshot()
}

// Snapshot returns what the disturbers have done and seen, without connections that are still open.
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

// connection opens one connection, and treats it as chance decides.
func (d *Disturbers) connection(ctx context.Context, chance *rand.Rand) Disturbed {
	v := &victim{d: d, floor: d.o.Seen()}
	small := chance.Float64() < chanceSmallBuffer
	// Not ctx: the server may count a connection that ctx interrupts, and this client would not.
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

// live treats an upgraded connection: some phases, and an end.
func (v *victim) live(ctx context.Context, chance *rand.Rand) {
	for range 1 + chance.IntN(3) {
		hold := spread(chance, shortestStop, v.d.o.StopMax)
		rate := 512 + chance.IntN(8<<10) // Bytes per second when reading slowly.
		switch chance.IntN(3) {
		case 0:
			v.read(ctx, spread(chance, shortestRead, readMax))
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

// dial opens a TCP connection.
func (d *Disturbers) dial(ctx context.Context, small bool) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: responseTimeout, KeepAlive: -1}
	if small {
		// Before connecting, because the window that the kernel announces depends on it.
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			var failed error
			err := raw.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF,
					smallBuffer)
			})
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

// spread returns a random time between shortest and longest. Its logarithm is evenly distributed, so that short times
// are as frequent as long ones.
func spread(chance *rand.Rand, shortest, longest time.Duration) time.Duration {
	return time.Duration(float64(shortest) * math.Pow(float64(longest)/float64(shortest), chance.Float64()))
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
