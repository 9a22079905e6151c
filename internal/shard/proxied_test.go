package shard

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/stretchr/testify/require"

	"wsd/internal/forwarded"
	"wsd/internal/testutil"
	"wsd/internal/wire"
)

func prefixes(list ...string) *forwarded.Prefixes {
	var parsed []netip.Prefix
	for _, text := range list {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	return forwarded.NewPrefixes(parsed)
}

// proxy1 and proxy2 return PROXY headers of both versions.
func proxy1(client string) []byte {
	a := netip.MustParseAddrPort(client)
	family := "TCP4"
	if a.Addr().Is6() {
		family = "TCP6"
	}
	return fmt.Appendf(nil, "PROXY %s %v %v %d 443\r\n", family, a.Addr(), a.Addr(), a.Port())
}

func proxy2(client string, extras ...byte) []byte {
	a := netip.MustParseAddrPort(client)
	family := byte(0x11)
	if a.Addr().Is6() {
		family = 0x21
	}
	rest := append(a.Addr().AsSlice(), a.Addr().AsSlice()...)
	rest = binary.BigEndian.AppendUint16(rest, a.Port())
	rest = append(binary.BigEndian.AppendUint16(rest, 443), extras...)
	return proxyHeader2(0x21, family, rest)
}

func proxyHeader2(command, family byte, rest []byte) []byte {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(rest))), rest...)
}

// behindProxy has a rig whose clients come from a proxy with PROXY headers, once in plain text and once by TLS.
func behindProxy(t *testing.T, change func(*Options), test func(t *testing.T, r *rig)) {
	t.Helper()
	for _, isTLS := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", isTLS), func(t *testing.T) {
			test(t, newRig(t, func(o *Options) {
				o.TLS.Handshakes = nil
				if isTLS {
					o.TLS.Handshakes = newHandshakes(t)
				}
				o.Proxies.Protocol = prefixes("127.0.0.0/8")
				if change != nil {
					change(o)
				}
			}))
		})
	}
}

// behind opens a connection that begins with a header.
func (r *rig) behind(header []byte) *client {
	r.t.Helper()
	c := r.openPlain()
	c.write(header)
	if r.tls {
		startTLS(c, new(tls.Config))
	}
	return c
}

func (c *client) asks(r *rig, path string, fields ...string) (status int, body string) {
	c.t.Helper()
	request := string(wire.AppendClientHandshake(nil, r.address, path, "", testKey))
	for _, field := range fields {
		request = strings.Replace(request, "\r\n\r\n", "\r\n"+field+"\r\n\r\n", 1)
	}
	c.write([]byte(request))
	return c.response()
}

// A client behind a proxy counts by its own address, whichever header names it, and others do not suffer.
func TestProxyHeader(t *testing.T) {
	behindProxy(t, func(o *Options) { o.Quotas.Limits[QuotaAddressConnections].Max = 1 }, func(t *testing.T, r *rig) {
		t.Helper()
		for i, header := range [][]byte{
			proxy1("192.0.2.1:4711"), proxy1("[2001:db8:1::1]:4711"), proxy2("192.0.2.2:4711"),
			proxy2("[2001:db8:2::1]:4711"), proxy2("192.0.2.3:1", 0x04, 0, 2, 0, 0), proxy2("192.0.2.4:1", 0xe0, 0, 0),
		} {
			c := r.behind(header)
			status, body := c.asks(r, "/ws?channel=a")
			require.Equal(t, 101, status, body)
			r.publish("a", "text")
			require.Equal(t, "text", c.message(wire.EventText))
			status, body = r.behind(header).asks(r, "/ws?channel=a")
			require.Equal(t, 429, status, body)
			require.Equal(t, i+1, r.shard.opts.Quotas.addresses.len())
		}
		// These speak for the proxy, or for clients without an address: no limit per address is theirs.
		for _, header := range [][]byte{
			[]byte("PROXY UNKNOWN\r\n"), proxyHeader2(0x20, 0, nil), proxyHeader2(0x20, 0x11, make([]byte, 12)),
			proxyHeader2(0x21, 0x31, make([]byte, 216)), proxyHeader2(0x21, 0, nil),
		} {
			for range 2 {
				status, body := r.behind(header).asks(r, "/ws?channel=a")
				require.Equal(t, 101, status, body)
			}
		}
		require.Equal(t, 6, r.shard.opts.Quotas.addresses.len())
	})
}

