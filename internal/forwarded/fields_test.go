package forwarded

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func prefixes(list ...string) *Prefixes {
	var parsed []netip.Prefix
	for _, text := range list {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	return NewPrefixes(parsed)
}

func TestPrefixes(t *testing.T) {
	p := prefixes("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32")
	for address, want := range map[string]bool{
		"10.1.2.3": true, "11.1.2.3": false, "192.0.2.7": true, "192.0.2.8": false, "2001:db8::1": true,
		"2001:db9::1": false, "::1": false,
	} {
		require.Equal(t, want, p.Contain(netip.MustParseAddr(address)), address)
	}
	require.False(t, p.Contain(netip.Addr{}))
	require.Nil(t, NewPrefixes(nil))
	require.False(t, (*Prefixes)(nil).Contain(netip.MustParseAddr("10.0.0.1")))
	require.True(t, prefixes("0.0.0.0/0").Contain(netip.MustParseAddr("10.0.0.1")))
	require.False(t, prefixes("0.0.0.0/0").Contain(netip.MustParseAddr("::1")))
}

func TestClient(t *testing.T) {
	trusted := prefixes("10.0.0.0/8", "fd00::/8")
	for _, c := range []struct {
		field Field
		lines []string
		want  string // Empty: none.
		err   string
	}{
		{XForwardedFor, nil, "", ""},
		{XForwardedFor, []string{""}, "", ""},
		{XForwardedFor, []string{"192.0.2.1"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"1.1.1.1, 192.0.2.1"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"rubbish, 192.0.2.1"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"1.1.1.1", "192.0.2.1"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"192.0.2.1, 10.0.0.7"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"192.0.2.1", "10.0.0.7,fd00::1 , 10.3.3.3"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"10.0.0.9, 10.0.0.7"}, "10.0.0.9:0", ""},
		{XForwardedFor, []string{",192.0.2.1,, "}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"192.0.2.1:4711"}, "192.0.2.1:4711", ""},
		{XForwardedFor, []string{"2001:db8::1"}, "[2001:db8::1]:0", ""},
		{XForwardedFor, []string{"[2001:db8::1]:4711"}, "[2001:db8::1]:4711", ""},
		{XForwardedFor, []string{"::ffff:192.0.2.1"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"192.0.2.1, ::ffff:10.0.0.7"}, "192.0.2.1:0", ""},
		{XForwardedFor, []string{"192.0.2.1, unknown"}, "", ""},
		{XForwardedFor, []string{"192.0.2.1, rubbish"}, "", "something other than an address"},
		{XForwardedFor, []string{"192.0.2.1, rubbish, 10.0.0.7"}, "", "something other than an address"},
		{XForwardedFor, []string{"fe80::1%eth0"}, "", "something other than an address"},
		{XForwardedFor, []string{"[192.0.2.1]"}, "", "something other than an address"},
		{XForwardedFor, []string{"192.0.2.1:99999"}, "", "something other than an address"},
		{XForwardedFor, []string{strings.Repeat("x", FieldMax+1)}, "", "at most 8192"},
		{XForwardedFor, []string{strings.Repeat("10.0.0.1,", hopsMax+1)}, "", "more than 32 proxies"},

		{Forwarded, []string{`for=192.0.2.1`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`For="[2001:db8::1]:4711";proto=https;by=203.0.113.43`}, "[2001:db8::1]:4711", ""},
		{Forwarded, []string{`for=1.1.1.1, for=192.0.2.1;host="a,b;c"`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`for=192.0.2.1`, `proto=http;for=10.0.0.7`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`for=192.0.2.1:80`}, "192.0.2.1:80", ""},
		{Forwarded, []string{`for=[2001:db8::1]`}, "[2001:db8::1]:0", ""},
		{Forwarded, []string{`for="192.0.2.1:_port"`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`for="19\2.0.2.1"`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`for=192.0.2.1, for=unknown`}, "", ""},
		{Forwarded, []string{`for=192.0.2.1, for="unknown:7"`}, "", ""},
		{Forwarded, []string{`for=192.0.2.1, for=_hidden`}, "", ""},
		{Forwarded, []string{`for=192.0.2.1, proto=https`}, "", ""},
		{Forwarded, []string{`,, for=192.0.2.1; ,`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`for="1.1.1.1`, `for=192.0.2.1`}, "192.0.2.1:0", ""},
		{Forwarded, []string{`for=", for=192.0.2.1`}, "", "RFC 7239"},
		{Forwarded, []string{`for=", for="[2001:db8::1]"`}, "", "RFC 7239"},
		{Forwarded, []string{`for`}, "", "RFC 7239"},
		{Forwarded, []string{`for=`}, "", "RFC 7239"},
		{Forwarded, []string{`for=1.1.1.1 for=2.2.2.2`}, "", "RFC 7239"},
		{Forwarded, []string{`for="a\`}, "", "RFC 7239"},
		{Forwarded, []string{`for=1.1.1.1;for=2.2.2.2`}, "", "twice"},
		{Forwarded, []string{`192.0.2.1`}, "", "RFC 7239"},
	} {
		got, err := c.field.Client(c.lines, trusted)
		if c.err != "" {
			require.ErrorContains(t, err, c.err, c.lines)
			require.False(t, got.IsValid(), c.lines)
			continue
		}
		require.NoError(t, err, c.lines)
		if c.want == "" {
			require.False(t, got.IsValid(), c.lines)
			continue
		}
		require.Equal(t, netip.MustParseAddrPort(c.want), got, c.lines)
	}
}

// Whatever a client sends before what its proxy appends, the client is who the proxy says, or the request is refused.
func FuzzClient(f *testing.F) {
	for _, sent := range []string{"", "1.1.1.1", `for=1.1.1.1`, `for="`, `for="1.1.1.1\`, "unknown", "10.0.0.1", `a="b,c";for=x`} {
		f.Add(sent)
	}
	trusted, want := prefixes("10.0.0.0/8"), netip.MustParseAddrPort("192.0.2.1:0")
	f.Fuzz(func(t *testing.T, sent string) {
		for field, appended := range map[Field]string{XForwardedFor: "192.0.2.1", Forwarded: "for=192.0.2.1"} {
			for _, lines := range [][]string{{sent, appended}, {sent + ", " + appended}} {
				got, err := field.Client(lines, trusted)
				if err == nil {
					require.Equal(t, want, got, "%q", lines)
				}
			}
			got, err := field.Client([]string{sent}, trusted)
			require.False(t, err != nil && got.IsValid())
			if got.IsValid() {
				require.False(t, got.Addr().Is4In6())
				require.Empty(t, got.Addr().Zone())
			}
		}
	})
}
