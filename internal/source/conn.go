package source

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
	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one authenticated connection to a broker. One goroutine uses it; the context that it was dialled with closes it.
type conn struct {
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

// dial connects to the broker at addr: TCP, TLS, what versions it speaks, SASL. Ending ctx closes the connection at once, also later.
func (s *Source) dial(ctx context.Context, addr string) (_ *conn, err error) {
	dialCtx, cancel := context.WithTimeout(ctx, s.o.DialTimeout)
	defer cancel()
	tcp, err := (&net.Dialer{}).DialContext(dialCtx, "tcp", addr)
	if err != nil {
		return nil, &kindError{ErrorConnect, fmt.Errorf("connect to broker %s: %w", addr, err)}
	}
	raw, err := newSocket(tcp.(*net.TCPConn))
	if err != nil {
		_ = tcp.Close()
		return nil, &kindError{ErrorConnect, fmt.Errorf("connect to broker %s: %w", addr, err)}
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
		return nil, &kindError{ErrorConnect, fmt.Errorf("connect to broker %s: %w", addr, err)}
	}
	socket := net.Conn(raw)
	if s.o.TLS != nil {
		cfg := s.o.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(addr)
		}
		t := tls.Client(raw, cfg)
		if err = t.HandshakeContext(dialCtx); err != nil {
			return nil, &kindError{ErrorConnect, clearer("TLS handshake with broker "+addr+" (does it expect TLS on this port?)", err)}
		}
		socket = t
	}
	c := &conn{
		Conn: protocol.NewConn(socket, s.o.ClientID), stopCancel: stop,
		formatter: kmsg.NewRequestFormatter(kmsg.FormatterClientID(s.o.ClientID)),
		inMax:     2 * s.o.FetchTotalBytes, frameMax: s.o.FetchTotalBytes + s.o.BatchBytesMax + 1<<20,
	}
	if err = c.negotiate(); err != nil {
		return nil, &kindError{ErrorConnect, clearer("ask broker "+addr+" for its versions (does it expect TLS on this port?)", err)}
	}
	if s.o.SASL != nil {
		if err = c.authenticate(dialCtx, s.o.SASL, addr); err != nil {
			return nil, err
		}
	}
	c.timeout = s.o.RequestTimeout
	return c, nil
}

func (c *conn) close() {
	c.stopCancel()
	_ = c.Close()
}

// negotiate learns which versions the broker takes and refuses one that is too old. It is the first exchange, so it does not go
// through kafka-go: what answers may be no Kafka at all, and its decoder would take the text of an HTTP error for gigabytes of arrays.
func (c *conn) negotiate() error {
	req := kmsg.NewApiVersionsRequest()
	var res kmsg.ApiVersionsResponse
	if _, err := c.exchange(&req, &res, 0); err != nil {
		return err
	}
	if res.ErrorCode != 0 {
		return codeError(res.ErrorCode)
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
func (c *conn) allow(wait time.Duration) error {
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

// roundTrip exchanges a message of kafka-go. Its decoder may panic on bytes that are no Kafka answer; that is an error here.
func (c *conn) roundTrip(req protocol.Message) (res protocol.Message, err error) {
	defer func() {
		if r := recover(); r != nil {
			res, err = nil, fmt.Errorf("read the answer to %s: %v", req.ApiKey(), r)
		}
	}()
	return c.RoundTrip(req)
}

var (
	errResponseSize = errors.New("the response's size is not plausible (is this a Kafka port?)")
	errExpectsTLS   = errors.New("the broker answered with a TLS alert: it expects TLS on this port (kafka.tls.enabled)")
)

// exchange sends a request of kmsg in the version set in it and reads the answer into resp, which points into c.in until the next
// exchange. It returns the answer's size.
func (c *conn) exchange(req kmsg.Request, resp kmsg.Response, wait time.Duration) (int, error) {
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