// A header may come in any pieces, and what follows it in the same packet is not lost.
func TestProxyHeaderInPieces(t *testing.T) {
	behindProxy(t, nil, func(t *testing.T, r *rig) {
		t.Helper()
		for _, header := range [][]byte{proxy1("192.0.2.1:4711"), proxy2("192.0.2.2:4711")} {
			for _, pieces := range []int{1, 2, len(header)} {
				c := r.openPlain()
				for piece := range pieces {
					before := r.shard.Stats().BytesIn.Load()
					c.write(header[len(header)*piece/pieces : len(header)*(piece+1)/pieces])
					eventually(t, "the piece is read", func() bool { return r.shard.Stats().BytesIn.Load() > before })
				}
				if r.tls {
					startTLS(c, new(tls.Config))
				}
				status, body := c.asks(r, "/ws?channel=a")
				require.Equal(t, 101, status, body)
			}
			c := r.openPlain()
			c.conn = &corked{Conn: c.conn} // Header and ClientHello, or request, in one packet.
			c.in = bufio.NewReader(c.conn)
			c.write(header)
			if r.tls {
				startTLS(c, new(tls.Config))
			}
			status, body := c.asks(r, "/ws?channel=a")
			require.Equal(t, 101, status, body)
		}
	})
}

// Byte by byte, with the loop turned over after each, until the very end.
func TestProxyHeaderByteByByte(t *testing.T) {
	for _, header := range [][]byte{proxy1("192.0.2.1:4711"), proxy2("192.0.2.2:4711")} {
		r := newStepped(t, func(o *Options) {
			o.TLS.Handshakes, o.Proxies.Protocol = nil, prefixes("127.0.0.1/32")
			o.Quotas.Limits[QuotaAddressHandshakes].Max = 1
		})
		c := r.openPlain()
		all := append(header, wire.AppendClientHandshake(nil, r.address, "/ws?channel=a", "", testKey)...)
		for i := range all {
			c.write(all[i : i+1])
			eventually(t, "the byte is read", func() bool {
				r.step()
				return r.shard.Stats().BytesIn.Load() == uint64(i+1)
			})
			named := 0
			if i+1 >= len(header) && i+1 < len(all) {
				named = 1
			}
			require.Equal(t, named, r.shard.opts.Quotas.addresses.len(), "handshakes count by the client's address")
		}
		status, body := c.response()
		require.Equal(t, 101, status, body)
	}
}

// Beyond so many incomplete requests of a client behind a proxy, that client is refused and nobody else.
func TestProxiedHandshakes(t *testing.T) {
	behindProxy(t, func(o *Options) { o.Quotas.Limits[QuotaAddressHandshakes].Max = 2 }, func(t *testing.T, r *rig) {
		t.Helper()
		for range 5 { // Of nobody, as their headers are incomplete.
			r.openPlain().write(proxy2("192.0.2.1:1")[:20])
		}
		slow := func() *client {
			c := r.openPlain()
			c.write(proxy2("192.0.2.1:1"))
			return c
		}
		slow()
		slow()
		eventually(t, "both count", func() bool { return r.shard.opts.Quotas.Handshakes() == 7 })
		third := slow()
		if r.tls {
			_, err := io.ReadAll(third.in)
			require.NoError(t, err)
		} else {
			status, body := third.response()
			require.Equal(t, 429, status, body)
		}
		status, body := r.behind(proxy2("192.0.2.9:1")).asks(r, "/ws?channel=a")
		require.Equal(t, 101, status, body)
	})
}

