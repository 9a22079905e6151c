package doctor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	countersMax    = 4096 // Counters of one network card; more are not looked at.
	ethSSStats     = 1    // ETH_SS_STATS of linux/ethtool.h.
	counterNameLen = 32   // ETH_GSTRING_LEN of linux/ethtool.h.
)

// counters returns the counters of a network card's driver, as ethtool -S does.
func counters(card string) (map[string]uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("ask the driver of %s: %w", card, err)
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, card)
	if err != nil {
		return nil, fmt.Errorf("ask the driver of %s: %w", card, err)
	}
	n := int(min(info.N_stats, countersMax))
	if n == 0 {
		return nil, nil
	}
	// struct ethtool_gstrings: cmd, string_set, len, then the names. struct ethtool_stats: cmd, n_stats, then the
	// values. The kernel writes as many as the driver has now, which may be more than before, so leave room.
	names := make([]byte, 12+2*n*counterNameLen)
	binary.NativeEndian.PutUint32(names, unix.ETHTOOL_GSTRINGS)
	binary.NativeEndian.PutUint32(names[4:], ethSSStats)
	if err := ethtool(fd, card, names); err != nil {
		return nil, err
	}
	values := make([]byte, 8+2*n*8)
	binary.NativeEndian.PutUint32(values, unix.ETHTOOL_GSTATS)
	binary.NativeEndian.PutUint32(values[4:], uint32(n))
	if err := ethtool(fd, card, values); err != nil {
		return nil, err
	}
	found := make(map[string]uint64, n)
	for i := range n {
		name, _, _ := bytes.Cut(names[12+i*counterNameLen:][:counterNameLen], []byte{0})
		found[string(name)] = binary.NativeEndian.Uint64(values[8+i*8:])
	}
	return found, nil
}

// ethtool makes one request of the driver (SIOCETHTOOL), which writes its response over it.
func ethtool(fd int, card string, request []byte) error {
	var ifreq struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(ifreq.name[:unix.IFNAMSIZ-1], card)
	ifreq.data = unsafe.Pointer(&request[0])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifreq)))
	if errno != 0 {
		return fmt.Errorf("ask the driver of %s: %w", card, errno)
	}
	return nil
}
