package shard

import "github.com/centrifugal/protocol"

// outlet is what the parts of a shard send to connections by, and fail them by. It notes whom the turn's flush has to
// look at, and who ends at the end of the turn; the shard does both.
type outlet struct {
	opts   *Options
	stats  *Stats
	sender *sender

	dirty  []uint32  // Slots of connections that the flush looks at.
	failed []connRef // Connections that end at the end of the turn, or of one of the next turns if they are many.
}

// queue has k sent by the turn's flush, whatever waits already: for what a connection must get.
func (l *outlet) queue(c *conn, k chunk) {
	if c.state != stateFree && c.state != stateFailed {
		l.sender.push(&c.out, k)
		l.markDirty(c)
	}
}

// queueReply has replies to commands sent by the turn's flush, unless too much waits already: a client that sends and
// does not read is slow.
func (l *outlet) queueReply(c *conn, k chunk) {
	if !c.isClient() {
		return
	}
	if v := l.sender.reply(&c.out, k); v != verdictOK {
		l.fail(c, v)
		return
	}
	l.markDirty(c)
}

// offer has k sent by the turn's flush, unless too much waits already: then c fails.
func (l *outlet) offer(c *conn, k chunk) {
	if !c.isClient() || len(k.bytes) == 0 {
		return
	}
	if v := l.sender.offer(&c.out, k); v != verdictOK {
		l.fail(c, v)
		return
	}
	l.markDirty(c)
}

// markDirty has the turn's flush look at c, unless it waits until its socket is writable.
func (l *outlet) markDirty(c *conn) {
	if !c.out.listed && !c.out.blocked {
		c.out.listed = true
		l.dirty = append(l.dirty, c.slot)
	}
}

// sendReply sends a reply that comes later than those of its frame.
func (l *outlet) sendReply(c *conn, r *protocol.Reply) { l.sendAs(c, r, kindReply) }

// sendAnswer is sendReply for a reply that may have publications.
func (l *outlet) sendAnswer(c *conn, r *protocol.Reply) { l.sendAs(c, r, kindAnswer) }

func (l *outlet) sendAs(c *conn, r *protocol.Reply, kind chunkKind) {
	d := c.speaks()
	payload, err := d.encoding.AppendReply(nil, r)
	if err != nil {
		l.encodeFailed(c, err)
		return
	}
	l.queueReply(c, chunk{bytes: d.frame(payload), kind: kind})
}

// encodeFailed ends a connection whose reply could not be encoded.
func (l *outlet) encodeFailed(c *conn, err error) {
	l.opts.Logger.Error("BUG: encode reply", "error", err)
	l.failFor(c, ReasonInternal)
}

// fail ends c for the verdict of an operation on its outbox, at the end of the turn: whoever asked may be walking a
// channel's subscribers, which the end of a connection changes. If more connections fail than a turn ends, c waits for
// one of the next turns. Until then nothing is queued for it, and nothing that it sends is read.
func (l *outlet) fail(c *conn, v verdict) { l.failFor(c, v.reason()) }

// failFor is fail for a reason of the caller's.
func (l *outlet) failFor(c *conn, reason Reason) {
	if !c.isClient() {
		return
	}
	if reason == ReasonSlow {
		l.stats.Slow[PolicyDisconnect].Add(1)
	}
	c.state, c.reason = stateFailed, reason
	l.failed = append(l.failed, connRef{c.slot, c.generation})
}
