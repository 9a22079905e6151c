package host

import (
	"path/filepath"
	"strings"
)

// bpffs is where Linux distributions mount the BPF file system.
const bpffs = "/sys/fs/bpf"

// BPFFSMountPoint returns where a bpffs belongs so that dir is on it: /sys/fs/bpf for that directory and everything
// below it, else dir itself. It never returns a parent of dir, which may hold other files that a mount would hide.
func BPFFSMountPoint(dir string) string {
	if dir == bpffs || strings.HasPrefix(dir, bpffs+"/") {
		return bpffs
	}
	return filepath.Clean(dir)
}
