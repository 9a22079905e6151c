// Package doctor checks the machine that wsd is to run on. It reports what is missing, each with the command that puts
// it right.
//
// It reads files below /proc and /sys, looks up the file system of the pin directory, and loads wsd's own steering
// program and maps into the kernel. The program is never attached, nothing is pinned, and both are removed before Run
// returns.
//
// Thread rule: Run keeps no state and may be called from any goroutine. A Report belongs to its caller.
//
// The package changes nothing, opens no socket, and does not talk to a running wsd: /health reports the findings of
// that.
package doctor
