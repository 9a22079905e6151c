package shard

import (
	"log/slog"

	"wsd/internal/proto"
)

// Reason says why a connection ended. The list is closed: a reason is the metric label, the log field and, through
// its codes, what the client sees.
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
	ReasonTooManyRequests          // The client sent more than its allowance, see allowance.go.
	ReasonNotAvailable             // A command asked for what this server does not do.
	ReasonStale                    // No connect command within client.stale_close_delay.
	ReasonSlow                     // More than client.outbound_max bytes were waiting, or bus.pinned_max for all.
	ReasonNoPong                   // No pong within client.pong_timeout.
	ReasonNoProgress               // The client took no byte within client.progress_timeout.
	ReasonInsufficientState        // Messages were missed, or the stream became another one; see recall.go.
	ReasonMemory                   // Memory for clients was short, and it held most of it.
	ReasonShutdown                 // The server is stopping.
	ReasonWriteError               // The socket refused a write.
	ReasonInternal                 // The kernel refused to watch the socket, or a bug.
	ReasonAge                      // It was connected for limits.age.
	ReasonIdle                     // It had no subscription for limits.idle.
	ReasonAdmission                // The server is overloaded, and the kernel could not refuse the connection.
	ReasonTLS                      // Its TLS handshake failed, or what it sent broke TLS.
	ReasonInvalidToken             // Its token cannot be verified, or is another user's.
	ReasonExpired                  // Its token has expired, and it has not sent another one in time.
	ReasonUserConnections          // Its user has more connections than limits.user_connections allows.
	ReasonOrder                    // The server API has closed it.
	ReasonBackend                  // The backend has it disconnected.
	ReasonPublish                  // Of a raw client: what it published could not be written.
	ReasonTLSKeys                  // Its TLS 1.2 keys have protected as many records as they should.
	reasonCount
)

// closing is how a reason reads in metrics and on the wire: a WebSocket code for raw clients and a disconnect of the
// client protocol. A zero code means that the socket is closed without a close frame.
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
	ReasonProtocolError:     {"protocol_error", 1002, "protocol error", proto.Disconnect{}},
	ReasonTooBig:            {"too_big", 1009, "message too big", proto.Disconnect{}},
	ReasonFrameTimeout:      {"frame_timeout", 1008, "message incomplete for too long", proto.DisconnectStale},
	ReasonBadRequest:        {"bad_request", 1008, "bad request", proto.DisconnectBadRequest},
	ReasonTooManyRequests: {
		"too_many_requests", 1008, "too many requests", proto.DisconnectTooManyRequests,
	},
	ReasonNotAvailable: {"not_available", 1008, "not available", proto.DisconnectNotAvailable},
	ReasonStale:        {"stale", 1008, "stale", proto.DisconnectStale},
	ReasonSlow:         {"slow", 1008, "slow", proto.DisconnectSlow},
	ReasonNoPong:       {"no_pong", 1008, "no pong", proto.DisconnectNoPong},
	ReasonNoProgress:   {label: "no_progress"},
	ReasonInsufficientState: {
		"insufficient_state", 1013, "messages were missed, reconnect", proto.DisconnectInsufficientState,
	},
	ReasonMemory:       {label: "memory"},
	ReasonShutdown:     {"shutdown", 1001, "shutdown", proto.DisconnectShutdown},
	ReasonWriteError:   {label: "write_error"},
	ReasonInternal:     {"internal", 1011, "internal error", proto.DisconnectInternal},
	ReasonAge:          {"age", 1012, "connected for long enough, reconnect", proto.DisconnectForceReconnect},
	ReasonIdle:         {"idle", 1008, "idle", proto.DisconnectForceNoReconnect},
	ReasonAdmission:    {label: "admission"},
	ReasonTLS:          {label: "tls"},
	ReasonInvalidToken: {"invalid_token", 1008, "invalid token", proto.DisconnectInvalidToken},
	ReasonExpired:      {"expired", 1008, "the token has expired", proto.DisconnectExpired},
	ReasonUserConnections: {
		"user_connections", 1008, "too many connections of this user", proto.DisconnectConnectionLimit,
	},
	ReasonBackend: {"backend", 1008, "disconnected by the application", proto.DisconnectForceNoReconnect},
	ReasonOrder:   {"api", 1008, "disconnected by the server", proto.DisconnectForceNoReconnect},
	ReasonTLSKeys: {"tls_keys", 1012, "TLS keys are used up, reconnect", proto.DisconnectForceReconnect},
	ReasonPublish: {"publish", 1013, "a publication was not written, reconnect", proto.Disconnect{}},
}

// String is the metric label of r.
func (r Reason) String() string { return closings[r].label }

// LogValue implements slog.LogValuer, without which the log in JSON has the number.
func (r Reason) LogValue() slog.Value { return slog.StringValue(r.String()) }

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
