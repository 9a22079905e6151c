package shard

import "time"

// pause is a stream that goes on at a tick.
type pause struct {
	tick uint32
	conn connRef
	rec  *recovery
}

// pauseKind says how long a pause is.
type pauseKind uint8

const (
	pauseStart pauseKind = iota // startPause.
	pauseRetry                  // retryPause.
	pauseKinds
)

// pauses are the streams that wait. Pauses of one kind end in the order in which they began, so each kind is a queue:
// adding one costs the same however many there are.
type pauses [pauseKinds][]pause

// add adds a pause that begins now.
func (ps *pauses) add(kind pauseKind, now uint32, p pause) {
	p.tick = now + ticks([pauseKinds]time.Duration{startPause, retryPause}[kind])
	ps[kind] = append(ps[kind], p)
}

// pop removes a pause that is over at a tick, and reports whether there is one.
func (ps *pauses) pop(now uint32) (p pause, ok bool) {
	kind, at := ps.first()
	if at == 0 || at > now {
		return pause{}, false
	}
	list := ps[kind]
	p, list[0] = list[0], pause{}
	if ps[kind] = list[1:]; len(list) == 1 {
		ps[kind] = nil
	}
	return p, true
}

// wakeAt returns the tick at which the first pause ends; 0: there is none.
func (ps *pauses) wakeAt() uint32 {
	_, at := ps.first()
	return at
}

// first returns the kind of the pause that ends first and its tick, 0 if there is none.
func (ps *pauses) first() (kind pauseKind, at uint32) {
	for k := range ps {
		if list := ps[k]; len(list) > 0 && (at == 0 || list[0].tick < at) {
			kind, at = pauseKind(k), list[0].tick
		}
	}
	return kind, at
}
