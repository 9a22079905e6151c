// Package testutil is what the tests of several packages need of the machine:
// privilege, a bpffs, another process, network namespaces, forged packets and system calls that fail;
// and a buffer for what several goroutines log.
// Only tests may import it.
package testutil
