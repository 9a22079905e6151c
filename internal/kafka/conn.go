package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Conn is one authenticated connection to a broker, with one request in flight at a time. One goroutine uses it; any
// goroutine may close it.
type Conn struct {
	stream     net.Conn // TCP, or TLS on top of it.
	reader     *bufio.Reader
	stopCancel func() bool
	cancel     context.CancelFunc // Of the context that the connection was dialled with. Nil if it is the caller's.
	dialled    string             // The address as it was given to Dial.
	formatter  *kmsg.RequestFormatter
	// The longest time without progress while a request or its response is under way, see progress. Zero while
	// dialling, which has a deadline of its own.
	timeout      time.Duration
	versions     map[int16]int16 // The highest version of each request that the broker takes, by API key.
	request      []byte          // The encoded request. Its memory is reused.
	response     []byte          // The last response. Its memory is reused unless it had to grow beyond responseKept.
	responseKept int
	responseMax  int
	correlation  int32
	deadline     time.Time // Of reads and writes, see allow.
	progressed   int       // The bytes that were moved since the deadline was last looked at.
	opened       time.Time
	served       int     // The responses since the login.
	session      session // Zero without SASL.

	throttledUntil time.Time // Nothing is asked before. Zero means now.
	onThrottle     func(addr string, d time.Duration)
	ctxDone        <-chan struct{} // Closed at the end of the context that the connection was dialled with.
	closed         chan struct{}   // Closed by Close.
	closing        sync.Once
}

// Close closes the connection. A request in flight fails.
func (c *Conn) Close() {
	c.stopCancel()
	c.closing.Do(func() { close(c.closed) })
	_ = c.stream.Close()
	if c.cancel != nil {
		c.cancel()
	}
}

// KeepResponse leaves the memory of the last response to the caller: the next one gets memory of its own.
func (c *Conn) KeepResponse() { c.response = nil }

// Addr returns the broker's network address.
func (c *Conn) Addr() string { return c.stream.RemoteAddr().String() }

// Dialled returns the address as it was given to Dial.
func (c *Conn) Dialled() string { return c.dialled }

// SetTimeout replaces Dialer.RequestTimeout for the requests to come.
func (c *Conn) SetTimeout(d time.Duration) { c.timeout = d }

// Version returns the highest version of the request with this API key that the broker takes, or -1 if it does not know
// the request.
func (c *Conn) Version(key int16) int16 {
	if v, ok := c.versions[key]; ok {
		return v
	}
	return -1
}

// The versions of Fetch that callers choose from.
const (
	FetchByName = 11 // Names topics by name.
	FetchByID   = 13 // The first version that names topics by id.
)

// FetchVersion returns the version of Fetch to use with the broker: by topic id if the broker can, else by name.
func (c *Conn) FetchVersion() int16 {
	if v := c.Version(kmsg.Fetch.Int16()); v < FetchByID {
		return min(v, FetchByName)
	}
	return FetchByID
}

// versionsMin are the versions without which nothing here works. Every broker since Kafka 0.11 has them.
var versionsMin = []struct {
	key kmsg.Key
	min int16
}{{kmsg.Fetch, 4}, {kmsg.ListOffsets, 2}, {kmsg.Metadata, 4}}

// negotiate asks for the versions that the broker takes, and refuses a broker that is too old.
func (c *Conn) negotiate() error {
	req := kmsg.NewApiVersionsRequest()
	var resp kmsg.ApiVersionsResponse
	if _, err := c.Request(&req, &resp, 0); err != nil {
		return err
	}
	if resp.ErrorCode != 0 {
		return Code(resp.ErrorCode)
	}
	c.versions = make(map[int16]int16, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		c.versions[k.ApiKey] = k.MaxVersion
	}
	for _, need := range versionsMin {
		if v := c.Version(need.key.Int16()); v < need.min {
			return fmt.Errorf("the broker is too old: it takes %s up to version %d, and wsd needs %d (Kafka 0.11)",
				need.key.Name(), v, need.min)
		}
	}
	return nil
}

