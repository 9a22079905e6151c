package steering

import (
	"encoding/binary"
	"net/netip"
)

// mappedBits is the number of bits before an IPv4 address in the key of a map: ::ffff:a.b.c.d (RFC 4291, 2.5.5.2).
const mappedBits = 96

// addressKey returns an address as the program stores it: words whose bytes are in network order on every machine.
func addressKey(a netip.Addr) (key steerAddress) {
	b := a.As16()
	for i := range key.Word {
		key.Word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	return key
}

func prefixKey(p netip.Prefix) steerAddressPrefix {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += mappedBits
	}
	return steerAddressPrefix{Length: uint32(bits), Address: addressKey(p.Masked().Addr())}
}

func prefixOf(key steerAddressPrefix) netip.Prefix {
	var b [16]byte
	for i, word := range key.Address.Word {
		binary.NativeEndian.PutUint32(b[4*i:], word)
	}
	a, bits := netip.AddrFrom16(b), int(key.Length)
	if a.Is4In6() && bits >= mappedBits {
		a, bits = a.Unmap(), bits-mappedBits
	}
	return netip.PrefixFrom(a, bits)
}
