package client

import (
	"maps"
	"slices"
)

// Disturbed is what disturbers did and saw, connection by connection. Each connection that was made ended in exactly
// one of Refused, ResetUpgrade, ResetClear, ResetBehind, Left, Cut or Frames.
type Disturbed struct {
	Connected int64 // Connections that TCP made.
	Upgraded  int64 // Of these, those with a complete answer 101.
	Stops     int64 // Times one did not read at all.
	Slows     int64 // Times one read slowly.
	Recovered int64 // Times one had everything again afterwards.

	Refused      int64 // Answered by another HTTP status than 101.
	ResetUpgrade int64 // Reset by us before the answer to the upgrade request was read.
	ResetWhole   int64 // Of ResetUpgrade, those that had sent the whole request,
	// and those that had sent nothing: the kernel need not give them to the server (TCP_DEFER_ACCEPT).
	ResetSilent int64
	ResetClear  int64 // Reset by us, when the server had no reason yet to end it.
	ResetBehind int64 // Reset by us, when the server may have ended it already.
	HalfFrames  int64 // Of the two, those that had sent a part of a frame.
	Left        int64 // Ended by our close frame and the server's answer.
	Cut         int64 // Ended by the server without a close frame that came through.
	MayBeSlow   int64 // Of ResetBehind and Cut, those with more than the limit waiting, perhaps.
	MayBeLate   int64 // Of ResetBehind and Cut, those with a pong that was late, perhaps.

	Deliveries int64  // Records that came.
	Lost       uint64 // Numbers that were skipped.
	Duplicates int64  // Records that came again, or that good clients had before the connection was begun.
	Corrupt    int64  // Records with other bytes than were produced, or frames that broke the protocol.
	Foreign    int64  // Records of another run.

	// What may have been published for connections that ended without all of it having come: the records from the last
	// that came, or that any client had before the connection was begun, to the last that was given to Kafka.
	UnreadMax uint64
	Unread    int64 // Such connections.
	// The part of UnreadMax that the kernel may have taken: of connections that were reset, by us or by the server, at
	// most what the sockets' buffers hold.
	InKernelMax uint64
	InKernel    int64 // Such connections.
	// Records that may have come through though the kernel had not taken the last byte of what they were sent in.
	PartialMax uint64

	TooEarly int64 // Closed as slow by the server although no more than its limit can have waited.
	// Not closed by the server although more than its limit and the sockets' buffers must have waited.
	TooLate     int64
	Unexplained int64 // Of Cut, those that were not behind.
	Stuck       int64 // Did not get what was produced, though they read.

	Frames      map[string]int64 // Ended by the server's close frame, by code and text.
	NotDialed   map[string]int64 // Connections that TCP did not make, by why.
	NotUpgraded map[string]int64 // Of Refused and Cut, by why.

	Faults []string // What was wrong with single connections: the first faultsMax.
}

// faultsMax bounds Faults.
const faultsMax = 10

func (d *Disturbed) fault(what string) {
	if len(d.Faults) < faultsMax {
		d.Faults = append(d.Faults, what)
	}
}

// add adds o to d.
func (d *Disturbed) add(o *Disturbed) {
	for _, p := range [][2]*int64{
		{&d.Connected, &o.Connected}, {&d.Upgraded, &o.Upgraded}, {&d.Stops, &o.Stops}, {&d.Slows, &o.Slows},
		{&d.Recovered, &o.Recovered},
		{&d.Refused, &o.Refused}, {&d.ResetUpgrade, &o.ResetUpgrade}, {&d.ResetWhole, &o.ResetWhole},
		{&d.ResetSilent, &o.ResetSilent}, {&d.ResetClear, &o.ResetClear},
		{&d.ResetBehind, &o.ResetBehind}, {&d.HalfFrames, &o.HalfFrames}, {&d.Left, &o.Left}, {&d.Cut, &o.Cut},
		{&d.MayBeSlow, &o.MayBeSlow}, {&d.MayBeLate, &o.MayBeLate},
		{&d.Deliveries, &o.Deliveries}, {&d.Duplicates, &o.Duplicates}, {&d.Corrupt, &o.Corrupt},
		{&d.Foreign, &o.Foreign},
		{&d.Unread, &o.Unread}, {&d.InKernel, &o.InKernel}, {&d.TooEarly, &o.TooEarly}, {&d.TooLate, &o.TooLate},
		{&d.Unexplained, &o.Unexplained}, {&d.Stuck, &o.Stuck},
	} {
		*p[0] += *p[1]
	}
	d.Lost += o.Lost
	d.UnreadMax += o.UnreadMax
	d.InKernelMax += o.InKernelMax
	d.PartialMax += o.PartialMax
	addReasons(&d.Frames, o.Frames)
	addReasons(&d.NotDialed, o.NotDialed)
	addReasons(&d.NotUpgraded, o.NotUpgraded)
	for _, what := range o.Faults {
		d.fault(what)
	}
}

func (d *Disturbed) clone() Disturbed {
	n := *d
	n.Frames, n.NotDialed, n.NotUpgraded = maps.Clone(d.Frames), maps.Clone(d.NotDialed), maps.Clone(d.NotUpgraded)
	n.Faults = slices.Clone(d.Faults)
	return n
}
