package client

import "fmt"

// closedSlow is what the server's close frame says to a client that does not keep up.
const closedSlow = "1008 slow"

// ending is how a connection of a disturber has ended.
type ending uint8

const (
	endNone    ending = iota
	endRefused        // The server answered by another status than 101.
	endUpgrade        // Reset by us before the upgrade.
	endReset          // Reset by us.
	endLeft           // Our close frame was answered.
	endFrame          // The server's close frame.
	endCut            // End of the stream or reset by the server, without a close frame.
)

// mayBeSlow says whether the server may have a reason to end the connection as slow.
func (v *victim) mayBeSlow() bool {
	return v.behind()*uint64(v.frameBytes()+recordOverhead)+othersMax > uint64(v.d.o.OutboundMax)
}

// mayBeLate says whether a pong may be late: of what the server sent before shortestUnanswered, not all has come.
func (v *victim) mayBeLate() bool {
	return v.behind() > 0 && v.d.o.Now()-v.upTo >= int64(shortestUnanswered)
}

// judge notes which reasons the server may have to end the connection now.
func (v *victim) judge() {
	v.slow, v.late = v.mayBeSlow(), v.mayBeLate()
	v.noCause = !v.slow && !v.late
}

// countCauses counts what judge has noted.
func (v *victim) countCauses() {
	if v.slow {
		v.n.MayBeSlow++
	}
	if v.late {
		v.n.MayBeLate++
	}
}

// fault notes what was wrong with the connection.
func (v *victim) fault(format string, args ...any) {
	v.n.fault(fmt.Sprintf("%s: %s (last record %d, up to %d before it connected, up to %d before it was upgraded; "+
		"others have %d, Kafka was given %d)",
		v.conn.LocalAddr(), fmt.Sprintf(format, args...), v.last, v.floor, v.must, v.d.o.Seen(),
		v.d.o.Channel.Produced()))
}

// account closes the socket and counts how the connection has ended.
func (v *victim) account() {
	_ = v.conn.Close() // It may have been reset.
	if v.end == endReset {
		v.judge() // Now, because records may have been made in between.
	}
	switch v.end {
	case endNone:
		panic("BUG: a disturber has left a connection without ending it")
	case endRefused:
		v.n.Refused++
	case endUpgrade:
		v.n.ResetUpgrade++
		if v.sentHead {
			v.n.ResetWhole++
			v.unread(true)
		}
		if v.silent {
			v.n.ResetSilent++
		}
	case endReset:
		if v.noCause {
			v.n.ResetClear++
		} else {
			v.n.ResetBehind++
			v.countCauses()
		}
		v.unread(true)
	case endLeft:
		v.n.Left++
	case endFrame:
		count(&v.n.Frames, v.closed)
		if v.noCause {
			v.n.TooEarly++
			v.fault("closed with %s", v.closed)
		}
		v.unread(false) // All that the kernel took has come, with the close frame behind it.
	case endCut:
		v.n.Cut++
		v.countCauses()
		if v.noCause {
			v.n.Unexplained++
			v.fault("cut by the server")
		}
		v.unread(true)
	}
}

// unread counts what may have been published for the connection and did not come; lossy says that the kernel may have
// taken some of it.
func (v *victim) unread(lossy bool) {
	behind := v.behind()
	v.n.UnreadMax += behind
	v.n.Unread++
	if !lossy {
		return
	}
	v.n.InKernel++
	v.n.InKernelMax += min(behind, uint64((sendBufferMax+v.buffer)/v.frameBytes()+1))
	if behind == 0 {
		return
	}
	// A part of a batch can have come only if the rest has not; a batch has at most half of what may wait.
	v.n.PartialMax += min(uint64(v.n.Deliveries), uint64(v.d.o.OutboundMax/2/v.frameBytes()+1))
}
