package proto

import "github.com/centrifugal/protocol"

// ErrorCode is the code of an error reply. Codes below 400 belong to the
// protocol.
type ErrorCode uint32

// Error is what a command is refused with. Temporary tells the client to try
// again.
type Error struct {
	Code      ErrorCode
	Message   string
	Temporary bool
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Reply returns e as the protocol has it. It is shared and must not be changed.
func (e *Error) Reply() *protocol.Error {
	return &protocol.Error{Code: uint32(e.Code), Message: e.Message, Temporary: e.Temporary}
}

// The errors of the protocol.
var (
	ErrInternal              = &Error{100, "internal server error", true}
	ErrUnauthorized          = &Error{101, "unauthorized", false}
	ErrUnknownChannel        = &Error{102, "unknown channel", false}
	ErrPermissionDenied      = &Error{103, "permission denied", false}
	ErrMethodNotFound        = &Error{104, "method not found", false}
	ErrAlreadySubscribed     = &Error{105, "already subscribed", false}
	ErrLimitExceeded         = &Error{106, "limit exceeded", false}
	ErrBadRequest            = &Error{107, "bad request", false}
	ErrNotAvailable          = &Error{108, "not available", false}
	ErrTokenExpired          = &Error{109, "token expired", false}
	ErrExpired               = &Error{110, "expired", false}
	ErrTooManyRequests       = &Error{111, "too many requests", true}
	ErrUnrecoverablePosition = &Error{112, "unrecoverable position", false}
	ErrConcurrentPagination  = &Error{113, "concurrent pagination", true}
)

// Disconnect is why the server closes a client's connection: the code and
// reason of the close frame.
type Disconnect struct {
	Code   uint16
	Reason string
}

// The disconnects of the protocol.
var (
	DisconnectClosed            = Disconnect{3000, "connection closed"}
	DisconnectShutdown          = Disconnect{3001, "shutdown"}
	DisconnectInternal          = Disconnect{3004, "internal server error"}
	DisconnectExpired           = Disconnect{3005, "connection expired"}
	DisconnectSubExpired        = Disconnect{3006, "subscription expired"}
	DisconnectSlow              = Disconnect{3008, "slow"}
	DisconnectWriteError        = Disconnect{3009, "write error"}
	DisconnectInsufficientState = Disconnect{3010, "insufficient state"}
	DisconnectForceReconnect    = Disconnect{3011, "force reconnect"}
	DisconnectNoPong            = Disconnect{3012, "no pong"}
	DisconnectTooManyRequests   = Disconnect{3013, "too many requests"}
	DisconnectStateInvalidated  = Disconnect{3014, "state invalidated"}
	DisconnectInvalidToken      = Disconnect{3500, "invalid token"}
	DisconnectBadRequest        = Disconnect{3501, "bad request"}
	DisconnectStale             = Disconnect{3502, "stale"}
	DisconnectForceNoReconnect  = Disconnect{3503, "force disconnect"}
	DisconnectConnectionLimit   = Disconnect{3504, "connection limit"}
	DisconnectChannelLimit      = Disconnect{3505, "channel limit"}
	DisconnectInappropriate     = Disconnect{3506, "inappropriate protocol"}
	DisconnectPermissionDenied  = Disconnect{3507, "permission denied"}
	DisconnectNotAvailable      = Disconnect{3508, "not available"}
	DisconnectTooManyErrors     = Disconnect{3509, "too many errors"}
)

// Unsubscribe is why the server ends a subscription.
type Unsubscribe struct {
	Code   uint32
	Reason string
}

// The unsubscribes of the protocol. A client subscribes again by itself from
// 2500 on.
var (
	UnsubscribeServer            = Unsubscribe{2000, "server unsubscribe"}
	UnsubscribeInsufficientState = Unsubscribe{2500, "insufficient state"}
	UnsubscribeExpired           = Unsubscribe{2501, "subscription expired"}
	UnsubscribeStateInvalidated  = Unsubscribe{2502, "state invalidated"}
)
