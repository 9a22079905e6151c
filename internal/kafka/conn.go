package kafka

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Conn is one authenticated connection to a broker. One goroutine uses it; the context that it was dialled with closes it.
type Conn struct {
	*protocol.Conn
	formatter  *kmsg.RequestFormatter
	timeout    time.Duration   // For an answer; 0: while dialling, which has a deadline of its own.
	versions   map[int16]int16 // Highest version that the broker takes, by API key.
	out        []byte          // The request being written; reused.
	in         []byte          // The last response; reused, and given back when it had to grow beyond inMax.
	inMax      int             // Bytes that in may keep between two responses.
	frameMax   int             // Bytes of the largest response accepted.
	id         int32
	deadline   time.Time // Of reads and writes, see allow.
	stopCancel func() bool
}

// Dialer says how to connect to brokers. It is not changed after its first use; any goroutine may use it.
type Dialer struct {
	ClientID       string
	TLS            *tls.Config    // nil: plain text. An empty ServerName becomes each broker's host.
	SASL           sasl.Mechanism // nil: none.
	DialTimeout    time.Duration  // For connecting, TLS and SASL together.
	RequestTimeout time.Duration  // For an answer, beyond what the broker may wait.
	ResponseMax    int            // Bytes of the largest response that is accepted.
	ResponseKept   int            // Bytes of its buffer that a connection keeps from one response to the next.
}

// Dial connects to the broker at addr: TCP, TLS, what versions it speaks, SASL. Ending ctx closes the connection at once, also later.
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
	socket := net.Conn(raw)
	if d.TLS != nil {
		cfg := d.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(addr)
		}
		t := tls.Client(raw, cfg)
		if err = t.HandshakeContext(dialCtx); err != nil {
			return nil, &KindError{ErrorConnect, Describe("TLS handshake with broker "+addr+" (does it expect TLS on this port?)", err)}
		}
		socket = t
	}
	c := &Conn{
		Conn: protocol.NewConn(socket, d.ClientID), stopCancel: stop,
		formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID(d.ClientID)),
		inMax:     d.ResponseKept, frameMax: d.ResponseMax,
	}
	if err = c.negotiate(); err != nil {
		return nil, &KindError{ErrorConnect, Describe("ask broker "+addr+" for its versions (does it expect TLS on this port?)", err)}
	}
	if d.SASL != nil {
		if err = c.authenticate(dialCtx, d.SASL, addr); err != nil {
			return nil, err
		}
	}
	c.timeout = d.RequestTimeout
	return c, nil
}

// DialFirst connects to the first of the addresses that can be reached; not all are tried. Any goroutine.
func (d *Dialer) DialFirst(ctx context.Context, addrs []string) (*Conn, error) {
	var errs []error
	for _, addr := range addrs[:min(len(addrs), DialFirstMax)] {
		c, err := d.Dial(ctx, addr)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, err)
	}
	return nil, joinErrors(errs)
}

// DialFirstMax bounds the brokers tried in one call, and with them the length of its error.
const DialFirstMax = 4

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

// Close closes the connection. A request under way fails.
func (c *Conn) Close() {
	c.stopCancel()
	_ = c.Conn.Close()
}

// Version returns the highest version of the request with the key that the broker takes, -1 if it does not know the request.
func (c *Conn) Version(key int16) int16 {
	if v, ok := c.versions[key]; ok {
		return v
	}
	return -1
}

// negotiate learns which versions the broker takes and refuses one that is too old. It is the first exchange, so it does not go
// through kafka-go: what answers may be no Kafka at all, and its decoder would take the text of an HTTP error for gigabytes of arrays.
func (c *Conn) negotiate() error {
	req := kmsg.NewApiVersionsRequest()
	var res kmsg.ApiVersionsResponse
	if _, err := c.Request(&req, &res, 0); err != nil {
		return err
	}
	if res.ErrorCode != 0 {
		return Code(res.ErrorCode)
	}
	c.versions = make(map[int16]int16, len(res.ApiKeys))
	for _, k := range res.ApiKeys {
		c.versions[k.ApiKey] = k.MaxVersion
	}
	for _, need := range []struct {
		key protocol.ApiKey
		min int16
	}{{protocol.Fetch, 4}, {protocol.ListOffsets, 2}, {protocol.Metadata, 4}} {
		if v, ok := c.versions[int16(need.key)]; !ok || v < need.min {
			return fmt.Errorf("it takes %s up to version %d, %d is needed (Kafka 0.11 or newer)", need.key, v, need.min)
		}
	}
	c.SetVersions(map[protocol.ApiKey]int16{
		protocol.ListOffsets:      min(5, c.versions[int16(protocol.ListOffsets)]),
		protocol.SaslHandshake:    1,
		protocol.SaslAuthenticate: min(1, c.versions[int16(protocol.SaslAuthenticate)]),
	})
	return nil
}