// allow gives the next request the timeout plus the time that the broker may wait. The deadline may be up to a quarter
// of the timeout later than that: moving a deadline is expensive next to a small fetch, so one deadline serves many
// requests.
func (c *Conn) allow(wait time.Duration) error {
	if c.timeout == 0 {
		return nil
	}
	c.progressed = 0
	until := time.Now().Add(c.timeout + wait)
	if more := c.deadline.Sub(until); more >= 0 && more <= c.timeout/4 {
		return nil
	}
	c.deadline = until.Add(c.timeout / 4)
	return c.stream.SetDeadline(c.deadline)
}

// progressBytes is how many bytes count as progress. Without a minimum, a byte at a time would keep a connection busy
// for ever.
const progressBytes = 4 << 10

// progress moves the deadline when enough bytes have come or gone. So a large response over a slow link takes as long
// as it takes, and only one that stops times out.
func (c *Conn) progress(bytes int) error {
	if c.progressed += bytes; c.progressed < progressBytes || c.timeout == 0 {
		return nil
	}
	c.progressed = 0
	until := time.Now().Add(c.timeout)
	if c.deadline.After(until) {
		return nil
	}
	c.deadline = until.Add(c.timeout / 4)
	return c.stream.SetDeadline(c.deadline)
}

var (
	errResponseSize = errors.New("the response has an impossible size (is this a Kafka port?)")
	errExpectsTLS   = errors.New("the broker sent a TLS alert: it expects TLS on this port (kafka.tls.enabled)")
)

// Request sends a request in the version set in it and decodes the response into resp. Wait is how long the broker may
// take before it responds. The slices in resp point into c's buffer and are valid until the next Request. Size is the
// response's size in bytes. After an error the connection is of no further use. The error is an *EndError if the
// broker ended the connection without a fault. If the broker has asked for a pause, Request waits for its end first,
// see Throttled. If the login is about to expire, Request logs in again first (KIP-368).
func (c *Conn) Request(req kmsg.Request, resp kmsg.Response, wait time.Duration) (size int, err error) {
	if err := c.awaitThrottle(); err != nil {
		return 0, err
	}
	if c.session.due() {
		if err := c.renewSession(); err != nil {
			return 0, err
		}
	}
	if err := c.allow(wait); err != nil {
		return 0, err
	}
	c.correlation++
	c.request = c.formatter.AppendRequest(c.request[:0], req, c.correlation)
	if _, err := c.stream.Write(c.request); err != nil {
		return 0, c.ended(err)
	}
	body, err := c.readResponse()
	if err != nil {
		return 0, err
	}
	c.served++
	resp.SetVersion(req.GetVersion())
	if err := decode(resp, body, c.correlation); err != nil {
		return len(body), err
	}
	c.noteThrottle(resp)
	return len(body), nil
}

// readResponse reads a response into c.response.
func (c *Conn) readResponse() ([]byte, error) {
	head, err := c.reader.Peek(4)
	if len(head) == 0 && err != nil {
		return nil, c.ended(err)
	} else if err != nil {
		return nil, err
	}
	if head[0] == 0x15 && head[1] == 3 { // A TLS alert of version 3.x. As a size it would be at least 336 MiB.
		return nil, errExpectsTLS
	}
	size := int(int32At(head, 0))
	if size < 5 || size > c.responseMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errResponseSize, size, c.responseMax)
	}
	_, _ = c.reader.Discard(len(head)) // Peek has them.
	if cap(c.response) < size || (cap(c.response) > c.responseKept && size <= c.responseKept) {
		c.response = make([]byte, size+size/4)
	}
	body := c.response[:size]
	if _, err := io.ReadFull(c.reader, body); err != nil {
		return nil, err
	}
	return body, nil
}

// decode decodes a response without its size. The slices in resp point into b.
func decode(resp kmsg.Response, b []byte, correlation int32) error {
	if len(b) < 4 {
		return io.ErrUnexpectedEOF
	}
	if id := int32At(b, 0); id != correlation {
		return fmt.Errorf("the broker answered request %d, not %d", id, correlation)
	}
	b = b[4:]
	if resp.IsFlexible() {
		var err error
		if b, err = skipTags(b); err != nil {
			return err
		}
	}
	return resp.ReadFrom(b)
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
