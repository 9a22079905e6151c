package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"wsd/internal/wire"
)

// What the server needs at least for a record that waits, beside its bytes, and what else may wait: pings and answers.
const (
	recordOverhead = 64
	othersMax      = 4 << 10
)

const (
	// sendBufferMax is what the kernel holds at most of a connection on the server's side: twice a
	// client.kernel_send_buffer of 64 KiB.
	sendBufferMax = 128 << 10
	// shortestUnanswered is how long a client must not read before it can be late with a pong: less than
	// client.pong_timeout.
	shortestUnanswered = 5 * time.Second
	// lagMax is how far behind a shard can be without being detached: more than bus.stall_max.
	lagMax = 5 * time.Second
	// readBytes is what is read in one go.
	readBytes = 16 << 10
)

// victim is one connection of a disturber. It belongs to its goroutine.
type victim struct {
	d    *Disturbers
	conn *net.TCPConn
	n    Disturbed // Of this connection.

	floor      uint64    // Records up to this are not for this connection.
	due        uint64    // What others had got lagMax before the end of a stop or slow reading.
	must       uint64    // Records after this are.
	last       uint64    // Last record that came; 0: none.
	gotAt      time.Time // When anything came last.
	upTo       int64     // When the newest record that came was made: what the server sent before has come.
	leaving    bool
	end        ending
	reader     wire.Reader
	in         []byte // What came and is not complete.
	closed     string // Code and text of the server's close frame.
	sentHead   bool   // The whole upgrade request is sent.
	silent     bool   // Nothing is sent, and nothing will be.
	buffer     int    // What the kernel held at most on our side, when the connection was ended.
	slow, late bool   // When the connection was ended, the server may have had this reason to.
	noCause    bool   // It had none.
}

func (v *victim) ended() bool { return v.end != endNone }

// has is the last record that came or that was not for this connection.
func (v *victim) has() uint64 { return max(v.last, v.floor) }

// behind is how many records may have been published for the connection and have not come.
func (v *victim) behind() uint64 {
	produced := v.d.o.Channel.Produced()
	return produced - min(produced, v.has())
}

// owed says whether a record up to last must still come. The first records after the subscription may not: others may
// have got them before.
func (v *victim) owed(last uint64) bool { return v.has() < last && (v.last > 0 || v.must < last) }

// frameBytes is what a record takes on the wire.
func (v *victim) frameBytes() int {
	size := v.d.o.Channel.Format.Size()
	return size + len(wire.AppendHeader(nil, ws.OpText, size))
}

// upgradeReset sends a part of the upgrade request, or all of it, and resets without reading.
func (v *victim) upgradeReset(ctx context.Context, chance *rand.Rand) {
	part := v.d.request[:chance.IntN(len(v.d.request)+1)]
	if !v.write(part) {
		return
	}
	v.sentHead, v.silent = len(part) == len(v.d.request), len(part) == 0
	pause(ctx, time.Duration(chance.Int64N(int64(upgradeHoldMax))))
	v.resetSocket()
	v.end = endUpgrade
}

// upgrade asks for the upgrade and reads the answer. It reports whether that was 101.
func (v *victim) upgrade() bool {
	if !v.write(v.d.request) {
		return false
	}
	v.sentHead = true
	v.gotAt = time.Now()
	for {
		if used := wire.HeadLen(v.in, 0); used > 0 {
			status, _, err := wire.ParseClientResponse(v.in[:used], v.d.key, false)
			switch {
			case err != nil:
				count(&v.n.NotUpgraded, err.Error())
				v.n.Corrupt++
				v.resetSocket()
				v.end = endUpgrade
				return false
			case status != http.StatusSwitchingProtocols:
				count(&v.n.NotUpgraded, fmt.Sprintf("HTTP %d", status))
				v.end = endRefused
				return false
			}
			v.n.Upgraded++
			v.must = v.d.o.Channel.Produced()
			v.in = v.in[used:]
			v.consume()
			return !v.ended()
		}
		if !v.readOn() {
			count(&v.n.NotUpgraded, "no answer")
			return false
		}
	}
}

// read reads all that comes.
func (v *victim) read(ctx context.Context, d time.Duration) {
	for deadline := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(deadline) && !v.ended(); {
		v.take(deadline, readBytes)
	}
}

// holdUp does not read, or reads slowly, for a while. A shard may be behind others, but for no longer than lagMax: what
// others have got before is with this connection's shard at the end.
func (v *victim) holdUp(d time.Duration, how func(time.Duration)) {
	v.due = 0
	if d > lagMax {
		how(d - lagMax)
		v.due, d = v.d.o.Seen(), lagMax
	}
	if !v.ended() {
		how(d)
	}
}

// readSlowly reads rate bytes a second, in ten portions.
func (v *victim) readSlowly(ctx context.Context, d time.Duration, rate int) {
	for deadline := time.Now().Add(d); ctx.Err() == nil && time.Now().Before(deadline) && !v.ended(); {
		pause(ctx, 100*time.Millisecond)
		v.take(time.Now().Add(time.Millisecond), max(1, rate/10))
	}
}

// catchUp reads until everything has come that was produced when it began, and reports whether it has.
func (v *victim) catchUp() bool {
	// What the server must hold if it has not closed the connection: what others have got and this one not.
	waiting := (v.due - min(v.due, v.has())) * uint64(v.frameBytes())
	tooMuch := waiting > uint64(v.d.o.OutboundMax+sendBufferMax+v.receiveBuffer()+v.frameBytes())
	target := v.d.o.Channel.Produced()
	v.gotAt = time.Now()
	for deadline := v.gotAt.Add(catchUpMax); v.owed(target) && v.readOn(); {
		if time.Now().After(deadline) {
			return false // A small buffer can take so long: one window each time that the other end's timer asks.
		}
	}
	if tooMuch && !v.ended() {
		v.n.TooLate++
		v.fault("not closed though others had up to %d", v.due)
	}
	return !v.ended()
}

