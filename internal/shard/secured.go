package shard

import (
	"bytes"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/tlshandshake"
	"wsd/internal/tlsrecord"
)

// secured is the TLS of a shard's connections, behind their transports. It belongs to the shard's goroutine.
//
// Bytes are sealed as late as possible: into one buffer of the shard's, right before they are written. A record that
// was sealed must be sent, so what the kernel does not take of it is kept, and nothing more is accepted until that has
// gone.
type secured struct {
	stats  *Stats
	blocks []*secureBlock // By the slots' blocks, as far as any had TLS; nil: none of the block has.
	bytes  int64          // What all connections keep.
	out    []byte         // For sealing.
	opened int            // Records since takeOpened, see tlsrecord.Conn.Opened.

	awake    []*secureConn // Those that have ciphers, see resting.go.
	restAt   uint32        // Tick at which they are looked through next; 0: none has any.
	restNext int           // How many of them are still to be looked at.
	worn     []uint32      // Slots of connections that end because their keys are worn.
}

// takeOpened returns how many records were opened since its last call.
func (x *secured) takeOpened() (n int) {
	n, x.opened = x.opened, 0
	return n
}

// secureBlock is the TLS of a block of slots.
type secureBlock struct {
	conns [blockSlots]*secureConn
	used  int
}

// secureConn is the TLS of one connection.
type secureConn struct {
	records   *tlsrecord.Conn         // Nil until the handshake is over.
	handshake *tlshandshake.Handshake // Nil when it is over.
	err       error                   // How the client's input has ended.

	partial []byte // A record that is not complete; just after the handshake, all that came behind it.
	unsent  []byte // What was sealed, or written by the handshake, and the kernel did not take.

	computing bool // The handshake is at a step: nothing is read for it.
	paused    bool // The socket is not watched meanwhile.
	fresh     bool // partial may have complete records.
	gone      bool // The connection has ended.
	worn      bool // It is in secured.worn, or was.
	warmth    warmth
}

// handshakeBytes is what a handshake takes beside that, as measured: its goroutine's stack, crypto/tls and what it has
// read and written.
const handshakeBytes = 26 << 10

// keeps returns how many bytes sc keeps.
func (sc *secureConn) keeps() int64 {
	n := int64(len(sc.partial) + len(sc.unsent))
	if sc.handshake != nil {
		n += handshakeBytes
	}
	return n
}

// setHandshake notes the handshake of sc that is under way; nil: it is over.
func (x *secured) setHandshake(sc *secureConn, h *tlshandshake.Handshake) {
	x.bytes -= sc.keeps()
	sc.handshake = h
	x.bytes += sc.keeps()
}

// of returns the TLS of a connection that has it.
func (x *secured) of(t *transport) *secureConn {
	return x.blocks[t.slot>>blockBits].conns[t.slot&(blockSlots-1)]
}

// add makes a connection's transport a secure one.
func (x *secured) add(t *transport) *secureConn {
	block := t.slot >> blockBits
	for uint32(len(x.blocks)) <= block {
		x.blocks = append(x.blocks, nil)
	}
	if x.blocks[block] == nil {
		x.blocks[block] = new(secureBlock)
	}
	sc, b := new(secureConn), x.blocks[block]
	b.conns[t.slot&(blockSlots-1)], t.secure = sc, true
	b.used++
	return sc
}

// forget drops the TLS of a connection, whose handshake is abandoned.
func (x *secured) forget(t *transport) {
	if !t.secure {
		return
	}
	sc := x.of(t)
	x.bytes -= sc.keeps()
	sc.gone = true
	block := t.slot >> blockBits
	b := x.blocks[block]
	b.conns[t.slot&(blockSlots-1)], t.secure = nil, false
	if b.used--; b.used == 0 {
		x.blocks[block] = nil
	}
}

// abandon ends the handshake of a connection, if one is under way.
func (x *secured) abandon(t *transport) {
	if !t.secure {
		return
	}
	if sc := x.of(t); sc.handshake != nil {
		sc.handshake.Abandon()
		x.setHandshake(sc, nil)
	}
}

// holds reports whether bytes wait below the outbox.
func (x *secured) holds(t *transport) bool { return t.secure && len(x.of(t).unsent) > 0 }

// memory returns what a connection keeps.
func (x *secured) memory(t *transport) int64 {
	if !t.secure {
		return 0
	}
	return x.of(t).keeps()
}

func (x *secured) keepUnsent(sc *secureConn, b []byte) {
	x.bytes += int64(len(b) - len(sc.unsent))
	sc.unsent = b
}

func (x *secured) keepPartial(sc *secureConn, b []byte) {
	x.bytes += int64(len(b) - len(sc.partial))
	if len(b) == 0 {
		sc.partial = nil
		return
	}
	sc.partial = bytes.Clone(b)
}