// A connection without its header, or with a bad one, is refused with the reason, and logged once.
func TestProxyHeaderMissing(t *testing.T) {
	var log *testutil.Buffer
	behindProxy(t, func(o *Options) {
		log = &testutil.Buffer{}
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}, func(t *testing.T, r *rig) {
		t.Helper()
		for _, sent := range []string{
			"GET /ws HTTP/1.1\r\n\r\n", "PROXY TCP4 1.2.3.4\r\n", "PROXY TCP4 " + strings.Repeat("1", 200),
			string(proxyHeader2(0x21, 0x11, nil)), string(proxyHeader2(0x21, 0x11, make([]byte, 5000))), "\x00",
		} {
			c := r.openPlain()
			c.write([]byte(sent))
			status, body := c.response()
			require.Equal(t, 400, status, body)
			require.Contains(t, body, "127.0.0.1")
			require.Contains(t, body, "client.proxy_protocol")
			require.Contains(t, body, "PROXY")
		}
		c := r.openPlain()
		c.write(clientHello(t))
		b, err := io.ReadAll(c.in)
		require.NoError(t, err)
		require.Equal(t, r.tls, len(b) == 0, "who speaks TLS to a TLS port cannot read a text")
		require.EqualValues(t, 7, r.shard.Stats().Refused[causeIndex(wire.CauseProxyProtocol)].Load())
		require.Equal(t, 1, strings.Count(log.String(), "a connection of a proxy is refused"))
	})
}

// A header from anyone else is bad input: it must not choose an address.
func TestProxyHeaderFromElsewhere(t *testing.T) {
	behindProxy(t, func(o *Options) { o.Proxies.Protocol = prefixes("192.0.2.0/24") }, func(t *testing.T, r *rig) {
		t.Helper()
		for _, header := range [][]byte{proxy1("198.51.100.1:1"), proxy2("198.51.100.1:1")} {
			c := r.openPlain()
			c.write(header)
			status, body := c.response()
			require.Equal(t, 400, status, body)
			require.Contains(t, body, "client.proxy_protocol")
		}
		status, body := r.open().asks(r, "/ws?channel=a")
		require.Equal(t, 101, status, body)
	})
}

// A header that does not end costs no more than a connection that says nothing.
func TestProxyHeaderSlow(t *testing.T) {
	behindProxy(t, func(o *Options) { o.Limits.HandshakeTimeout = 100 * time.Millisecond }, func(t *testing.T, r *rig) {
		t.Helper()
		for _, sent := range []string{"", "P", "\r\n\r\n\x00", string(proxy2("192.0.2.1:1")[:20])} {
			c := r.openPlain()
			c.write([]byte(sent))
			_, err := io.Copy(io.Discard, c.conn)
			require.ErrorContains(t, err, "reset")
		}
		eventually(t, "all are closed", func() bool { return r.reason(ReasonHandshakeTimeout) == 4 })
		require.Zero(t, r.shard.inbound.bytes)
	})
}

