package proto

import "github.com/centrifugal/protocol"

// ErrorCode is the code of an error reply. Codes below 400 are the protocol's,
// 400 to 1999 an application's.
type ErrorCode uint32

// Error is what a command is refused with.
type Error struct {
	Code      ErrorCode
	Message   string
	Temporary bool // The client tries again by itself.
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Reply returns e as a reply carries it.
func (e *Error) Reply() *protocol.Error {
	return &protocol.Error{Code: uint32(e.Code), Message: e.Message, Temporary: e.Temporary}
}

// The errors of the protocol, all of them. They must not be changed.
var (
	// ErrInternal: something went wrong in the server.
	ErrInternal = &Error{100, "internal server error", true}
	// ErrUnauthorized: the client must say who it is first.
	ErrUnauthorized = &Error{101, "unauthorized", false}
	// ErrUnknownChannel: there is no such channel, nor can there be.
	ErrUnknownChannel = &Error{102, "unknown channel", false}
	// ErrPermissionDenied: this client may not do that.
	ErrPermissionDenied = &Error{103, "permission denied", false}
	// ErrMethodNotFound: the command has no request that the server knows.
	ErrMethodNotFound = &Error{104, "method not found", false}
	// ErrAlreadySubscribed: the client is subscribed to that channel.
	ErrAlreadySubscribed = &Error{105, "already subscribed", false}
	// ErrLimitExceeded: the client asked for more than it may have.
	ErrLimitExceeded = &Error{106, "limit exceeded", false}
	// ErrBadRequest: a field of the request is malformed.
	ErrBadRequest = &Error{107, "bad request", false}
	// ErrNotAvailable: the server, or this channel, does not offer that.
	ErrNotAvailable = &Error{108, "not available", false}
	// ErrTokenExpired: the client fetches a new token and tries again.
	ErrTokenExpired = &Error{109, "token expired", false}
	// ErrExpired: the connection or subscription expired.
	ErrExpired = &Error{110, "expired", false}
	// ErrTooManyRequests: the client sends commands too fast.
	ErrTooManyRequests = &Error{111, "too many requests", true}
	// ErrUnrecoverablePosition: the position to recover from is gone.
	ErrUnrecoverablePosition = &Error{112, "unrecoverable position", false}
	// ErrConcurrentPagination: the pages a client reads have changed meanwhile.
	ErrConcurrentPagination = &Error{113, "concurrent pagination", true}
)

// Disconnect is why the server closes the connection of a client: code and
// reason of the close frame.
type Disconnect struct {
	Code   uint16
	Reason string
}

// The disconnects of the protocol, all of them. Clients connect again by
// themselves after 3000 to 3499, and stay away after 3500 to 3999.
var (
	// DisconnectClosed: the connection was closed, for no reason to tell.
	DisconnectClosed = Disconnect{3000, "connection closed"}
	// DisconnectShutdown: this server stops.
	DisconnectShutdown = Disconnect{3001, "shutdown"}
	// DisconnectInternal: something went wrong in the server.
	DisconnectInternal = Disconnect{3004, "internal server error"}
	// DisconnectExpired: the token's time is over.
	DisconnectExpired = Disconnect{3005, "connection expired"}
	// DisconnectSubExpired: the time of a subscription's token is over.
	DisconnectSubExpired = Disconnect{3006, "subscription expired"}
	// DisconnectSlow: the client reads more slowly than it is sent to.
	DisconnectSlow = Disconnect{3008, "slow"}
	// DisconnectWriteError: writing to the client failed.
	DisconnectWriteError = Disconnect{3009, "write error"}
	// DisconnectInsufficientState: publications were missed, the client is to
	// recover them by connecting again.
	DisconnectInsufficientState = Disconnect{3010, "insufficient state"}
	// DisconnectForceReconnect: an operator wants the client to connect again.
	DisconnectForceReconnect = Disconnect{3011, "force reconnect"}
	// DisconnectNoPong: a ping was not answered in time.
	DisconnectNoPong = Disconnect{3012, "no pong"}
	// DisconnectTooManyRequests: the client sends commands too fast.
	DisconnectTooManyRequests = Disconnect{3013, "too many requests"}
	// DisconnectStateInvalidated: what the client knows is no longer so.
	DisconnectStateInvalidated = Disconnect{3014, "state invalidated"}
	// DisconnectInvalidToken: the token is not one that the server accepts.
	DisconnectInvalidToken = Disconnect{3500, "invalid token"}
	// DisconnectBadRequest: the client broke the protocol.
	DisconnectBadRequest = Disconnect{3501, "bad request"}
	// DisconnectStale: the client did not connect in time.
	DisconnectStale = Disconnect{3502, "stale"}
	// DisconnectForceNoReconnect: an operator wants the client to stay away.
	DisconnectForceNoReconnect = Disconnect{3503, "force disconnect"}
	// DisconnectConnectionLimit: there are too many connections.
	DisconnectConnectionLimit = Disconnect{3504, "connection limit"}
	// DisconnectChannelLimit: the client has too many channels.
	DisconnectChannelLimit = Disconnect{3505, "channel limit"}
	// DisconnectInappropriateProtocol: what is to be sent cannot be said in the
	// client's protocol, bytes in JSON for example.
	DisconnectInappropriateProtocol = Disconnect{3506, "inappropriate protocol"}
	// DisconnectPermissionDenied: this client may not connect.
	DisconnectPermissionDenied = Disconnect{3507, "permission denied"}
	// DisconnectNotAvailable: the server does not offer what the client uses.
	DisconnectNotAvailable = Disconnect{3508, "not available"}
	// DisconnectTooManyErrors: the client caused too many errors.
	DisconnectTooManyErrors = Disconnect{3509, "too many errors"}
)

// Unsubscribe is why the server ends a subscription: code and reason of the
// push.
type Unsubscribe struct {
	Code   uint32
	Reason string
}

// The unsubscribes of the protocol, all of them. Clients subscribe again by
// themselves from 2500 on.
var (
	// UnsubscribeServer: the server does not want the client to have the channel.
	UnsubscribeServer = Unsubscribe{2000, "server unsubscribe"}
	// UnsubscribeInsufficientState: publications were missed, the client is to
	// recover them by subscribing again.
	UnsubscribeInsufficientState = Unsubscribe{2500, "insufficient state"}
	// UnsubscribeExpired: the time of the subscription's token is over.
	UnsubscribeExpired = Unsubscribe{2501, "subscription expired"}
	// UnsubscribeStateInvalidated: what the client knows is no longer so.
	UnsubscribeStateInvalidated = Unsubscribe{2502, "state invalidated"}
)
