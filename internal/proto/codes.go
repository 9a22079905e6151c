package proto

import "github.com/centrifugal/protocol"

// ErrorCode is the code of an error reply. The protocol uses codes below 400; codes from 400 to 1999 are for
// applications.
type ErrorCode uint32

// Error is the error in the reply to a command that is refused.
type Error struct {
	Code      ErrorCode // Code of the error.
	Message   string    // Text of the error.
	Temporary bool      // Whether the client should try again by itself.
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Reply returns e in the form used in a reply.
func (e *Error) Reply() *protocol.Error {
	return &protocol.Error{Code: uint32(e.Code), Message: e.Message, Temporary: e.Temporary}
}

// All errors of the protocol. They must not be changed.
var (
	// ErrInternal means that the server failed.
	ErrInternal = &Error{100, "internal server error", true}
	// ErrUnauthorized means that the client must authenticate first.
	ErrUnauthorized = &Error{101, "unauthorized", false}
	// ErrUnknownChannel means that the channel does not and cannot exist.
	ErrUnknownChannel = &Error{102, "unknown channel", false}
	// ErrPermissionDenied means that this client may not do that.
	ErrPermissionDenied = &Error{103, "permission denied", false}
	// ErrMethodNotFound means that the command contains no request that the server knows.
	ErrMethodNotFound = &Error{104, "method not found", false}
	// ErrAlreadySubscribed means that the client is already subscribed to the channel.
	ErrAlreadySubscribed = &Error{105, "already subscribed", false}
	// ErrLimitExceeded means that the client asked for more than it may have.
	ErrLimitExceeded = &Error{106, "limit exceeded", false}
	// ErrBadRequest means that a field of the request is malformed.
	ErrBadRequest = &Error{107, "bad request", false}
	// ErrNotAvailable means that the server, or this channel, does not support that.
	ErrNotAvailable = &Error{108, "not available", false}
	// ErrTokenExpired means that the client should get a new token and try again.
	ErrTokenExpired = &Error{109, "token expired", false}
	// ErrExpired means that the connection or subscription has expired.
	ErrExpired = &Error{110, "expired", false}
	// ErrTooManyRequests means that the client sends commands too fast.
	ErrTooManyRequests = &Error{111, "too many requests", true}
	// ErrUnrecoverablePosition means that the position to recover from no longer exists.
	ErrUnrecoverablePosition = &Error{112, "unrecoverable position", false}
	// ErrConcurrentPagination means that the pages that the client reads have changed meanwhile.
	ErrConcurrentPagination = &Error{113, "concurrent pagination", true}
)

// Disconnect is why the server closes a client's connection.
type Disconnect struct {
	Code   uint16 // Code of the close frame.
	Reason string // Reason of the close frame.
}

// All disconnects of the protocol. Clients reconnect by themselves after codes 3000 to 3499, and do not after 3500 to
// 3999.
var (
	// DisconnectClosed means that the connection was closed without a particular reason.
	DisconnectClosed = Disconnect{3000, "connection closed"}
	// DisconnectShutdown means that the server is stopping.
	DisconnectShutdown = Disconnect{3001, "shutdown"}
	// DisconnectInternal means that the server failed.
	DisconnectInternal = Disconnect{3004, "internal server error"}
	// DisconnectExpired means that the client's token has expired.
	DisconnectExpired = Disconnect{3005, "connection expired"}
	// DisconnectSubExpired means that the token of a subscription has expired.
	DisconnectSubExpired = Disconnect{3006, "subscription expired"}
	// DisconnectSlow means that the client reads too slowly.
	DisconnectSlow = Disconnect{3008, "slow"}
	// DisconnectWriteError means that writing to the client failed.
	DisconnectWriteError = Disconnect{3009, "write error"}
	// DisconnectInsufficientState means that publications were missed. The client recovers them when it reconnects.
	DisconnectInsufficientState = Disconnect{3010, "insufficient state"}
	// DisconnectForceReconnect means that an operator wants the client to reconnect.
	DisconnectForceReconnect = Disconnect{3011, "force reconnect"}
	// DisconnectNoPong means that the client did not answer a ping in time.
	DisconnectNoPong = Disconnect{3012, "no pong"}
	// DisconnectTooManyRequests means that the client sends commands too fast.
	DisconnectTooManyRequests = Disconnect{3013, "too many requests"}
	// DisconnectStateInvalidated means that the state of the client is no longer valid.
	DisconnectStateInvalidated = Disconnect{3014, "state invalidated"}
	// DisconnectInvalidToken means that the server does not accept the token.
	DisconnectInvalidToken = Disconnect{3500, "invalid token"}
	// DisconnectBadRequest means that the client violated the protocol.
	DisconnectBadRequest = Disconnect{3501, "bad request"}
	// DisconnectStale means that the client did not send the connect command in time.
	DisconnectStale = Disconnect{3502, "stale"}
	// DisconnectForceNoReconnect means that an operator does not want the client to reconnect.
	DisconnectForceNoReconnect = Disconnect{3503, "force disconnect"}
	// DisconnectConnectionLimit means that there are too many connections.
	DisconnectConnectionLimit = Disconnect{3504, "connection limit"}
	// DisconnectChannelLimit means that the client has too many channels.
	DisconnectChannelLimit = Disconnect{3505, "channel limit"}
	// DisconnectInappropriateProtocol means that the client's encoding cannot represent a message, such as arbitrary
	// bytes in JSON.
	DisconnectInappropriateProtocol = Disconnect{3506, "inappropriate protocol"}
	// DisconnectPermissionDenied means that this client may not connect.
	DisconnectPermissionDenied = Disconnect{3507, "permission denied"}
	// DisconnectNotAvailable means that the server does not support what the client uses.
	DisconnectNotAvailable = Disconnect{3508, "not available"}
	// DisconnectTooManyErrors means that the client caused too many errors.
	DisconnectTooManyErrors = Disconnect{3509, "too many errors"}
)

// Unsubscribe is why the server ends a subscription.
type Unsubscribe struct {
	Code   uint32 // Code of the unsubscribe push.
	Reason string // Reason of the unsubscribe push.
}

// All unsubscribes of the protocol. Clients subscribe again by themselves after codes from 2500 on.
var (
	// UnsubscribeServer means that the server does not want the client to have the channel.
	UnsubscribeServer = Unsubscribe{2000, "server unsubscribe"}
	// UnsubscribeInsufficientState means that publications were missed. The client recovers them when it subscribes
	// again.
	UnsubscribeInsufficientState = Unsubscribe{2500, "insufficient state"}
	// UnsubscribeExpired means that the token of the subscription has expired.
	UnsubscribeExpired = Unsubscribe{2501, "subscription expired"}
	// UnsubscribeStateInvalidated means that the state of the client is no longer valid.
	UnsubscribeStateInvalidated = Unsubscribe{2502, "state invalidated"}
)