// allow lets the next exchange take timeout, and what the broker may wait. It may get up to a quarter of timeout more: moving a deadline
// is dear next to a small fetch, so that one serves for many.
func (c *Conn) allow(wait time.Duration) error {
	if c.timeout == 0 {
		return nil
	}
	until := time.Now().Add(c.timeout + wait)
	if more := c.deadline.Sub(until); more >= 0 && more <= c.timeout/4 {
		return nil
	}
	c.deadline = until.Add(c.timeout / 4)
	return c.SetDeadline(c.deadline)
}

// RoundTrip exchanges a message of kafka-go. Its decoder may panic on bytes that are no Kafka answer; that is an error here.
func (c *Conn) RoundTrip(req protocol.Message) (res protocol.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			res, err = nil, fmt.Errorf("read the answer to %s: %v", req.ApiKey(), r)
		}
	}()
	if err := c.allow(0); err != nil {
		return nil, err
	}
	return c.Conn.RoundTrip(req)
}

var (
	errResponseSize = errors.New("the response's size is not plausible (is this a Kafka port?)")
	errExpectsTLS   = errors.New("the broker answered with a TLS alert: it expects TLS on this port (kafka.tls.enabled)")
)

// Request sends a request of kmsg in the version set in it and reads the answer into resp, which points into c.in until the next
// exchange. It returns the answer's size.
func (c *Conn) Request(req kmsg.Request, resp kmsg.Response, wait time.Duration) (int, error) {
	if err := c.allow(wait); err != nil {
		return 0, err
	}
	c.id++
	c.out = c.formatter.AppendRequest(c.out[:0], req, c.id)
	if _, err := c.Write(c.out); err != nil {
		return 0, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c.Conn, head[:]); err != nil {
		return 0, err
	}
	if head[0] == 0x15 && head[1] == 3 { // A TLS alert, version 3.x; as a size it would be 336 MiB and more.
		return 0, errExpectsTLS
	}
	size := int(int32(binary.BigEndian.Uint32(head[:])))
	if size < 5 || size > c.frameMax {
		return 0, fmt.Errorf("%w: %d bytes, at most %d", errResponseSize, size, c.frameMax)
	}
	if cap(c.in) < size || (cap(c.in) > c.inMax && size <= c.inMax) {
		c.in = make([]byte, size+size/4)
	}
	body := c.in[:size]
	if _, err := io.ReadFull(c.Conn, body); err != nil {
		return 0, err
	}
	if id := int32(binary.BigEndian.Uint32(body)); id != c.id {
		return 0, fmt.Errorf("the broker answered request %d, not %d", id, c.id)
	}
	body = body[4:]
	resp.SetVersion(req.GetVersion())
	if resp.IsFlexible() {
		var err error
		if body, err = skipTags(body); err != nil {
			return 0, err
		}
	}
	return size, resp.ReadFrom(body)
}

// skipTags skips the tagged fields at the end of a flexible response's header.
func skipTags(b []byte) ([]byte, error) {
	n, b, ok := uvarint(b)
	for ; ok && n > 0; n-- {
		var size uint64
		if _, b, ok = uvarint(b); !ok {
			break
		}
		if size, b, ok = uvarint(b); !ok || size > uint64(len(b)) {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[size:]
	}
	if !ok {
		return nil, io.ErrUnexpectedEOF
	}
	return b, nil
}

func uvarint(b []byte) (v uint64, rest []byte, ok bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return v, b[n:], true
}

// Versions of Fetch.
const (
	FetchByName = 11 // The last one that kafka-go has, too; topics are named by name.
	FetchByID   = 13 // The first in which topics are named by id.
)

// FetchVersion returns the version of Fetch to use with the broker: by topic id where it can, else by name.
func (c *Conn) FetchVersion() int16 {
	if v := c.Version(int16(protocol.Fetch)); v < FetchByID {
		return min(v, FetchByName)
	}
	return FetchByID
}
