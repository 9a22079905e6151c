package shard

import (
	"sync/atomic"

	"wsd/internal/stats"
)

// Stats counts what a shard does. The shard's goroutine writes; any goroutine may read.
type Stats struct {
	// What nearly every turn counts, in two cache lines: with many shards they are cold each time.
	Turns         atomic.Uint64 // Turns of the loop.
	TurnLastNanos atomic.Uint64 // Last turn, in nanoseconds.
	TurnMaxNanos  atomic.Uint64 // Longest turn so far, in nanoseconds.
	OutboundBytes atomic.Int64  // Bytes queued for connections that the kernel has not taken yet.
	InboundBytes  atomic.Int64  // Bytes that connections have sent and that wait: incomplete, or for their turn.
	Wakeups       atomic.Uint64 // Times another goroutine woke the loop out of its wait.
	Writes        atomic.Uint64 // write and writev calls that sent something.
	BytesOut      atomic.Uint64 // Bytes that the kernel took.
	Deliveries    atomic.Uint64 // Publications whose bytes the kernel took, summed over connections.
	Batches       atomic.Uint64 // Batches taken from the bus.
	Records       atomic.Uint64 // Records of channels with a subscriber here, taken from the bus.
	Accepted      atomic.Uint64 // Connections accepted.
	Connections   atomic.Int64  // Sockets the shard owns now, handshakes included.
	BytesIn       atomic.Uint64 // Bytes read from sockets.
	Clients       atomic.Int64  // Upgraded WebSocket connections now.
	Subscriptions atomic.Int64  // Subscriptions now.
	Channels      atomic.Int64  // Channels with a subscriber on this shard now.

	TLSTruncated atomic.Uint64 // TLS connections whose client ended without close_notify.
	AcceptErrors atomic.Uint64 // accept failed for want of descriptors or memory; accepting paused each time.
	PauseAccepts atomic.Int64  // 1 while accepting is paused for want of descriptors.
	FramesIn     atomic.Uint64 // WebSocket frames received.
	Commands     atomic.Uint64 // Commands of the client protocol received.
	Compressed   atomic.Uint64 // Upgrades that negotiated permessage-deflate.
	Inflated     atomic.Uint64 // Compressed messages received and decompressed.
	Absent       atomic.Uint64 // Messages for a connection that has gone.
	Dropped      atomic.Uint64 // Publications not sent, as the connection was closed or left the channel.
	Conflated    atomic.Uint64 // Publications replaced by a later record of their key while they waited.
	PutOff       atomic.Uint64 // Times the input of a connection was put off to the next turn.
	Histories    atomic.Uint64 // History commands answered with publications.
	Paced        atomic.Uint64 // Times batches were left on the bus for a moment because clients were behind.
	Reattached   atomic.Uint64 // Times the shard came back after the bus had detached it.
	Recalled     atomic.Uint64 // Subscriptions ended as records were missed or their stream became another one.

	Published      atomic.Uint64 // Publications of clients that Kafka has acknowledged.
	PublishFailed  atomic.Uint64 // Publications of clients that were not acknowledged, or not in time.
	PublishRefused atomic.Uint64 // Publications of clients that were refused at once.

	// Turns of at least stats.DurationMin, and the longest of the last seconds in nanoseconds, at CLOCK_MONOTONIC.
	LongTurns   stats.Durations
	TurnsRecent stats.Recent

	// Of the batches whose flush ended in the last seconds, the longest times in nanoseconds, at CLOCK_MONOTONIC: from
	// the oldest record's timestamp to the end of the flush, to the batch's seal, and from there to the end of the
	// flush. Times below LateFrom are left out.
	LatencyRecent, AgeRecent, DelayRecent stats.Recent

	AdmissionChecks  atomic.Uint64 // Times a shard decided whether a new client may come in.
	AdmissionRefused atomic.Uint64 // New clients refused by such a decision.
	AdmissionDryRun  atomic.Uint64 // New clients that were let in only because admission runs dry.

	// Upgrade requests refused with an HTTP status, in the order of Causes.
	Refused [len(causes)]atomic.Uint64
	// Times a quota was exceeded, by Quota.
	Exceeded [quotaCount]atomic.Uint64
	// Times a connection used up its allowance, by Rate.
	OverRate [rateCount]atomic.Uint64
	// Connections closed, by Reason.
	Closed [reasonCount]atomic.Uint64
	// Times a policy for slow clients acted: connections closed by the limits of waiting bytes, conflations begun,
	// resyncs.
	Slow [policyCount]atomic.Uint64
	// Subscriptions that recovered, by RecoveryOrigin.
	Recovered [recoveryOriginCount]atomic.Uint64
	// Subscriptions that wanted to recover and could not, by RecoveryOrigin.
	Unrecovered [recoveryOriginCount]atomic.Uint64
	// Deliveries that were later than Options.Late.Max, by the stage that took longest.
	Late [stageCount]atomic.Uint64

	// Messages of the send command, by SendResult.
	Sends [sendResults]atomic.Uint64

	// Orders carried out, and connections that they changed, by OrderKind.
	Orders        [orderKinds]atomic.Uint64
	OrdersChanged [orderKinds]atomic.Uint64
	OrdersRefused atomic.Uint64 // Subscriptions that an order wanted and a limit refused.
}

func newStats() *Stats { return &Stats{} }
