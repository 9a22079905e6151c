package shard

import "wsd/internal/proto"

// Reason says why a connection ended. The list is closed: a reason is the metric label, the log field and, through its codes,
// what the client sees.
type Reason uint8

// The reasons, in the order of their metric labels.
const (
	ReasonNone              Reason = iota
	ReasonClient                   // The client sent a close frame.
	ReasonGone                     // The client closed or reset its socket without a close frame.
	ReasonHTTP                     // A plain HTTP request was answered: /healthz or the 426 help line.
	ReasonHandshakeRejected        // The upgrade request was refused with an HTTP status.
	ReasonHandshakeTimeout         // No complete upgrade request within client.handshake_timeout.
	ReasonProtocolError            // A frame broke RFC 6455.
	ReasonTooBig                   // A message exceeded client.message_max.
	ReasonFrameTimeout             // A frame or message stayed incomplete for client.frame_timeout.
	ReasonBadRequest               // A command broke the client protocol.
	ReasonNotAvailable             // A command asked for what this server does not do.
	ReasonStale                    // No connect command within client.stale_close_delay.
	ReasonSlow                     // More than client.outbound_max bytes were waiting, or bus.pinned_max for all.
	ReasonNoPong                   // No pong within client.pong_timeout.
	ReasonInsufficientState        // Messages were missed, or the stream became another one; see recall.go.
	ReasonShutdown                 // The server is stopping.
	ReasonWriteError               // The socket refused a write.
	ReasonInternal                 // The kernel refused to watch the socket, or a bug.
	reasonCount
)

// closing is how a reason reads in metrics and on the wire: a WebSocket code for raw clients and a disconnect of the client
// protocol. A zero code means that the socket is closed without a close frame.
type closing struct {
	label    string
	raw      uint16
	rawText  string
	protocol proto.Disconnect
}

var closings = [reasonCount]closing{
	ReasonNone:              {label: "none"},
	ReasonClient:            {label: "client"},
	ReasonGone:              {label: "gone"},
	ReasonHTTP:              {label: "http"},
	ReasonHandshakeRejected: {label: "handshake_rejected"},
	ReasonHandshakeTimeout:  {label: "handshake_timeout"},
	ReasonProtocolError:     {label: "protocol_error", raw: 1002, rawText: "protocol error"},
	ReasonTooBig:            {label: "too_big", raw: 1009, rawText: "message too big"},
	ReasonFrameTimeout:      {label: "frame_timeout", raw: 1008, rawText: "message incomplete for too long", protocol: proto.DisconnectStale},
	ReasonBadRequest:        {label: "bad_request", raw: 1008, rawText: "bad request", protocol: proto.DisconnectBadRequest},
	ReasonNotAvailable:      {label: "not_available", raw: 1008, rawText: "not available", protocol: proto.DisconnectNotAvailable},
	ReasonStale:             {label: "stale", raw: 1008, rawText: "stale", protocol: proto.DisconnectStale},
	ReasonSlow:              {label: "slow", raw: 1008, rawText: "slow", protocol: proto.DisconnectSlow},
	ReasonNoPong:            {label: "no_pong", raw: 1008, rawText: "no pong", protocol: proto.DisconnectNoPong},
	ReasonInsufficientState: {label: "insufficient_state", raw: 1013, rawText: "messages were missed, reconnect", protocol: proto.DisconnectInsufficientState},
	ReasonShutdown:          {label: "shutdown", raw: 1001, rawText: "shutdown", protocol: proto.DisconnectShutdown},
	ReasonWriteError:        {label: "write_error"},
	ReasonInternal:          {label: "internal", raw: 1011, rawText: "internal error", protocol: proto.DisconnectInternal},
}

// String is the metric label of r.
func (r Reason) String() string { return closings[r].label }

// dropsQueue reports whether what waits for the connection goes with it, as the client does not read.
func (r Reason) dropsQueue() bool { return r == ReasonSlow || r == ReasonNoPong }

// Reasons lists every reason that a connection can end for, in label order.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonCount-1)
	for r := ReasonNone + 1; r < reasonCount; r++ {
		all = append(all, r)
	}
	return all
}
