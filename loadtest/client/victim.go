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
	// sendBufferMax is what the kernel holds at most of a connection on the server's side: twice a client.kernel_send_buffer of 64 KiB.
	sendBufferMax = 128 << 10
	// unansweredMin is how long a client must not read before it can be late with a pong: less than client.pong_timeout.
	unansweredMin = 5 * time.Second
	// lagMax is how far behind a shard can be without being detached: more than bus.stall_max.
	lagMax = 5 * time.Second
	// readBytes is what is read in one go.
	readBytes = 16 << 10
)

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

// victim is one connection of a disturber. It belongs to its goroutine.
type victim struct {
	d    *Disturbers
	conn *net.TCPConn
	n    Disturbed // Of this connection.

	floor    uint64    // Records up to this are not for this connection.
	due      uint64    // What others had got lagMax before the end of a stop or slow reading.
	must     uint64    // Records after this are.
	last     uint64    // Last record that came; 0: none.
	gotAt    time.Time // When anything came last.
	upTo     int64     // When the newest record that came was made: what the server sent before has come.
	leaving  bool
	end      ending
	reader   wire.Reader
	in       []byte // What came and is not complete.
	closed   string // Code and text of the server's close frame.
	sentHead bool   // The whole upgrade request is sent.
	buffer   int    // What the kernel held at most on our side, when the connection was ended.
	noCause  bool   // When the connection was ended, the server had no reason to do so.
}

func (v *victim) ended() bool { return v.end != endNone }

// has is the last record that came or that was not for this connection.
func (v *victim) has() uint64 { return max(v.last, v.floor) }

// behind is how many records may have been published for the connection and have not come.
func (v *victim) behind() uint64 {
	produced := v.d.o.Channel.Produced()
	return produced - min(produced, v.has())
}

// frameBytes is what a record takes on the wire.
func (v *victim) frameBytes() int {
	size := v.d.o.Channel.Format.Size()
	return size + len(wire.AppendHeader(nil, ws.OpText, size))
}

// mayBeSlow says whether the server may have a reason to end the connection as slow.
func (v *victim) mayBeSlow() bool {
	return v.behind()*uint64(v.frameBytes()+recordOverhead)+othersMax > uint64(v.d.o.OutboundMax)
}

// noCauseYet says that the server has no reason to end the connection: neither can enough wait, nor can a pong be late.
func (v *victim) noCauseYet() bool {
	return !v.mayBeSlow() && (v.behind() == 0 || v.d.o.Now()-v.upTo < int64(unansweredMin))
}

// upgradeReset sends a part of the upgrade request, or all of it, and resets without reading.
func (v *victim) upgradeReset(ctx context.Context, chance *rand.Rand) {
	part := v.d.request[:chance.IntN(len(v.d.request)+1)]
	if !v.write(part) {
		return
	}
	v.sentHead = len(part) == len(v.d.request)
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
			status, _, err := wire.ParseClientResponse(v.in[:used], v.d.key)
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

// holdUp does not read, or reads slowly, for a while. A shard may be behind others, but for no longer than lagMax: what others have got before
// is with this connection's shard at the end.
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
	for deadline := v.gotAt.Add(catchUpMax); v.has() < target && v.readOn(); {
		if time.Now().After(deadline) {
			return false // A small buffer can take so long: one window each time that the other end's timer asks.
		}
	}
	if tooMuch && !v.ended() {
		v.n.TooLate++
	}
	return !v.ended()
}

// readOn reads once, for a client that is to get something, and reports whether the connection goes on. When nothing comes for stuckAfter it resets
// the connection.
func (v *victim) readOn() bool {
	v.take(v.gotAt.Add(stuckAfter), readBytes)
	if !v.ended() && time.Since(v.gotAt) >= stuckAfter {
		v.n.Stuck++
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

// write writes b, which is so short that the kernel takes it at once, and reports whether the connection goes on. If not, what the server
// said before is read.
func (v *victim) write(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	_ = v.conn.SetWriteDeadline(time.Now().Add(answerTimeout)) // Fails only for a closed socket.
	if _, err := v.conn.Write(b); err == nil {
		return true
	}
	for v.gotAt = time.Now(); v.readOn(); {
	}
	return false
}

// take reads once, at most size bytes, and acts on what is then complete.
func (v *victim) take(deadline time.Time, size int) {
	at := len(v.in)
	v.in = append(v.in, make([]byte, size)...)
	_ = v.conn.SetReadDeadline(deadline)
	n, err := v.conn.Read(v.in[at:])
	v.in = v.in[:at+n]
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
	v.noCause = v.noCauseYet()
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
			_ = v.conn.SetWriteDeadline(time.Now().Add(answerTimeout))
			_, _ = v.conn.Write(wire.AppendMasked(nil, ws.OpPong, payload, mask))
		case wire.EventClose:
			v.closeFrame(payload)
		case wire.EventNone, wire.EventFragment, wire.EventPong:
		case wire.EventDeflatedText, wire.EventDeflatedBinary: // The reader refuses them, as compression was not negotiated.
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
	switch next := v.last + 1; {
	case v.last == 0 && seq <= v.floor || v.last > 0 && seq < next:
		v.n.Duplicates++
	case v.last == 0 && seq > v.must+1:
		v.n.Lost += seq - v.must - 1
	case v.last > 0 && seq > next:
		v.n.Lost += seq - next
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

// account closes the socket and counts how the connection has ended.
func (v *victim) account() {
	_ = v.conn.Close() // It may have been reset.
	if v.end == endReset {
		v.noCause = v.noCauseYet() // Now, because records may have been made in between.
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
	case endReset:
		if v.noCause {
			v.n.ResetClear++
		} else {
			v.n.ResetBehind++
		}
		v.unread(true)
	case endLeft:
		v.n.Left++
	case endFrame:
		count(&v.n.Frames, v.closed)
		if v.noCause {
			v.n.TooEarly++
		}
		v.unread(false) // All that the kernel took has come, with the close frame behind it.
	case endCut:
		v.n.Cut++
		if v.noCause {
			v.n.Unexplained++
		}
		v.unread(true)
	}
}

// unread counts what may have been published for the connection and did not come; lossy says that the kernel may have taken some of it.
func (v *victim) unread(lossy bool) {
	behind := v.behind()
	v.n.UnreadMax += behind
	v.n.Unread++
	if !lossy {
		return
	}
	v.n.InKernel++
	v.n.InKernelMax += min(behind, uint64((sendBufferMax+v.buffer)/v.frameBytes()+1))
	// A batch has at most half of what may wait.
	v.n.PartialMax += min(uint64(v.n.Deliveries), uint64(v.d.o.OutboundMax/2/v.frameBytes()+1))
}
