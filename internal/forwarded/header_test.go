package forwarded

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/stretchr/testify/require"
)

// header2 returns a header of version 2.
func header2(command, family byte, rest ...byte) []byte {
	b := append([]byte(signature2), command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(rest)))
	return append(b, rest...)
}

var addresses4 = []byte{192, 0, 2, 1, 198, 51, 100, 1, 0x12, 0x67, 0x01, 0xbb}

// withSum appends a checksum, which is right unless it is spoiled.
func withSum(spoil byte) []byte {
	b := header2(0x21, 0x11, append(bytes.Clone(addresses4), 3, 0, 4, 0, 0, 0, 0)...)
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	binary.BigEndian.PutUint32(b[len(b)-4:], sum)
	b[len(b)-1] ^= spoil
	return b
}

func goodHeaders() map[string]struct {
	header []byte
	client string // Empty: none.
} {
	type good = struct {
		header []byte
		client string
	}
	return map[string]good{
		"v1 tcp4":            {[]byte("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\r\n"), "192.0.2.1:4711"},
		"v1 tcp6":            {[]byte("PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\n"), "[2001:db8::1]:4711"},
		"v1 mapped":          {[]byte("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.1 4711 443\r\n"), "192.0.2.1:4711"},
		"v1 unknown":         {[]byte("PROXY UNKNOWN\r\n"), ""},
		"v1 unknown, longer": {[]byte("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"), ""},
		"v2 tcp4":            {header2(0x21, 0x11, addresses4...), "192.0.2.1:4711"},
		"v2 tcp6": {header2(0x21, 0x21, append(append(netip.MustParseAddr("2001:db8::1").AsSlice(),
			netip.MustParseAddr("2001:db8::2").AsSlice()...), 0x12, 0x67, 1, 0xbb)...), "[2001:db8::1]:4711"},
		"v2 local":               {header2(0x20, 0x00), ""},
		"v2 local, with address": {header2(0x20, 0x11, addresses4...), ""},
		"v2 local, cut off":      {header2(0x20, 0x11), ""},
		"v2 unspecified":         {header2(0x21, 0x00), ""},
		"v2 unspecified, extras": {header2(0x21, 0x00, 0x04, 0, 1, 0), ""},
		"v2 unix":                {header2(0x21, 0x31, make([]byte, 216)...), ""},
		"v2 extras":              {header2(0x21, 0x11, append(bytes.Clone(addresses4), 0x02, 0, 2, 'a', 'b', 0x04, 0, 0)...), "192.0.2.1:4711"},
		"v2 checksum":            {withSum(0), "192.0.2.1:4711"},
		"v2 longest":             {header2(0x21, 0x11, append(bytes.Clone(addresses4), append([]byte{4, 0x0f, 0xf1}, make([]byte, 0xff1)...)...)...), "192.0.2.1:4711"},
	}
}

// A header is read however it is split, and nothing after it is.
func TestReadHeader(t *testing.T) {
	for name, c := range goodHeaders() {
		for n := range c.header {
			client, length, err := ReadHeader(c.header[:n])
			require.NoError(t, err, "%s, %d bytes", name, n)
			require.Zero(t, length, "%s, %d bytes", name, n)
			require.False(t, client.IsValid())
		}
		for _, behind := range []string{"", "GET / HTTP/1.1\r\n", "\x16\x03\x01"} {
			client, length, err := ReadHeader(append(bytes.Clone(c.header), behind...))
			require.NoError(t, err, name)
			require.Len(t, c.header, length, name)
			if c.client == "" {
				require.False(t, client.IsValid(), name)
			} else {
				require.Equal(t, netip.MustParseAddrPort(c.client), client, name)
			}
		}
	}
}

func TestBadHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		header []byte
		says   string
	}{
		"http":             {[]byte("GET / HTTP/1.1\r\n"), "no PROXY header"},
		"tls":              {[]byte("\x16\x03\x01"), "no PROXY header"},
		"another method":   {[]byte("PROXZ"), "no PROXY header"},
		"empty lines":      {[]byte("\r\n\r\nGET"), "no PROXY header"},
		"v1 without end":   {[]byte("PROXY TCP4 " + strings.Repeat("1", 200)), "no end in 107 bytes"},
		"v1 bare LF":       {[]byte("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443\n"), "malformed"},
		"v1 address":       {[]byte("PROXY TCP4 192.0.2.256 198.51.100.1 4711 443\r\n"), "malformed"},
		"v1 family":        {[]byte("PROXY TCP4 2001:db8::1 2001:db8::2 4711 443\r\n"), "malformed"},
		"v1 port":          {[]byte("PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n"), "malformed"},
		"v1 protocol":      {[]byte("PROXY UDP4 192.0.2.1 198.51.100.1 4711 443\r\n"), "malformed"},
		"v1 more":          {[]byte("PROXY TCP4 192.0.2.1 198.51.100.1 4711 443 1\r\n"), "malformed"},
		"v2 version":       {header2(0x11, 0x11, addresses4...), "malformed"},
		"v2 command":       {header2(0x22, 0x11, addresses4...), "malformed"},
		"v2 family":        {header2(0x21, 0x41, addresses4...), "malformed"},
		"v2 transport":     {header2(0x21, 0x13, addresses4...), "malformed"},
		"v2 short":         {header2(0x21, 0x11, addresses4[:8]...), "malformed"},
		"v2 short unix":    {header2(0x21, 0x31, addresses4...), "malformed"},
		"v2 too long":      {header2(0x21, 0x11, make([]byte, restMax+1)...)[:fixed2], "at most 4112 are allowed"},
		"v2 extra cut off": {header2(0x21, 0x11, append(bytes.Clone(addresses4), 4, 0)...), "cut off"},
		"v2 extra too long": {header2(0x21, 0x11, append(bytes.Clone(addresses4), 4, 0, 9, 1)...),
			"longer than the header"},
		"v2 checksum wrong":  {withSum(1), "checksum of the PROXY header is wrong"},
		"v2 checksum length": {header2(0x21, 0x11, append(bytes.Clone(addresses4), 3, 0, 2, 1, 1)...), "a checksum of 2 bytes"},
	} {
		client, length, err := ReadHeader(c.header)
		require.ErrorContains(t, err, c.says, name)
		require.Zero(t, length, name)
		require.False(t, client.IsValid(), name)
	}
}

// What is complete does not depend on how it comes, what is written is read, and what is too long is never waited for.
func FuzzReadHeader(f *testing.F) {
	for _, c := range goodHeaders() {
		f.Add(c.header)
		f.Add(c.header[:len(c.header)-1])
	}
	f.Add(withSum(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, length, err := ReadHeader(b)
		require.LessOrEqual(t, length, min(len(b), HeaderMax))
		if err != nil {
			require.Zero(t, length)
			return
		}
		if length == 0 {
			require.False(t, client.IsValid())
			require.Less(t, len(b), HeaderMax, "waits for ever")
			return
		}
		for n := range length {
			_, early, err := ReadHeader(b[:n])
			require.NoError(t, err)
			require.Zero(t, early)
		}
		if !client.IsValid() {
			return
		}
		h := proxyproto.HeaderProxyFromAddrs(2, net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(client))
		written, err := h.Format()
		require.NoError(t, err)
		again, n, err := ReadHeader(written)
		require.NoError(t, err)
		require.Len(t, written, n)
		require.Equal(t, client, again)
	})
}