// read is transport.read.
func (x *secured) read(t *transport, b []byte) (n int, err error) {
	sc := x.of(t)
	if sc.records == nil {
		return epoll.Read(int(t.fd), b)
	}
	if sc.err != nil {
		return 0, x.inputEnd(t, sc)
	}
	kept := copy(b, sc.partial)
	n, err = epoll.Read(int(t.fd), b[kept:])
	if err != nil && (err != unix.EAGAIN || !sc.fresh) {
		return 0, err
	}
	if n == 0 && err == nil {
		x.stats.TLSTruncated.Add(1)
		return 0, nil
	}
	sc.fresh = false
	plain, rest, end := x.using(sc).Open(b[:kept+n])
	x.opened += sc.records.Opened()
	x.keepPartial(sc, rest)
	sc.err = end
	x.noteWorn(t, sc)
	if err := x.sendDue(t, sc); err != nil {
		return 0, err
	}
	switch {
	case len(plain) > 0:
		return len(plain), nil // What is wrong comes with the next call.
	case end != nil:
		return 0, x.inputEnd(t, sc)
	default:
		return 0, unix.EAGAIN
	}
}

// inputEnd returns what transport.read says of an end, after the alert that is due.
func (x *secured) inputEnd(t *transport, sc *secureConn) error {
	switch err := sc.err.(type) {
	case *tlsrecord.Violation:
		x.say(t, err.Alert)
		return unix.EPROTO
	case *tlsrecord.PeerAlert:
		return unix.EPROTO
	default: // tlsrecord.ErrEnded
		return nil
	}
}

// ended reports whether the client's input has ended, which the next read says.
func (x *secured) ended(t *transport) bool { return t.secure && x.of(t).err != nil }

// write is transport.write.
func (x *secured) write(t *transport, b []byte) (taken int, err error) {
	for taken < len(b) {
		part := b[taken:min(len(b), taken+tlsrecord.ContentMax)]
		sc, err := x.ready(t)
		if err == nil {
			x.out = x.using(sc).Seal(x.out[:0], part)
			x.noteWorn(t, sc)
			err = x.send(t, sc, x.out)
		}
		switch {
		case err == unix.EAGAIN && taken > 0:
			return taken, nil
		case err != nil:
			return taken, err
		}
		taken += len(part)
	}
	return taken, nil
}

// writeParts is transport.writev. The parts have at most tlsrecord.ContentMax bytes together.
func (x *secured) writeParts(t *transport, parts [][]byte) (taken int, err error) {
	sc, err := x.ready(t)
	if err != nil {
		return 0, err
	}
	x.out = x.using(sc).SealParts(x.out[:0], parts)
	x.noteWorn(t, sc)
	if err := x.send(t, sc, x.out); err != nil {
		return 0, err
	}
	for _, part := range parts {
		taken += len(part)
	}
	return taken, nil
}

// ready returns the TLS of a connection that may seal, or EAGAIN.
func (x *secured) ready(t *transport) (*secureConn, error) {
	sc := x.of(t)
	if sc.records == nil || sc.records.Ended() {
		return nil, unix.EPIPE
	}
	return sc, x.drain(t)
}

// drain writes what is left of before. It returns EAGAIN if there is still something left.
func (x *secured) drain(t *transport) error {
	sc := x.of(t)
	if len(sc.unsent) == 0 {
		return nil
	}
	n, err := epoll.Write(int(t.fd), sc.unsent)
	if err != nil {
		return err
	}
	if n < len(sc.unsent) {
		x.keepUnsent(sc, sc.unsent[n:])
		return unix.EAGAIN
	}
	x.keepUnsent(sc, nil)
	if err := x.sendDue(t, sc); err != nil || len(sc.unsent) == 0 {
		return err
	}
	return unix.EAGAIN
}

// send writes b behind what is unsent, and keeps what the kernel does not take.
func (x *secured) send(t *transport, sc *secureConn, b []byte) error {
	if len(sc.unsent) > 0 {
		x.keepUnsent(sc, append(sc.unsent, b...))
		return nil
	}
	n, err := epoll.Write(int(t.fd), b)
	if err != nil && err != unix.EAGAIN {
		return err
	}
	if n < len(b) {
		x.keepUnsent(sc, bytes.Clone(b[n:]))
	}
	return nil
}

// sendDue answers a client that has asked for a KeyUpdate. While bytes wait that were sealed before, it is put off.
func (x *secured) sendDue(t *transport, sc *secureConn) error {
	if sc.records == nil || !sc.records.Due() || len(sc.unsent) > 0 {
		return nil
	}
	x.out = x.using(sc).SealDue(x.out[:0], false)
	return x.send(t, sc, x.out)
}

// say sends an alert, the last thing that is sent. It does nothing the second time, or during the handshake.
func (x *secured) say(t *transport, a tlsrecord.Alert) {
	if !t.secure {
		return
	}
	sc := x.of(t)
	if sc.records == nil {
		return
	}
	if x.out = x.using(sc).SealAlert(x.out[:0], a); len(x.out) > 0 {
		_ = x.send(t, sc, x.out) // An error means that the client is gone.
	}
}

// sealQueue writes up to bytesMax bytes of the queue, up to a deferred chunk, as one TLS record.
func (s *sender) sealQueue(o *outbox, t *transport, bytesMax int) (n int, err error) {
	left, offset := min(bytesMax, tlsrecord.ContentMax), o.offset
	for i := range o.chunks {
		if left == 0 || o.chunks[i].deferred {
			break
		}
		b := o.chunks[i].bytes[offset:]
		offset = 0
		b = b[:min(len(b), left)]
		left -= len(b)
		s.parts = append(s.parts, b)
	}
	n, err = s.secured.writeParts(t, s.parts)
	clear(s.parts) // Do not hold the chunks' memory.
	s.parts = s.parts[:0]
	return n, err
}
