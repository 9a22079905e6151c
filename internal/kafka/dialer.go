package kafka

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Dialer says how to connect to brokers. Nobody changes it after its first use; any goroutine may use it.
type Dialer struct {
	ClientID string
	// Returns the configuration for one connection, which may differ from the last one: certificates may be replaced
	// while the process runs. An empty ServerName becomes each broker's host. Nil means plain text.
	TLS  func() *tls.Config
	SASL sasl.Mechanism // Nil means no authentication. It is asked to start at each login.
	// For connecting, TLS and SASL together, and for what a login on an open connection has to fetch first.
	DialTimeout time.Duration
	// The longest time without progress until a response is complete, on top of the time that the broker may wait
	// before it sends one.
	RequestTimeout time.Duration
	ResponseMax    int // Size in bytes of the largest response that is accepted.
	// Size in bytes up to which a connection keeps its response buffer for the next response.
	ResponseKept int
	// Called after each login on an open connection that succeeds (KIP-368). Nil calls nothing.
	Reauthenticated func()
	// Called with each response that says that the broker holds the client back: the address as it was given to Dial,
	// and for how long. Any goroutine may call it. Nil calls nothing.
	OnThrottle func(addr string, d time.Duration)
}

// Dial connects to the broker at addr: TCP, TLS, version negotiation, SASL. The end of ctx closes the connection, also
// after Dial has returned. One goroutine may use the connection. The error is a *KindError: ErrorAuth if the broker
// refused the credentials, else mostly ErrorConnect.
func (d *Dialer) Dial(ctx context.Context, addr string) (_ *Conn, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, d.DialTimeout)
	defer cancel()
	tcp, err := (&net.Dialer{}).DialContext(dialCtx, "tcp", addr)
	if err != nil {
		return nil, &KindError{ErrorConnect, fmt.Errorf("connect to broker %s: %w", addr, err)}
	}
	raw, err := newSocket(tcp.(*net.TCPConn))
	if err != nil {
		_ = tcp.Close()
		return nil, &KindError{ErrorConnect, fmt.Errorf("connect to broker %s: %w", addr, err)}
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer func() {
		if err != nil {
			stop()
			_ = raw.Close()
		}
	}()
	deadline, _ := dialCtx.Deadline()
	if err = raw.SetDeadline(deadline); err != nil {
		return nil, &KindError{ErrorConnect, fmt.Errorf("connect to broker %s: %w", addr, err)}
	}
	stream := net.Conn(raw)
	if d.TLS != nil {
		cfg := d.TLS().Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(addr)
		}
		t := tls.Client(raw, cfg)
		if err = t.HandshakeContext(dialCtx); err != nil {
			during := "TLS handshake with broker " + addr + " (does it expect TLS on this port?)"
			return nil, &KindError{ErrorConnect, Describe(during, err)}
		}
		stream = t
	}
	c := &Conn{
		stream: stream, reader: bufio.NewReader(stream), stopCancel: stop, dialled: addr,
		formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID(d.ClientID)), responseMax: d.ResponseMax,
		responseKept: d.ResponseKept, opened: time.Now(),
		onThrottle: d.OnThrottle, ctxDone: ctx.Done(), closed: make(chan struct{}),
	}
	if err = c.negotiate(); err != nil {
		during := "ask broker " + addr + " for its versions (does it expect TLS on this port?)"
		return nil, &KindError{ErrorConnect, Describe(during, err)}
	}
	if d.SASL != nil {
		lifetime, err := c.authenticate(dialCtx, d.SASL, addr)
		if err != nil {
			return nil, err
		}
		c.session = session{renew: func() (time.Duration, error) { return d.loginAgain(ctx, c, addr) }}
		c.session.begin(time.Now(), lifetime)
	}
	c.served = 0
	c.timeout = d.RequestTimeout
	raw.moved = c.progress
	return c, nil
}

// loginAgain logs in on an open connection.
func (d *Dialer) loginAgain(ctx context.Context, c *Conn, addr string) (lifetime time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.DialTimeout)
	defer cancel()
	if lifetime, err = c.authenticate(ctx, d.SASL, addr); err == nil && d.Reauthenticated != nil {
		d.Reauthenticated()
	}
	return lifetime, err
}

// DialFirstMax is how many addresses DialFirst tries. It also bounds the length of its error.
const DialFirstMax = 4

// dialStagger is how long DialFirst waits for one address before it also tries the next. A frozen broker still accepts
// connections, but never answers.
const dialStagger = time.Second

// DialFirst connects to the first of the addresses that answers; there must be one at least. It tries at most
// DialFirstMax of them, in their order, and the next one as soon as one fails or has not answered for dialStagger.
func (d *Dialer) DialFirst(ctx context.Context, addrs []string) (*Conn, error) {
	addrs = addrs[:min(len(addrs), DialFirstMax)]
	type result struct {
		index int
		c     *Conn
		err   error
	}
	results := make(chan result, len(addrs))
	cancels := make([]context.CancelFunc, 0, len(addrs))
	running := 0
	begin := func() {
		if len(cancels) == len(addrs) {
			return
		}
		index := len(cancels)
		dialCtx, cancel := context.WithCancel(ctx)
		cancels = append(cancels, cancel)
		running++
		go func() {
			c, err := d.Dial(dialCtx, addrs[index])
			if err == nil {
				c.cancel = cancel
			}
			results <- result{index, c, err}
		}()
	}
	begin()
	next := time.NewTicker(dialStagger)
	defer next.Stop()
	var found *Conn
	var errs []error
	for running > 0 {
		select {
		case r := <-results:
			running--
			switch {
			case r.err == nil && found == nil:
				found = r.c
				for i, cancel := range cancels {
					if i != r.index {
						cancel()
					}
				}
			case r.err == nil:
				r.c.Close()
			case found == nil:
				errs = append(errs, r.err)
				next.Reset(dialStagger)
				begin()
			}
		case <-next.C:
			if found == nil {
				begin()
			}
		}
	}
	if found != nil {
		return found, nil
	}
	for _, cancel := range cancels {
		cancel()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, joinErrors(errs)
}

// joinErrors makes one line of several errors.
func joinErrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	kind, text := KindOf(errs[0]), ""
	for i, err := range errs {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
		if KindOf(err) == ErrorAuth {
			kind = ErrorAuth
		}
	}
	return &KindError{kind, errors.New(text)}
}
