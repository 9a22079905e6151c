package client

// Disturbed is what disturbing clients did and saw, connection by connection. Each connection that was made ended in
// exactly one of Refused, ResetUpgrade, ResetClear, ResetBehind, Left, Cut or Frames.
type Disturbed struct {
	Connected int64 // Connections that TCP made.
	Upgraded  int64 // Of these, those with a complete answer 101.
	Stops     int64 // Times a client did not read at all.
	Slows     int64 // Times a client read slowly.
	CaughtUp  int64 // Times a client had everything again afterwards.

	Refused      int64 // Answered by another HTTP status than 101.
	ResetUpgrade int64 // Reset by us before the answer to the upgrade request was read.
	ResetWhole   int64 // Of ResetUpgrade, those that had sent the whole request.
	// Of ResetUpgrade, those that had sent nothing: the kernel need not give them to the server (TCP_DEFER_ACCEPT).
	ResetSilent int64
	ResetClear  int64 // Reset by us, when the server had no reason yet to end the connection.
	ResetBehind int64 // Reset by us, when the server may have ended the connection already.
	HalfFrames  int64 // Of ResetClear and ResetBehind, those that had sent a part of a frame.
	Left        int64 // Ended by our close frame and the server's answer.
	Cut         int64 // Ended by the server without a close frame that came through.
	MayBeSlow   int64 // Of ResetBehind and Cut, those with more than the limit waiting, perhaps.
	MayBeLate   int64 // Of ResetBehind and Cut, those with a pong that was late, perhaps.

	Deliveries int64    // Records that came.
	Records    Counters // What was wrong with records; other fields are 0.
	Corrupt    int64    // Frames that broke the protocol.

	// What may have been published for connections that ended without all of it having come: the records from the last
	// that came, or that any client had before the connection was begun, to the last that was given to Kafka.
	UnreadMax uint64
	Unread    int64 // Connections counted in UnreadMax.
	// The part of UnreadMax that the kernel may have taken: of connections that were reset, by us or by the server, at
	// most what the sockets' buffers hold.
	InKernelMax uint64
	InKernel    int64 // Connections counted in InKernelMax.
	// Records that may have come through though the kernel had not taken the last byte of what they were sent in.
	PartialMax uint64

	Stuck       int64 // Connections that got nothing for stuckAfter although they read.
	TooEarly    int64 // Closed as slow with less than the limit waiting.
	TooLate     int64 // Not closed with more than the limit and all buffers waiting.
	Unexplained int64 // Cut by the server without a reason.

	Frames      map[string]int64 // Closed by the server, by code and text of its close frame.
	NotDialed   map[string]int64 // Not connected by TCP, by reason.
	NotUpgraded map[string]int64 // Not upgraded, by reason.
	Faults      []string         // The first faults in words.
}
