package privilege

import (
	"fmt"
	"math/bits"
)

// Set is a set of capabilities, as bits.
type Set uint64

// Of returns the set of some capabilities, such as unix.CAP_BPF.
func Of(capabilities ...int) (s Set) {
	for _, c := range capabilities {
		s |= 1 << c
	}
	return s
}

// Names returns the names of the capabilities in the order of their numbers. It is never nil.
func (s Set) Names() []string {
	list := make([]string, 0, bits.OnesCount64(uint64(s)))
	for c := range 64 {
		if s&(1<<c) != 0 {
			list = append(list, Name(c))
		}
	}
	return list
}

// Name returns the name of a capability, such as CAP_BPF.
func Name(capability int) string {
	if capability < 0 || capability >= len(names) {
		return fmt.Sprintf("CAP_%d", capability)
	}
	return "CAP_" + names[capability]
}

// names are those of linux/capability.h, by number.
var names = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}
