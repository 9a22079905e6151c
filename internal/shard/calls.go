package shard

import (
	"slices"

	"wsd/internal/bus"
	"wsd/internal/proto"
)

// A call of the backend takes as long as the backend does. The connection goes on meanwhile, up to CallOptions.Max
// calls: then it is held until one of them has ended, so that a client which asks faster than the backend answers waits
// for it rather than gets errors. A connection that ends cancels its calls.

// calls are what connections have under way at the backend, by slot.
type calls struct {
	bySlot map[uint32]*callsOf
	bytes  int64 // Memory that they take.
}

// callsOf is what is known of one connection's calls.
type callsOf struct {
	header [][2]string // Of its upgrade request and its connect command.
	list   []*callUnderWay
	held   bool // The connection is held until a call ends.
	bytes  int64
}

// callUnderWay is a call whose answer has not been acted on.
type callUnderWay struct {
	cancel  func()
	bytes   int64
	command uint32 // Of CallSubscribe: to be replied to,
	channel string // and what it is for.
	over    bool   // The client has taken it back: the answer is for nobody.
}

// callBytes is what a call takes beside the request, and callsBytes what a connection with calls does.
const (
	callBytes  = 512
	callsBytes = 256
	fieldBytes = 48
)

// of returns what is known of c's calls, made if there is nothing.
func (cs *calls) of(c *conn) *callsOf {
	if c.known&knownCalls == 0 {
		if cs.bySlot == nil {
			cs.bySlot = make(map[uint32]*callsOf)
		}
		cs.bySlot[c.slot] = &callsOf{bytes: callsBytes}
		cs.bytes += callsBytes
		c.known |= knownCalls
	}
	return cs.bySlot[c.slot]
}

// find returns what is known of c's calls, nil if there is nothing.
func (cs *calls) find(c *conn) *callsOf {
	if c.known&knownCalls == 0 {
		return nil
	}
	return cs.bySlot[c.slot]
}

// memory returns how much of the sum is c's.
func (cs *calls) memory(c *conn) int64 {
	if of := cs.find(c); of != nil {
		return of.bytes
	}
	return 0
}

// holds reports whether c is held because of its calls.
func (cs *calls) holds(c *conn) bool {
	of := cs.find(c)
	return of != nil && of.held
}

func (cs *calls) add(of *callsOf, n int64) {
	of.bytes += n
	cs.bytes += n
}

// keepHeader keeps the fields that c's calls have, in place of those that it had before.
func (cs *calls) keepHeader(c *conn, fields [][2]string) {
	if len(fields) == 0 {
		return
	}
	of := cs.of(c)
	cs.add(of, fieldsBytes(fields)-fieldsBytes(of.header))
	of.header = fields
}

func fieldsBytes(fields [][2]string) (n int64) {
	for _, f := range fields {
		n += int64(fieldBytes + len(f[1]))
	}
	return n
}

// remove takes a call off the list.
func (cs *calls) remove(c *conn, u *callUnderWay) {
	of := cs.of(c)
	i := slices.Index(of.list, u)
	of.list = slices.Delete(of.list, i, i+1)
	cs.add(of, -u.bytes)
	if len(of.list) == 0 {
		of.list = nil
		if of.header == nil && !of.held {
			cs.drop(c, of)
		}
	}
}

func (cs *calls) drop(c *conn, of *callsOf) {
	cs.bytes -= of.bytes
	delete(cs.bySlot, c.slot)
	c.known &^= knownCalls
	if len(cs.bySlot) == 0 {
		cs.bySlot = nil // It may have been large.
	}
}

// forget cancels c's calls, as it ends.
func (cs *calls) forget(c *conn) {
	of := cs.find(c)
	if of == nil {
		return
	}
	for _, u := range of.list {
		u.cancel()
	}
	cs.drop(c, of)
}

// pending returns c's call for a subscription to a channel, nil if there is none.
func (cs *calls) pending(c *conn, channel string) *callUnderWay {
	of := cs.find(c)
	if of == nil {
		return nil
	}
	for _, u := range of.list {
		if u.channel == channel && !u.over {
			return u
		}
	}
	return nil
}

// pendingCount returns for how many subscriptions c has calls.
func (cs *calls) pendingCount(c *conn) (n int) {
	if of := cs.find(c); of != nil {
		for _, u := range of.list {
			if u.channel != "" && !u.over {
				n++
			}
		}
	}
	return n
}

// newCall returns a call of c with what all kinds have.
func (s *Shard) newCall(c *conn, kind CallKind) *Call {
	who := s.who(c)
	k := &Call{
		Kind: kind, Client: s.clientID(c), Binary: c.variant == bus.VariantProtobuf, User: who.User, Meta: who.Meta,
	}
	if of := s.calls.find(c); of != nil {
		k.Header, k.Ahead = of.header, len(of.list)
	}
	return k
}

// bytes returns about how much memory a call takes that its connection does not hold otherwise.
func (k *Call) bytes() int64 {
	n := callBytes + len(k.Data) + len(k.Method) + len(k.Channel) + len(k.Token) + len(k.Name) + len(k.Version)
	for _, name := range k.Channels {
		n += 16 + len(name)
	}
	return int64(n)
}

// callWay says how a call is made.
type callWay struct {
	hold    bool   // Hold the connection until the answer.
	server  bool   // The client did not ask for it: the connection is never held.
	command uint32 // See callUnderWay.
	// prepare makes what the answer becomes, and returns its bytes in memory. Any goroutine. Nil: nothing to make.
	prepare func(a *CallAnswer) int
	// answered acts on the answer. room says whether the connection has room for what was prepared.
	answered func(c *conn, a *CallAnswer, room bool)
}

// call makes a call of c. If it cannot be made now, call returns the error for the client.
func (s *Shard) call(c *conn, k *Call, way callWay) *proto.Error {
	if s.refusesAnswers() {
		return proto.ErrInternal
	}
	work := s.inbox.begin(c)
	if work == nil {
		return proto.ErrInternal
	}
	u := &callUnderWay{bytes: k.bytes(), command: way.command}
	if k.Kind == CallSubscribe {
		u.channel = k.Channel
	}
	of := s.calls.of(c)
	of.list = append(of.list, u)
	s.calls.add(of, u.bytes)
	if way.hold || !way.server && len(of.list) >= s.opts.Calls.Max {
		of.held = true
		s.hold(c)
	}
	u.cancel = s.opts.Calls.Backend.Call(k, func(a *CallAnswer) {
		bytes := a.bytes()
		if way.prepare != nil {
			bytes = way.prepare(a)
		}
		work.post(bytes, way.prepare != nil, func(c *conn, room bool) { s.callEnded(c, u, a, room, way.answered) })
	})
	return nil
}

// callEnded acts on the answer to a call of c.
func (s *Shard) callEnded(
	c *conn, u *callUnderWay, a *CallAnswer, room bool, answered func(*conn, *CallAnswer, bool),
) {
	of := s.calls.of(c)
	held := of.held
	of.held = false
	s.calls.remove(c, u)
	if held {
		if s.unhold(c); c.state == stateFree {
			return
		}
	}
	if !u.over {
		answered(c, a, room)
	}
	if held {
		s.goOnHeld(c)
	}
}

// endForBackend closes c as the backend wants it.
func (s *Shard) endForBackend(c *conn, d *proto.Disconnect) {
	s.endAsTold(c, ReasonBackend, d.Code, d.Reason)
}
