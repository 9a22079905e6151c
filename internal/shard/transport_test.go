package shard

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
)

// A client of IPv6 has a network of addresses, and can use another one for each connection.
func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "::1": "::", "fe80::1:2:3": "fe80::",
	} {
		require.Equal(t, netip.MustParseAddr(want), networkOf(netip.MustParseAddr(address)), address)
	}
	require.False(t, networkOf(netip.Addr{}).IsValid(), "it is gone")
}