// A trusted proxy names its client in a field of the request; nobody else can.
func TestTrustedProxies(t *testing.T) {
	for _, field := range []forwarded.Field{forwarded.XForwardedFor, forwarded.Forwarded} {
		var log testutil.Buffer
		r := newRig(t, func(o *Options) {
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
			o.Proxies = Proxies{Trusted: prefixes("127.0.0.1/32", "10.0.0.0/8"), Field: field}
			o.Quotas.Limits[QuotaAddressConnections].Max = 1
			o.Quotas.Limits[QuotaAddressHandshakes].Max = 1
		})
		line := func(addresses ...string) string {
			if field == forwarded.Forwarded {
				return "Forwarded: for=" + strings.Join(addresses, ", for=")
			}
			return "X-Forwarded-For: " + strings.Join(addresses, ", ")
		}
		other := "Forwarded: for=203.0.113.9"
		if field == forwarded.Forwarded {
			other = "X-Forwarded-For: 203.0.113.9"
		}
		for _, c := range []struct {
			fields []string
			status int
			says   string
		}{
			{[]string{line("192.0.2.1")}, 101, ""},
			{[]string{line("192.0.2.1"), other}, 429, "limits.address_connections"},
			{[]string{line("203.0.113.1", "192.0.2.1")}, 429, "limits.address_connections"},
			{[]string{line("203.0.113.1", "192.0.2.1", "10.0.0.3")}, 429, "limits.address_connections"},
			{[]string{line("192.0.2.2")}, 101, ""},
			{[]string{line("unknown")}, 101, ""},
			{[]string{line("unknown")}, 101, ""},
			{[]string{other}, 101, ""},
			{nil, 101, ""},
			{[]string{line("rubbish")}, 400, "client.trusted_proxies names something other than an address"},
		} {
			for range 2 { // Slow requests count for nobody: the proxy has not named their clients.
				r.open().write([]byte("GET"))
			}
			status, body := r.open().asks(r, "/ws?channel=a", c.fields...)
			require.Equal(t, c.status, status, "%v: %s", c.fields, body)
			require.Contains(t, body, c.says)
		}
		require.Equal(t, 1, strings.Count(log.String(), "a trusted proxy does not name its client"), "of two requests")
	}
}

// Without an option, fields say nothing.
func TestFieldsFromElsewhere(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Proxies.Trusted = prefixes("192.0.2.0/24")
		o.Quotas.Limits[QuotaAddressConnections].Max = 1
	})
	for i, status := range []int{101, 429, 429} {
		got, _ := r.open().asks(r, "/ws?channel=a", fmt.Sprintf("X-Forwarded-For: 203.0.113.%d", i))
		require.Equal(t, status, got)
	}
}

// A PROXY header may name a proxy, which names its client in turn. The real address is that of the failures of tokens
// and of the log.
func TestProxyOfProxy(t *testing.T) {
	var log *testutil.Buffer
	a := &authority{}
	behindProxy(t, withAuthority(a, func(o *Options) {
		o.Proxies.Trusted = prefixes("10.0.0.0/8")
		log = &testutil.Buffer{}
		o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}), func(t *testing.T, r *rig) {
		t.Helper()
		c := r.behind(proxy2("10.0.0.3:1"))
		status, body := c.asks(r, "/ws?channel=public.a&token=bad", "X-Forwarded-For: 203.0.113.1, 192.0.2.1")
		require.Equal(t, 401, status, body)
		require.Equal(t, "192.0.2.1", a.lastAddress().String())
		require.Contains(t, log.String(), "client=192.0.2.1:0")
		// A client cannot name itself.
		c = r.behind(proxy2("192.0.2.5:1"))
		status, body = c.asks(r, pathProtocol, "X-Forwarded-For: 203.0.113.1")
		require.Equal(t, 101, status, body)
		c.send(ws.OpText, `{"id":1,"connect":{"token":"bad"}}`)
		_, _, _ = c.next()
		require.Equal(t, "192.0.2.5", a.lastAddress().String())
	})
}

// A page of another origin gets 403, which says which and why; who is no browser has no origin.
func TestOrigins(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.AllowsOrigin = func(origin, host string) bool {
			return host != "" && origin == "https://good.example"
		}
	})
	for origin, want := range map[string]int{
		"": 101, "https://good.example": 101, "https://evil.example": 403, "null": 403,
		"https://" + strings.Repeat("x", 1000): 403,
	} {
		for _, path := range []string{"/ws?channel=a", pathProtocol} {
			var fields []string
			if origin != "" {
				fields = []string{"Origin: " + origin}
			}
			status, body := r.open().asks(r, path, fields...)
			require.Equal(t, want, status)
			if want == 403 {
				require.Contains(t, body, fmt.Sprintf("%q", origin[:min(len(origin), originShown)]))
				require.Contains(t, body, "client.origins")
				require.Less(t, len(body), 400)
			}
		}
	}
	require.EqualValues(t, 6, r.shard.Stats().Refused[causeIndex(causeOrigin)].Load())
}
