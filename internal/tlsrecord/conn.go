package tlsrecord

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"math/rand/v2"
)

// Sizes in bytes.
const (
	HeaderLen   = 5                              // Of a record's header.
	ContentMax  = 16 << 10                       // Of the content of a record.
	RecordMax   = HeaderLen + ContentMax + 2<<10 // Of a record that a peer may send (RFC 5246 §6.2.3).
	OverheadMax = HeaderLen + 8 + 16             // Of what Seal adds to the content of one record.
	// SealMax is what one call of Seal appends at most: a KeyUpdate and a record.
	SealMax = 2*OverheadMax + keyUpdateLen + ContentMax
)

// Types of records.
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeData             = 23
)

// Messages of the handshake protocol.
const (
	messageClientHello = 1
	messageKeyUpdate   = 24
	keyUpdateLen       = 5
)

// Conn is the record layer of one connection, on the server's side. It is kept small, as idle connections have one:
// TestSize.
type Conn struct {
	suite   *suite
	in, out half

	failure   error  // What every further Open returns.
	limit     uint32 // Records that a key protects, see recordsMax; 0: any number.
	opened    uint32 // See Opened.
	said      bool
	updateDue bool
	useless   uint8 // Records without content since the last one with some.
	aad       [13]byte
}

// New returns a Conn that goes on from a state. It takes over the slices of s.
func New(s State) (*Conn, error) {
	suite, err := lookup(s.Version, s.Suite)
	if err != nil {
		return nil, err
	}
	c := &Conn{suite: suite, said: s.Said, updateDue: s.UpdateDue}
	switch {
	case !suite.limited:
	case s.Limit > 0:
		c.limit = s.Limit
	default:
		c.limit = recordsMax - rand.Uint32N(recordsSpread) //nolint:gosec // It only spreads ends.
	}
	if s.Ended {
		c.failure = ErrEnded
	}
	if (s.Version == tls.VersionTLS13) != (s.In.IV == nil) || (s.In.IV == nil) != (s.Out.IV == nil) {
		return nil, errSecret
	}
	if err := c.in.set(suite, s.In); err != nil {
		return nil, err
	}
	if err := c.out.set(suite, s.Out); err != nil {
		return nil, err
	}
	return c, nil
}

// Ended reports whether we have sent an alert, after which nothing may be sealed.
func (c *Conn) Ended() bool { return c.said }

// State returns a copy of the state. A connection that has failed has none that could go on.
func (c *Conn) State() State {
	return State{Version: c.suite.version, Suite: c.suite.id, Ended: errors.Is(c.failure, ErrEnded), Said: c.said,
		UpdateDue: c.updateDue, Limit: c.limit, In: c.in.state(c.suite), Out: c.out.state(c.suite)}
}

// Rest frees the memory of the ciphers, about 1.5 KB with AES-GCM, which is most of what a Conn takes. They are made
// again when they are needed, in a third of a microsecond each (BenchmarkRest).
func (c *Conn) Rest() { c.in.aead, c.out.aead = nil, nil }

// Worn reports whether the keys have protected as many records as they should and cannot be replaced, since TLS 1.2 has
// no KeyUpdate: the connection is to end soon. It may go on sealing and opening until then.
func (c *Conn) Worn() bool {
	return c.limit != 0 && c.suite.version == tls.VersionTLS12 && max(c.in.number, c.out.number) >= uint64(c.limit)
}

// prefix returns the number of bytes before the content of a record.
func (c *Conn) prefix() int { return HeaderLen + c.suite.explicit }

// nonce returns the nonce of the next record. It is made in place, as one on the stack would be allocated each time:
// restore undoes it.
func (h *half) nonce(s *suite) []byte {
	if s.explicit > 0 {
		binary.BigEndian.PutUint64(h.iv[ivSize-8:], h.number)
		return h.iv[:]
	}
	h.restore(s)
	return h.iv[:]
}

// restore takes the number out of the nonce again.
func (h *half) restore(s *suite) {
	if s.explicit == 0 {
		binary.BigEndian.PutUint64(h.iv[ivSize-8:], binary.BigEndian.Uint64(h.iv[ivSize-8:])^h.number)
	}
}

// additional returns the additional data of a record of TLS 1.2 (RFC 5246 §6.2.3.3).
func (c *Conn) additional(number uint64, typ byte, contentLen int) []byte {
	binary.BigEndian.PutUint64(c.aad[:], number)
	c.aad[8], c.aad[9], c.aad[10] = typ, 3, 3
	binary.BigEndian.PutUint16(c.aad[11:], uint16(contentLen)) //nolint:gosec // At most ContentMax.
	return c.aad[:]
}
