// Package tlshandshake does TLS handshakes by crypto/tls for event loops, and hands the keys over to package tlsrecord.
//
// A handshake of crypto/tls needs a goroutine that blocks, of about 26 KB. So a loop collects the client's first record
// itself and begins a handshake then. From there on it goes in steps: the loop feeds whole records, and a report
// brings what is to be sent. Handshakes that compute are bounded by Options.Workers, and take turns (turns.go); those
// that wait for a turn, and those that wait for their client, by Options.PendingMax. Beyond it the one that has waited
// longest for its client gives way to a new one. Clients that halt in the middle so stop nobody.
//
// Thread rule: any goroutine may use a Pool. A Handshake belongs to the loop that began it, which feeds it only between
// a report and the next one.
package tlshandshake
