package client

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/centrifugal/protocol"
	"github.com/gobwas/ws"

	"wsd/internal/wire"
)

// position is where a client is in its channel's stream, for recovery.
type position struct {
	epoch  string
	offset uint64
}

// commands returns the frame with the connect and subscribe commands of a client.
func (l *loop) commands(who int32) []byte {
	c := &l.conns[who]
	subscribe := &protocol.SubscribeRequest{Channel: l.e.o.Channels[c.channel].Name}
	if l.e.o.Recover {
		subscribe.Positioned, subscribe.Recoverable = true, true
	}
	if p := c.position; p != nil && p.epoch != "" {
		subscribe.Recover, subscribe.Epoch, subscribe.Offset = true, p.epoch, p.offset
	}
	list := []*protocol.Command{
		{Id: 1, Connect: &protocol.ConnectRequest{Token: l.token(who)}}, {Id: 2, Subscribe: subscribe},
	}
	if l.e.o.Protocol == Protobuf {
		var b []byte
		for _, command := range list {
			encoded, err := command.MarshalCF()
			if err != nil {
				panic(fmt.Sprintf("BUG: encode a command: %v", err))
			}
			b = append(binary.AppendUvarint(b, uint64(len(encoded))), encoded...)
		}
		return wire.AppendMasked(nil, ws.OpBinary, b, mask)
	}
	var lines [][]byte
	for _, command := range list {
		line, err := json.Marshal(command)
		if err != nil {
			panic(fmt.Sprintf("BUG: encode a command: %v", err))
		}
		lines = append(lines, line)
	}
	return wire.AppendMasked(nil, ws.OpText, bytes.Join(lines, []byte("\n")), mask)
}

// message handles one complete message.
func (l *loop) message(who int32, payload []byte) {
	c := &l.conns[who]
	switch l.e.o.Protocol {
	case Raw:
		l.record(who, payload, len(payload))
	case JSON:
		for line := range bytes.SplitSeq(bytes.TrimSuffix(payload, []byte("\n")), []byte("\n")) {
			if c.fd < 0 {
				return
			}
			l.object(who, line)
		}
	case Protobuf:
		for len(payload) > 0 && c.fd >= 0 {
			size, n := binary.Uvarint(payload)
			if n <= 0 || size > uint64(len(payload)-n) {
				l.n.Unexpected++
				return
			}
			l.envelope(who, payload[n:n+int(size)])
			payload = payload[n+int(size):]
		}
	}
}

// Parts of the JSON protocol. The server writes no white space; with white space an object would count as unexpected.
var (
	pushStart  = []byte(`{"push":`)
	valueStart = []byte(seqKey)
	offsetKey  = []byte(`"offset":`)
	jsonPong   = wire.AppendMasked(nil, ws.OpText, []byte("{}"), mask)
	binaryPong = wire.AppendMasked(nil, ws.OpBinary, []byte{0}, mask)
)

// object handles one object of the JSON protocol. It searches for the record, because parsing would cost more than all
// else that a client does.
func (l *loop) object(who int32, line []byte) {
	c := &l.conns[who]
	if string(line) == "{}" {
		l.n.Pings++
		l.send(who, jsonPong)
		return
	}
	if !bytes.HasPrefix(line, pushStart) {
		var r protocol.Reply
		if err := json.Unmarshal(line, &r); err != nil {
			l.n.Unexpected++
			return
		}
		l.reply(who, &r)
		return
	}
	start := bytes.Index(line, valueStart)
	if start < 0 {
		l.n.Unexpected++
		return
	}
	size := l.e.o.Channels[c.channel].Format.size
	// A comma or brace follows the value. Anything else means that the value is longer.
	end := start + size
	if end >= len(line) || line[end] != ',' && line[end] != '}' {
		l.record(who, line[start:], -1)
		return
	}
	l.record(who, line[start:end], size)
	if c.position != nil {
		if at := bytes.Index(line[end:], offsetKey); at >= 0 {
			number := line[end+at+len(offsetKey):]
			c.position.offset, _ = digits(number[:max(0, bytes.IndexAny(number, ",}"))])
		}
	}
}

// envelope handles one reply of the Protobuf protocol.
func (l *loop) envelope(who int32, b []byte) {
	if len(b) == 0 {
		l.n.Pings++
		l.send(who, binaryPong)
		return
	}
	var r protocol.Reply
	if err := r.UnmarshalCF(b); err != nil {
		l.n.Unexpected++
		return
	}
	switch {
	case r.Push == nil:
		l.reply(who, &r)
	case r.Push.Pub == nil:
		l.n.Unexpected++
	default:
		l.publication(who, r.Push.Pub)
	}
}

func (l *loop) publication(who int32, p *protocol.Publication) {
	l.record(who, p.Data, len(p.Data))
	if c := &l.conns[who]; c.position != nil {
		c.position.offset = p.Offset
	}
}

// reply handles the reply to the connect or the subscribe command.
func (l *loop) reply(who int32, r *protocol.Reply) {
	c := &l.conns[who]
	switch {
	case c.state != stateCommands:
		l.n.Unexpected++
	case r.Error != nil && (r.Error.Temporary || r.Error.Code < 100):
		l.refused(who, fmt.Sprintf("error %d %s", r.Error.Code, r.Error.Message), 0)
	case r.Error != nil:
		l.giveUp(who, fmt.Sprintf("error %d %s", r.Error.Code, r.Error.Message))
	case r.Id == 2:
		l.subscribed(who, r.Subscribe)
	}
}

func (l *loop) subscribed(who int32, s *protocol.SubscribeResult) {
	c := &l.conns[who]
	if s == nil {
		s = &protocol.SubscribeResult{}
	}
	asked := c.position != nil && c.position.epoch != ""
	l.held(who, asked && s.Recovered)
	if c.position == nil {
		return
	}
	if asked && !s.Recovered {
		c.order.begin(l.e.o.Channels[c.channel].Produced())
	}
	if len(s.Publications) == 0 && !(asked && s.Recovered) {
		c.position.offset = s.Offset
	}
	c.position.epoch = s.Epoch
	for _, p := range s.Publications {
		l.publication(who, p)
	}
}
