package forwarded

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"

	proxyproto "github.com/pires/go-proxyproto"
)

const (
	signature1 = "PROXY "
	signature2 = "\r\n\r\n\x00\r\nQUIT\n"

	// lineMax is the size in bytes of the longest header of version 1.
	lineMax = 107
	// fixed2 is the size in bytes of the part of a version 2 header that says how long the rest is.
	fixed2 = 16
	// restMax is the size in bytes of the longest rest that is read: addresses, and what the proxy says of a
	// certificate.
	restMax = 4096
)

// HeaderMax is the size in bytes of the longest PROXY header that is read.
const HeaderMax = fixed2 + restMax

// ErrNoHeader is the error for bytes that do not begin with a PROXY header.
var ErrNoHeader = errors.New("no PROXY header")

// ReadHeader reads the PROXY header at the start of b, of version 1 or 2 (proxy-protocol.txt of HAProxy). It returns
// the address of the client and the length of the header, or 0 while the header is incomplete. The address is not valid
// if the header names none: the proxy speaks for itself (LOCAL, UNKNOWN), or the client did not come by IP.
//
// The error is ErrNoHeader as soon as b cannot become a header, and another one for a header that is malformed, longer
// than HeaderMax, or whose checksum is wrong.
func ReadHeader(b []byte) (client netip.AddrPort, length int, err error) {
	switch {
	case begins(b, signature1):
		return readLine(b)
	case begins(b, signature2):
		return readBinary(b)
	default:
		return client, 0, ErrNoHeader
	}
}

// begins reports whether b begins with a signature, or is shorter and may become so.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// readLine reads a header of version 1.
func readLine(b []byte) (client netip.AddrPort, length int, err error) {
	end := bytes.IndexByte(b[:min(len(b), lineMax)], '\n')
	switch {
	case end >= 0:
		return parse(b[:end+1])
	case len(b) >= lineMax:
		return client, 0, fmt.Errorf("the PROXY header has no end in %d bytes", lineMax)
	default:
		return client, 0, nil
	}
}

// readBinary reads a header of version 2.
func readBinary(b []byte) (client netip.AddrPort, length int, err error) {
	if len(b) < fixed2 {
		return client, 0, nil
	}
	rest := int(binary.BigEndian.Uint16(b[14:]))
	if rest > restMax {
		return client, 0, fmt.Errorf("the PROXY header has %d bytes, at most %d are allowed", fixed2+rest, HeaderMax)
	}
	if len(b) < fixed2+rest {
		return client, 0, nil
	}
	header := b[:fixed2+rest]
	const proxied, unspecified = 0x21, 0x00
	if header[12] == proxied {
		if err := checkExtras(header); err != nil {
			return client, 0, err
		}
		if header[13] == unspecified { // Such as HAProxy sends for a client on a Unix socket.
			return client, len(header), nil
		}
	}
	return parse(header)
}

// parse parses a complete header.
func parse(header []byte) (client netip.AddrPort, length int, err error) {
	h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), lineMax+1))
	if err != nil {
		return client, 0, fmt.Errorf("malformed PROXY header: %w", err)
	}
	if h.Command.IsLocal() {
		return client, len(header), nil
	}
	ip, _, isIP := h.IPs()
	port, _, _ := h.Ports()
	address, ok := netip.AddrFromSlice(ip)
	if !isIP || !ok {
		return client, len(header), nil
	}
	return netip.AddrPortFrom(address.Unmap(), uint16(port)), len(header), nil //nolint:gosec // It was 16 bits.
}

// The sizes in bytes of the addresses in a version 2 header, by family.
var addressLengths = map[byte]int{0: 0, 1: 12, 2: 36, 3: 216}

const (
	extraChecksum = 0x03 // PP2_TYPE_CRC32C
	extraHeader   = 3    // Bytes of type and length.
)

// checkExtras checks the type-length-value vectors behind the addresses of a version 2 header, and the checksum among
// them, if there is one.
func checkExtras(header []byte) error {
	length, ok := addressLengths[header[13]>>4]
	if !ok || fixed2+length > len(header) {
		return nil // parse says so.
	}
	for at := fixed2 + length; at < len(header); {
		if len(header)-at < extraHeader {
			return errors.New("malformed PROXY header: its last vector is cut off")
		}
		value := at + extraHeader
		n := int(binary.BigEndian.Uint16(header[at+1:]))
		if n > len(header)-value {
			return errors.New("malformed PROXY header: a vector is longer than the header")
		}
		if header[at] == extraChecksum {
			if err := checkSum(header, value, n); err != nil {
				return err
			}
		}
		at = value + n
	}
	return nil
}

// checkSum checks the checksum in n bytes of a header.
func checkSum(header []byte, at, n int) error {
	if n != crc32.Size {
		return fmt.Errorf("malformed PROXY header: a checksum of %d bytes", n)
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, header[:at])
	sum = crc32.Update(sum, table, make([]byte, n))
	sum = crc32.Update(sum, table, header[at+n:])
	if sum != binary.BigEndian.Uint32(header[at:]) {
		return errors.New("the checksum of the PROXY header is wrong")
	}
	return nil
}
