// Package testutil is what the tests of several packages need of the machine:
// privilege, a bpffs and another process. Only tests may import it.
package testutil
