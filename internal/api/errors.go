package api

import (
	"net/http"

	"wsd/internal/proto"
)

// Error is an error of a method.
type Error struct {
	Code    uint32 `json:"code"` // As in the client protocol.
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// errorOf returns an error of the client protocol, with what was wrong.
func errorOf(e *proto.Error, what string) *Error {
	if what != "" {
		what = ": " + what
	}
	return &Error{Code: uint32(e.Code), Message: e.Message + what}
}

// NewError returns an error of the client protocol, with what was wrong; empty: nothing more is to be said.
func NewError(e *proto.Error, what string) *Error { return errorOf(e, what) }

func badRequest(what string) *Error { return errorOf(proto.ErrBadRequest, what) }

// status is the HTTP status of an error in the error mode transport: that of Centrifugo, for codes that its API has.
func (e *Error) status() int {
	switch proto.ErrorCode(e.Code) {
	case proto.ErrUnauthorized.Code:
		return http.StatusUnauthorized
	case proto.ErrPermissionDenied.Code:
		return http.StatusForbidden
	case proto.ErrUnknownChannel.Code, proto.ErrMethodNotFound.Code:
		return http.StatusNotFound
	case proto.ErrBadRequest.Code, proto.ErrNotAvailable.Code, proto.ErrLimitExceeded.Code:
		return http.StatusBadRequest
	case proto.ErrTooManyRequests.Code:
		return http.StatusTooManyRequests
	case proto.ErrUnrecoverablePosition.Code:
		return http.StatusRequestedRangeNotSatisfiable
	default:
		return http.StatusInternalServerError
	}
}
