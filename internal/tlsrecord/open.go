package tlsrecord

import (
	"crypto/tls"
)

const (
	// uselessMax is how many records without content may come in a row, as in crypto/tls.
	uselessMax = 16
	// updatesMax is how many KeyUpdates one Open follows. Each costs as much as some dozens of records.
	updatesMax = 16
	// updateCost is as how many records a KeyUpdate counts for Opened.
	updateCost = 32
)

// Opened returns how much work the last call of Open did: the records that it opened, however short they were. A
// KeyUpdate counts as the 32 records that take as long.
func (c *Conn) Opened() int { return int(c.opened) }

// Open opens the complete records at the start of b, where they are, and returns their content, which is at the start
// of b, and the incomplete record behind them. With an error, plain is what came before, and all later calls return the
// error again. The error is ErrEnded, a *PeerAlert or a *Violation.
func (c *Conn) Open(b []byte) (plain, rest []byte, err error) {
	n, used, updates := 0, 0, 0
	c.opened = 0
	for c.failure == nil {
		record := b[used:]
		length, err := c.recordLen(record)
		if err != nil {
			c.failure = err
			break
		}
		if length == 0 {
			break
		}
		content, typ, err := c.open(record[:length])
		c.opened++
		if err == nil && typ == typeHandshake {
			c.opened += updateCost - 1
			if updates++; updates > updatesMax {
				err = violation(AlertUnexpectedMessage, "too many KeyUpdates")
			}
		}
		if err == nil {
			err = c.take(typ, content)
		}
		if err != nil {
			c.failure = err
			break
		}
		used += length
		if typ == typeData {
			n += copy(b[n:], content)
		}
	}
	if c.failure != nil {
		return b[:n], nil, c.failure
	}
	return b[:n], b[used:], nil
}

// recordLen returns the length of the record that b begins with, or 0 if it is not complete.
func (c *Conn) recordLen(b []byte) (int, error) {
	if len(b) > 0 {
		if b[0] < typeChangeCipherSpec || b[0] > typeData {
			return 0, violation(AlertUnexpectedMessage, "not a TLS record")
		}
	}
	if len(b) < HeaderLen {
		return 0, nil
	}
	if b[1] != 3 || b[2] != 3 {
		return 0, violation(AlertProtocolVersion, "a TLS record of another version")
	}
	n := int(b[3])<<8 + int(b[4])
	most := RecordMax - HeaderLen
	if c.suite.version == tls.VersionTLS13 {
		most = ContentMax + 256 // RFC 8446 §5.2.
	}
	if n > most {
		return 0, violation(AlertRecordOverflow, "a TLS record that is too long")
	}
	if n += HeaderLen; n > len(b) {
		return 0, nil
	}
	return n, nil
}

// open opens one record in place.
func (c *Conn) open(record []byte) (content []byte, typ byte, err error) {
	typ = record[0]
	h, explicit := &c.in, c.suite.explicit
	aead, sealed := h.cipher(c.suite), record[HeaderLen:]
	if c.suite.version == tls.VersionTLS13 && typ != typeData {
		return nil, 0, violation(AlertUnexpectedMessage, "a TLS record that is not encrypted")
	}
	if len(sealed) < explicit+aead.Overhead() {
		return nil, 0, violation(AlertBadRecordMAC, "a TLS record that is too short")
	}
	additional := record[:HeaderLen]
	if c.suite.version == tls.VersionTLS12 {
		additional = c.additional(h.number, typ, len(sealed)-explicit-aead.Overhead())
	}
	nonce := h.nonce(c.suite)
	if explicit > 0 {
		copy(nonce[ivSize-8:], sealed) // The client may choose it, and only its own secrecy depends on it.
		sealed = sealed[explicit:]
	}
	content, err = aead.Open(sealed[:0], nonce, sealed, additional)
	h.restore(c.suite)
	if err != nil {
		return nil, 0, violation(AlertBadRecordMAC, "a TLS record that was changed on its way")
	}
	h.number++
	if c.suite.version == tls.VersionTLS13 {
		if len(content) > ContentMax+1 {
			return nil, 0, violation(AlertRecordOverflow, "a TLS record with too much content")
		}
		end := len(content) - 1
		for end >= 0 && content[end] == 0 { // Padding.
			end--
		}
		if end < 0 {
			return nil, 0, violation(AlertUnexpectedMessage, "a TLS record without a type")
		}
		content, typ = content[:end], content[end]
	}
	if len(content) > ContentMax {
		return nil, 0, violation(AlertRecordOverflow, "a TLS record with too much content")
	}
	return content, typ, nil
}

// take acts on the content of a record.
func (c *Conn) take(typ byte, content []byte) error {
	if typ == typeData && len(content) > 0 {
		c.useless = 0
		return nil
	}
	if c.useless++; c.useless > uselessMax {
		return violation(AlertUnexpectedMessage, "too many TLS records without content")
	}
	switch {
	case typ == typeData:
		return nil
	case typ == typeAlert && len(content) == 2:
		return c.takeAlert(content[0], Alert(content[1]))
	case typ == typeHandshake && len(content) > 0:
		return c.takeHandshake(content)
	default:
		return violation(AlertUnexpectedMessage, "a TLS record that has no place here")
	}
}

func (c *Conn) takeAlert(level byte, a Alert) error {
	switch {
	case a == AlertCloseNotify:
		return ErrEnded
	case a == AlertUserCanceled, c.suite.version == tls.VersionTLS12 && level == levelWarning:
		return nil
	default: // In TLS 1.3 the level means nothing.
		return &PeerAlert{a}
	}
}

// takeHandshake acts on a handshake message. A KeyUpdate must be the last message in its record, as the next record has
// another key (RFC 8446 §5.1); no known client sends it in pieces.
func (c *Conn) takeHandshake(content []byte) error {
	switch {
	case c.suite.version == tls.VersionTLS12 && content[0] == messageClientHello:
		return violation(AlertNoRenegotiation, "renegotiation is not supported")
	case c.suite.version == tls.VersionTLS12 || content[0] != messageKeyUpdate:
		return violation(AlertUnexpectedMessage, "a handshake message that has no place here")
	case len(content) != keyUpdateLen || content[1] != 0 || content[2] != 0 || content[3] != 1:
		return violation(AlertDecodeError, "a malformed KeyUpdate")
	case content[4] > 1:
		return violation(AlertIllegalParameter, "a KeyUpdate with an unknown request")
	}
	c.updateDue = c.updateDue || content[4] == 1
	return c.in.update(c.suite)
}
