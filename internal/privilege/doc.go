// Package privilege drops what the process may do and does not need again after its start: capabilities, those that a
// program which it starts could get (the bounding set), and the gaining of any (no_new_privs).
//
// What is needed again is measured, not listed: each Need is tried on a thread that has no capability. So a capability
// is kept on the kernels and the machines that ask for it, and nowhere else.
//
// Thread rule: Drop must be called once, before anything but the program's start may run. The other functions may be
// called from any goroutine.
package privilege
