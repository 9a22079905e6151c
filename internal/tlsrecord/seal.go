package tlsrecord

import (
	"crypto/tls"
	"encoding/binary"
	"slices"
)

// Seal appends content to dst as one record of application data, and before it whatever is due, such as a KeyUpdate:
// SealMax bytes at most. content has at least one and at most ContentMax bytes, and must not overlap dst. A record that
// was sealed must be sent, in order. Nothing may be sealed after an alert.
func (c *Conn) Seal(dst, content []byte) []byte {
	dst, start := c.begin(dst)
	return c.finish(append(dst, content...), start, typeData)
}

// SealParts is Seal with content in several parts, which are sent as one.
func (c *Conn) SealParts(dst []byte, parts [][]byte) []byte {
	dst, start := c.begin(dst)
	for _, part := range parts {
		dst = append(dst, part...)
	}
	return c.finish(dst, start, typeData)
}

// begin appends what is due and room for a record's header.
func (c *Conn) begin(dst []byte) (grown []byte, start int) {
	if c.said {
		panic("BUG: a TLS record after an alert")
	}
	if c.updateDue || c.limit != 0 && c.out.number >= uint64(c.limit) && c.suite.version == tls.VersionTLS13 {
		dst = c.SealDue(dst, true)
	}
	var header [HeaderLen + 8]byte
	return append(dst, header[:c.prefix()]...), len(dst)
}

// Due reports whether the client has asked for a KeyUpdate that waits to be sealed. Seal does that too, but there may
// be no content for long.
func (c *Conn) Due() bool { return c.updateDue && !c.said }

// SealDue appends a KeyUpdate if the client has asked for one or force is set, and changes our key (RFC 8446 §4.6.3).
// It appends at most SealMax bytes.
func (c *Conn) SealDue(dst []byte, force bool) []byte {
	if c.said || !c.updateDue && !force {
		return dst
	}
	c.updateDue = false
	return c.sealUpdate(dst, 0)
}

// sealUpdate appends a KeyUpdate, which asks for one in return or not, and changes our key.
func (c *Conn) sealUpdate(dst []byte, request byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0) // Only TLS 1.3 comes here, which has no explicit nonce.
	dst = append(dst, messageKeyUpdate, 0, 0, 1, request)
	dst = c.finish(dst, start, typeHandshake)     // With the old key.
	if err := c.out.update(c.suite); err != nil { // Its lengths are those of New.
		panic("BUG: next TLS traffic secret: " + err.Error())
	}
	return dst
}

// SealAlert appends an alert, after which nothing is sealed or asked for any more. It appends nothing if one was sent
// before.
func (c *Conn) SealAlert(dst []byte, a Alert) []byte {
	if c.said {
		return dst
	}
	start := len(dst)
	var header [HeaderLen + 8]byte
	dst = append(dst, header[:c.prefix()]...)
	dst = c.finish(append(dst, a.level(), byte(a)), start, typeAlert)
	c.said = true
	return dst
}

// finish seals the record that begins at start, whose content is complete.
func (c *Conn) finish(dst []byte, start int, typ byte) []byte {
	header, content := start, start+c.prefix()
	n := len(dst) - content
	if n > ContentMax {
		panic("BUG: a TLS record of more than 16 KiB")
	}
	h := &c.out
	aead := h.cipher(c.suite)
	dst = slices.Grow(dst, 1+aead.Overhead())
	nonce := h.nonce(c.suite)
	var additional []byte
	if c.suite.version == tls.VersionTLS13 {
		dst = append(dst, typ)
		typ = typeData
		n++
	} else {
		additional = c.additional(h.number, typ, n)
	}
	dst[header], dst[header+1], dst[header+2] = typ, 3, 3
	//nolint:gosec // At most RecordMax.
	binary.BigEndian.PutUint16(dst[header+3:], uint16(c.suite.explicit+n+aead.Overhead()))
	if c.suite.version == tls.VersionTLS13 {
		additional = dst[header : header+HeaderLen]
	} else if c.suite.explicit > 0 {
		copy(dst[header+HeaderLen:], nonce[ivSize-8:])
	}
	sealed := aead.Seal(dst[content:content], nonce, dst[content:], additional)
	h.restore(c.suite)
	h.number++
	return dst[:content+len(sealed)] // There was room for the tag.
}
