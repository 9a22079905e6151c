package shard

import "golang.org/x/sys/unix"

// outbox is the outbound side of one connection: what waits until the kernel takes it. It is plain data; the shard's
// sender alone changes it, and keeps the sums over all outboxes.
type outbox struct {
	chunks []chunk // In the order of sending; nil when empty.
	merge  *merge  // Publications that wait after chunks, merged by key; nil: the connection does not conflate.
	cost   int     // Of chunks, bytes already written included, and of merge.
	offset uint32  // Bytes of chunks[0] already written.

	wrote       uint32 // Bytes written in this turn while more waits; at most writePerTurn.
	behindRound uint32 // 0, or the sender's round in which the connection fell behind; see pacing.
	blocked     bool   // The kernel has taken less than it was given: to go on when the socket is writable.
	listed      bool   // In outlet.dirty: the turn's flush looks at it.
	counted     bool   // It exceeds OutboundMax, which is in a dry run and has counted it.
}

// chunk is a run of bytes to send, usually shared with many connections. It ends at a frame boundary.
type chunk struct {
	bytes        []byte
	publications uint32
	hold         uint32 // Index into sender.holds of the batch that bytes belong to; 0: to no batch.
	channel      uint32 // One more than the index of the publications' channel; 0: the chunk is something else.
	pong         uint16 // One more than where the last pong of bytes begins; 0: it holds no pongs.
	kind         chunkKind
	deferred     bool // bytes are still being compressed elsewhere: not to be sent before, see deflate.go.
}

// chunkKind says what a chunk may overtake while its connection is blocked.
type chunkKind uint8

const (
	kindData    chunkKind = iota // Nothing.
	kindControl                  // Data: a control frame, or a ping in-band.
	kindReply                    // Data: replies to commands, whose memory is the chunk's own.
	kindAnswer                   // Data: a reply with publications. It counts in Memory.Answers.
	kindPortion                  // Nothing: recovered publications. It counts in Memory.Answers.
)

// isData reports whether the chunk overtakes nothing, and may be overtaken.
func (k *chunk) isData() bool { return k.kind == kindData || k.kind == kindPortion }

// isAnswer reports whether the chunk counts in Memory.Answers.
func (k *chunk) isAnswer() bool { return k.kind >= kindAnswer }

// chunkOverhead is what a chunk takes in the queue beside its bytes. It counts as waiting bytes, so that a million
// replies of two bytes do not pass for two megabytes.
const chunkOverhead = 64

func (k *chunk) cost() int { return len(k.bytes) + chunkOverhead }

// empty reports whether nothing waits.
func (o *outbox) empty() bool { return len(o.chunks) == 0 }

// unsent returns the cost of what waits besides the message being sent.
func (o *outbox) unsent() int {
	for i := range o.chunks {
		if o.chunks[i].isData() {
			return o.cost - o.chunks[i].cost()
		}
	}
	if len(o.chunks) > 0 {
		return o.cost - o.chunks[0].cost()
	}
	return o.cost
}

// exceeds reports whether more than limit waits after the message being sent. That one does not count, so that one
// message of any size reaches a client that reads.
func (o *outbox) exceeds(limit int) bool { return o.cost > limit && o.unsent() > limit }

// dataBegin returns where the first chunk is that control chunks and replies overtake.
func (o *outbox) dataBegin() (i int) {
	if o.offset > 0 {
		i = 1
	}
	for i < len(o.chunks) && !o.chunks[i].isData() {
		i++
	}
	return i
}

// verdict is what became of an operation on an outbox. Its caller decides what follows.
type verdict uint8

const (
	verdictOK     verdict = iota
	verdictSlow           // More waits than a connection may have waiting; nothing was queued.
	verdictBroken         // The socket refused a write.
	verdictStuck          // The kernel has given up on the peer, which takes nothing.
)

// verdictOf is the verdict on an error of a write.
func verdictOf(err error) verdict {
	if err == unix.ETIMEDOUT {
		return verdictStuck
	}
	return verdictBroken
}

// reason is why a connection with that verdict ends.
func (v verdict) reason() Reason {
	switch v {
	case verdictBroken:
		return ReasonWriteError
	case verdictStuck:
		return ReasonNoProgress
	case verdictSlow:
		return ReasonSlow
	default:
		return ReasonNone
	}
}

// aborts reports whether nothing more can be said to a connection that ends for r.
func (r Reason) aborts() bool { return r == ReasonWriteError || r == ReasonNoProgress }

// parked is a list of chunks that may not go into an outbox yet. The sender counts their bytes.
type parked struct {
	chunks []chunk
	cost   int
}
