package client

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"
	"github.com/stretchr/testify/assert"

	"wsd/internal/proto"
)

// server is a WebSocket server that does to each client what a script says, and then waits for the client to go.
type server struct {
	t              *testing.T
	addr           netip.AddrPort
	http           *httptest.Server
	format         *Format
	protocol       Protocol
	script         func(p *peer)
	refuse         func(w http.ResponseWriter) bool // Whether it has answered; nil: no client is refused.
	subscribeReply string                           // Instead of the usual one.
	commands       atomic.Pointer[string]           // The first message of the last client.
	header         atomic.Pointer[http.Header]      // Of the last upgrade request.
	tls            bool
	errors         io.Writer // What the HTTP server says; nil: nobody hears it.
	running        sync.WaitGroup

	mu   sync.Mutex
	from map[string]bool // Addresses of clients.
}

func newServer(t *testing.T, protocol Protocol, size int, script func(p *peer), changes ...func(*server)) *server {
	t.Helper()
	s := &server{t: t, format: mustFormat(t, 0x1234, size), protocol: protocol, script: script, from: map[string]bool{}}
	for _, change := range changes {
		change(s)
	}
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	// It says nothing to those that reset, or fail, before they have sent their request.
	s.http.Config.ErrorLog = log.New(cmp.Or(s.errors, io.Discard), "", 0)
	if s.tls {
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	s.addr = netip.MustParseAddrPort(s.http.Listener.Addr().String())
	t.Cleanup(func() {
		s.http.Close()
		s.running.Wait()
	})
	return s
}

func (s *server) sources() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.from))
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	if s.refuse != nil && s.refuse(w) {
		return
	}
	if s.protocol == Raw {
		assert.Equal(s.t, "/ws?channel=loadtest", r.RequestURI)
	} else {
		assert.Equal(s.t, "/connection/websocket", r.RequestURI)
	}
	s.running.Add(1)
	defer s.running.Done()
	s.header.Store(&r.Header)
	conn, rw, _, err := ws.UpgradeHTTP(r, w)
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		return // A client may leave at any time, also before it has its response.
	}
	if !assert.NoError(s.t, err) {
		return
	}
	defer func() { _ = conn.Close() }()
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	s.mu.Lock()
	s.from[host] = true
	s.mu.Unlock()
	p := &peer{s: s, conn: conn, in: rw.Reader}
	if s.protocol != Raw && !p.subscribe() {
		return
	}
	if s.script != nil {
		s.script(p)
	}
	for !p.gone {
		p.message() // Until the client has gone.
	}
}

// peer is the server's end of one connection.
type peer struct {
	s    *server
	conn net.Conn
	in   *bufio.Reader
	gone bool
}

// message returns the next text message, or "" when the client has gone. A close frame is answered.
func (p *peer) message() string {
	for {
		frame, err := ws.ReadFrame(p.in)
		if err != nil {
			p.gone = true
			return ""
		}
		assert.True(p.s.t, frame.Header.Masked && frame.Header.Fin)
		frame = ws.UnmaskFrameInPlace(frame)
		switch frame.Header.OpCode {
		case ws.OpText, ws.OpBinary:
			return string(frame.Payload)
		case ws.OpClose:
			p.frame(ws.NewCloseFrame(frame.Payload))
			p.gone = true
			return ""
		default:
			assert.Fail(p.s.t, "unexpected frame", "opcode %d", frame.Header.OpCode)
		}
	}
}

// subscribe answers the commands and reports whether the client goes on.
func (p *peer) subscribe() bool {
	commands := p.message()
	if p.gone {
		return false
	}
	p.s.commands.Store(&commands)
	p.reply(`{"id":1,"connect":{"client":"x","version":"0","ping":25,"pong":true}}`)
	reply := `{"id":2,"subscribe":{}}`
	if p.s.subscribeReply != "" {
		reply = p.s.subscribeReply
	}
	if strings.TrimSpace(reply) != "" {
		p.reply(reply)
	}
	return true
}

