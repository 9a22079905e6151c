//go:build !cgo

package privilege

// cgo says whether this binary is linked with C: if so, Go cannot make a system call on all threads.
const cgo = false
