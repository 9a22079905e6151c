// Package testutil is what the tests of several packages need of the machine:
// privilege, a bpffs, another process, network namespaces and forged packets;
// and a buffer for what several goroutines log.
// Only tests may import it.
package testutil