// reply sends a reply, which is given as JSON.
func (p *peer) reply(text string) {
	if p.s.protocol == Protobuf {
		var r protocol.Reply
		assert.NoError(p.s.t, json.Unmarshal([]byte(text), &r))
		b, err := proto.AppendReplyProtobuf(nil, &r)
		assert.NoError(p.s.t, err)
		text = string(b)
	}
	p.text(text)
}

// write writes bytes. That the client has gone shows when its next message is read.
func (p *peer) write(b []byte) { _, _ = p.conn.Write(b) }

func (p *peer) frame(f ws.Frame) {
	b, err := ws.CompileFrame(f)
	assert.NoError(p.s.t, err)
	p.write(b)
}

// textFrame is a text frame, with Protobuf a binary one.
func (p *peer) textFrame(s string) ws.Frame {
	if p.s.protocol == Protobuf {
		return ws.NewBinaryFrame([]byte(s))
	}
	return ws.NewTextFrame([]byte(s))
}

func (p *peer) text(s string) { p.frame(p.textFrame(s)) }

// envelope is a record as the message that carries it.
func (p *peer) envelope(seq uint64) string {
	return p.wrap(string(p.s.format.Append(nil, seq, testTime)))
}

func (p *peer) wrap(value string) string {
	switch p.s.protocol {
	case Raw:
		return value
	case Protobuf:
		return string(proto.AppendPublicationProtobuf(nil, "loadtest", []byte(value), 7))
	case JSON:
	}
	return `{"push":{"channel":"loadtest","pub":{"data":` + value + `,"offset":7}}}`
}

func (p *peer) records(seqs ...uint64) {
	for _, seq := range seqs {
		p.text(p.envelope(seq))
	}
}

// joined sends the frames of records in one write.
func (p *peer) joined(seqs ...uint64) {
	var b []byte
	for _, seq := range seqs {
		b = append(b, ws.MustCompileFrame(p.textFrame(p.envelope(seq)))...)
	}
	p.write(b)
}

// fragmented sends a record in three frames.
func (p *peer) fragmented(seq uint64) {
	b := []byte(p.envelope(seq))
	p.frame(ws.NewFrame(p.textFrame("").Header.OpCode, false, b[:10]))
	p.frame(ws.NewFrame(ws.OpContinuation, false, b[10:11]))
	p.frame(ws.NewFrame(ws.OpContinuation, true, b[11:]))
}

// trickle sends a record in writes of one byte.
func (p *peer) trickle(seq uint64) {
	for _, c := range ws.MustCompileFrame(p.textFrame(p.envelope(seq))) {
		p.write([]byte{c})
	}
}

// ping sends a ping and checks the pong.
func (p *peer) ping(payload string) {
	p.frame(ws.NewPingFrame([]byte(payload)))
	frame, err := ws.ReadFrame(p.in)
	if assert.NoError(p.s.t, err) {
		frame = ws.UnmaskFrameInPlace(frame)
		assert.Equal(p.s.t, ws.OpPong, frame.Header.OpCode)
		assert.Equal(p.s.t, payload, string(frame.Payload))
	}
}

func (p *peer) foreign(seq uint64) {
	f := mustFormat(p.s.t, 0x9999, SizeMin)
	p.text(p.wrap(string(f.Append(nil, seq, testTime))))
}

// corrupt sends a record with one byte more.
func (p *peer) corrupt(seq uint64) {
	value := string(p.s.format.Append(nil, seq, testTime))
	p.text(p.wrap(strings.Replace(value, "...", "....", 1)))
}

// close sends a close frame and waits for the client to go.
func (p *peer) close(code ws.StatusCode, reason string) {
	p.frame(ws.NewCloseFrame(ws.NewCloseFrameBody(code, reason)))
	_ = p.message()
}

// cut ends the connection without a close frame.
func (p *peer) cut() {
	_ = p.conn.Close()
	p.gone = true
}
