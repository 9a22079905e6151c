package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"
)

const (
	headerBytesMax = 64 << 10 // Bytes of a response's header.
	idleTimeout    = 90 * time.Second
	// retryPause is the time before a request is sent once more, and up to twice that at random.
	retryPause = 25 * time.Millisecond
	// answerRoom is how much room the first read of an answer has.
	answerRoom = 4 << 10
	// refusedBytesMax is how much is read of what follows a status other than 200, so that the connection can be used
	// again.
	refusedBytesMax = 4 << 10
)

// dialError is for a connection that could not be made: nothing of a request was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func newClient(o *Options) *http.Client {
	// net/http goes on making a connection when its call has ended, so that others can use it, for as long as that
	// takes. With a backend that neither accepts nor refuses connections there would be more and more of them. The call
	// itself has taken too long before its connection has.
	limit := func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 2*o.Timeout)
	}
	connectionsMax := o.Concurrency * int(kindCount)
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, &dialError{err}
		}
		return conn, nil
	}
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := limit(ctx)
			defer cancel()
			return dial(ctx, network, address)
		},
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := limit(ctx)
			defer cancel()
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			config := &tls.Config{MinVersion: tls.VersionTLS12}
			if o.TLS != nil {
				config = o.TLS().Clone()
			}
			config.ServerName, _, _ = net.SplitHostPort(address) // The transport has put them together.
			secured := tls.Client(conn, config)
			if err := secured.HandshakeContext(ctx); err != nil {
				return nil, &dialError{errors.Join(err, conn.Close())}
			}
			return secured, nil
		},
		MaxConnsPerHost: connectionsMax, MaxIdleConnsPerHost: connectionsMax, MaxIdleConns: connectionsMax,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerBytesMax,
		DisableCompression:     true, // An answer is bounded by what is received.
	}
	return &http.Client{
		Transport: transport,
		// A call goes where it is configured to go, with headers that are meant for that.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// make makes a call, a second time where that is safe.
func (p *Pool) make(c *call) (*Answer, *Failure) {
	text, err := c.r.encode(p.o.Binary)
	if err != nil {
		return nil, &Failure{Result: ResultBadData}
	}
	a, f, safe := p.try(c, text)
	if f == nil || !safe || c.ctx.Err() != nil {
		return a, f
	}
	select {
	case <-time.After(retryPause + rand.N(retryPause)): //nolint:gosec // It only spreads requests.
	case <-c.ctx.Done():
		return nil, f
	}
	p.stats.Retries[c.r.Kind].Add(1)
	a, f, _ = p.try(c, text)
	return a, f
}

// try sends a request and reads the answer. safe reports whether a request that failed may be sent again: nothing of it
// was sent, or it is a question whose connection has ended.
func (p *Pool) try(c *call, text []byte) (a *Answer, f *Failure, safe bool) {
	request, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.target.URL, bytes.NewReader(text))
	if err != nil {
		return nil, &Failure{Result: ResultUnreachable, Cause: "not an address"}, false
	}
	request.Header = p.header(c.r)
	response, err := p.client.Do(request)
	if err != nil {
		f, safe = failed(c, err)
		return nil, f, safe
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		if n := response.ContentLength; n > 0 && n <= refusedBytesMax {
			_, _ = io.CopyN(io.Discard, response.Body, n)
		}
		return nil, &Failure{Result: ResultStatus, Cause: fmt.Sprintf("status %d", response.StatusCode)}, false
	}
	body, f := p.read(c, response)
	if f != nil {
		return nil, f, f.Result == ResultBroken && c.r.Kind.isQuestion()
	}
	if a, err = Decode(c.r.Kind, body, p.o.JSONDepthMax, time.Now()); err == nil && !c.r.Binary {
		err = a.makeJSON(p.o.JSONDepthMax)
	}
	if err != nil {
		return nil, &Failure{Result: ResultMalformed, Cause: err.Error()}, false
	}
	return a, nil, false
}

// header returns the header fields of a request. Those of the client replace static ones of the same name.
func (p *Pool) header(r *Request) http.Header {
	h := make(http.Header, len(p.o.Static)+len(r.Header)+1)
	for _, f := range p.o.Static {
		h.Set(f[0], f[1])
	}
	for _, f := range r.Header {
		h.Del(f[0])
	}
	for _, f := range r.Header {
		h.Add(f[0], f[1])
	}
	h.Set("Content-Type", "application/json")
	return h
}

// failed returns why a request has no response, and whether it may be sent again.
func failed(c *call, err error) (f *Failure, safe bool) {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // Its text has the address with its query.
	}
	if c.ctx.Err() != nil {
		return whyOver(c.ctx), false
	}
	if e, ok := errors.AsType[*dialError](err); ok {
		return &Failure{Result: ResultUnreachable, Cause: shorten(e.Error(), causeBytesMax)}, true
	}
	return &Failure{Result: ResultBroken, Cause: withoutValues(err)}, c.r.Kind.isQuestion()
}

// withoutValues returns the text of an error without what the backend has sent, in which it may repeat what a client
// has. net/http quotes that, but for lines of a header.
func withoutValues(err error) string {
	if _, ok := errors.AsType[textproto.ProtocolError](err); ok {
		return "malformed header"
	}
	text, _, _ := strings.Cut(err.Error(), `"`)
	return shorten(strings.TrimRight(text, " :"), causeBytesMax)
}

// causeBytesMax bounds the text of an error in bytes.
const causeBytesMax = 200

// read reads an answer. Its bytes count while the call is under way.
func (p *Pool) read(c *call, response *http.Response) ([]byte, *Failure) {
	most := p.o.AnswerBytesMax
	tooLarge := &Failure{Result: ResultTooLarge,
		Cause: fmt.Sprintf("more than %d bytes (proxy.answer_bytes_max)", most)}
	if response.ContentLength > int64(most) {
		return nil, tooLarge
	}
	var text []byte
	for {
		if len(text) == cap(text) {
			// One byte more than allowed tells an answer that is too large.
			room := min(max(2*cap(text), answerRoom), most+1)
			if room == cap(text) {
				return nil, tooLarge
			}
			more := int64(room - cap(text))
			if !p.addBytes(c, more) {
				return nil, tooManyBytes()
			}
			grown := make([]byte, len(text), room)
			copy(grown, text)
			text = grown
		}
		n, err := response.Body.Read(text[len(text):cap(text)])
		text = text[:len(text)+n]
		switch {
		case len(text) > most:
			return nil, tooLarge
		case err == io.EOF:
			return text, nil
		case err != nil && c.ctx.Err() != nil:
			return nil, whyOver(c.ctx)
		case err != nil:
			return nil, &Failure{Result: ResultBroken, Cause: withoutValues(err)}
		}
	}
}