// readOn reads once, for a client that is to get something, and reports whether the connection goes on. When nothing
// comes for stuckAfter it resets the connection.
func (v *victim) readOn() bool {
	v.take(v.gotAt.Add(stuckAfter), readBytes)
	if !v.ended() && time.Since(v.gotAt) >= stuckAfter {
		v.n.Stuck++
		v.fault("nothing came for %s", stuckAfter)
		v.resetSocket()
		if v.end = endReset; v.n.Upgraded == 0 {
			v.end = endUpgrade
		}
	}
	return !v.ended()
}

// leave ends the connection in order.
func (v *victim) leave() {
	v.leaving = true
	if !v.write(wire.AppendMasked(nil, ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""), mask)) {
		return
	}
	for v.gotAt = time.Now(); v.readOn(); {
	}
}

// reset resets the connection, perhaps with a part of a frame before.
func (v *victim) reset(chance *rand.Rand) {
	if chance.Float64() < chanceHalfFrame {
		frame := wire.AppendMasked(nil, ws.OpText, make([]byte, 100), mask)
		if !v.write(frame[:1+chance.IntN(len(frame)-1)]) {
			return
		}
		v.n.HalfFrames++
	}
	v.resetSocket()
	v.end = endReset
}

// resetSocket closes the socket so that the kernel sends a RST.
func (v *victim) resetSocket() {
	v.buffer = v.receiveBuffer()
	_ = v.conn.SetLinger(0) // Fails only for a closed socket.
	_ = v.conn.Close()
}

// write writes b, which is so short that the kernel takes it at once, and reports whether the connection goes on. If
// not, what the server said before is read.
func (v *victim) write(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	_ = v.conn.SetWriteDeadline(time.Now().Add(responseTimeout)) // Fails only for a closed socket.
	if _, err := v.conn.Write(b); err == nil {
		return true
	}
	for v.gotAt = time.Now(); v.readOn(); {
	}
	return false
}

// take reads once, at most size bytes, and acts on what is then complete.
func (v *victim) take(deadline time.Time, size int) {
	had := len(v.in)
	v.in = append(v.in, make([]byte, size)...)
	_ = v.conn.SetReadDeadline(deadline)
	n, err := v.conn.Read(v.in[had:])
	v.in = v.in[:had+n]
	if n > 0 {
		v.gotAt = time.Now()
	}
	if v.n.Upgraded > 0 {
		v.consume()
	}
	switch {
	case v.ended() || err == nil || errors.Is(err, os.ErrDeadlineExceeded):
	default:
		v.cut()
	}
}

func (v *victim) cut() {
	v.judge()
	v.buffer = v.receiveBuffer()
	v.end = endCut
}

// consume acts on the complete frames that came.
func (v *victim) consume() {
	b := v.in
	for !v.ended() {
		ev, payload, n, failure := v.reader.Next(b, wire.RoleClient, messageMax)
		if failure != nil {
			v.n.Corrupt++
			v.cut()
			break
		}
		if n == 0 {
			break
		}
		b = b[n:]
		switch ev {
		case wire.EventText, wire.EventBinary:
			v.record(payload)
		case wire.EventPing:
			// Whether it worked shows in the next read.
			_ = v.conn.SetWriteDeadline(time.Now().Add(responseTimeout))
			_, _ = v.conn.Write(wire.AppendMasked(nil, ws.OpPong, payload, mask))
		case wire.EventClose:
			v.closeFrame(payload)
		case wire.EventNone, wire.EventFragment, wire.EventPong:
		// The reader refuses them, as compression was not negotiated.
		case wire.EventDeflatedText, wire.EventDeflatedBinary:
		}
	}
	v.in = append(v.in[:0], b...)
}

func (v *victim) closeFrame(payload []byte) {
	code, text, failure := wire.CloseCode(payload)
	switch {
	case failure != nil:
		v.n.Corrupt++
		v.cut()
	case v.leaving && code == uint16(ws.StatusNormalClosure):
		v.end = endLeft
	default:
		v.closed = fmt.Sprintf("%d %s", code, text)
		v.noCause = v.closed == closedSlow && !v.mayBeSlow()
		v.end = endFrame
	}
}

// record checks one record.
func (v *victim) record(b []byte) {
	f := v.d.o.Channel.Format
	seq, made, verdict := f.parse(b)
	switch {
	case verdict == recordForeign:
		v.n.Foreign++
		return
	case verdict == recordCorrupt || len(b) != f.Size():
		v.n.Corrupt++
		return
	}
	v.n.Deliveries++
	next := v.last + 1
	if v.last == 0 {
		next = v.must + 1
	}
	switch {
	case v.last == 0 && seq <= v.floor || v.last > 0 && seq < next:
		v.n.Duplicates++
		v.fault("record %d came again", seq)
	case seq > next:
		v.n.Lost += seq - next
		v.fault("record %d came instead of %d", seq, next)
	}
	v.last, v.upTo = max(v.last, seq), max(v.upTo, made)
}

// receiveBuffer is what the kernel holds at most of the connection on our side.
func (v *victim) receiveBuffer() (n int) {
	raw, err := v.conn.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
	}
	if err != nil {
		return 0
	}
	return n
}
