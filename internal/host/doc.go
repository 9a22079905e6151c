// Package host reads the facts about a machine that decide whether wsd can steer on it: the release of its kernel, the
// capabilities of this process, and where a bpffs belongs.
//
// Every function takes the text of a file and returns what it says, so that `wsd doctor` and the steering package judge
// alike, and so that a test can bring texts of its own.
//
// Thread rule: every function may be called from any goroutine.
package host
