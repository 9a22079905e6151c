package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// DisconnectRequest asks wsd to close connections: all of a user, or one.
type DisconnectRequest struct {
	User   string `json:"user,omitempty"`   // Whose connections, if Client is empty.
	Client string `json:"client,omitempty"` // Id of the one connection.
	Code   int    `json:"code,omitempty"`   // Of the close frame, from 3000 to 4999; 0: 3503; 3000: none.
	Reason string `json:"reason,omitempty"` // Text of the close frame.
}

// DisconnectResult says how far a disconnect reaches.
type DisconnectResult struct {
	// node: the connections of this wsd were closed. cluster: it was written to commands.topic, and every wsd that
	// reads the topic closes its own.
	Scope string `json:"scope"`
}

// Disconnecter closes connections for the handler. The error is a *Refusal if the request was wrong. Any goroutine may
// call it.
type Disconnecter interface {
	Disconnect(ctx context.Context, r DisconnectRequest) (DisconnectResult, error)
}

// Disconnect asks the wsd that serves on the socket to close connections. Its errors are those of Steering. It is no
// error if there are none.
func Disconnect(ctx context.Context, socketPath string, r DisconnectRequest) (result DisconnectResult, err error) {
	body, err := json.Marshal(r)
	if err != nil {
		return result, fmt.Errorf("BUG: write a request: %w", err)
	}
	err = ask(ctx, socketPath, http.MethodPost, DisconnectPath, body, &result)
	return result, err
}

// DisconnectHandler serves requests to close connections.
func DisconnectHandler(disconnecter Disconnecter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := readBody[DisconnectRequest](w, r, "request", `{"user":"ann"}`)
		if err == nil && (asked.User == "") == (asked.Client == "") {
			err = &Refusal{Status: http.StatusBadRequest, Text: "name either a user or a client"}
		}
		var result DisconnectResult
		if err == nil {
			result, err = disconnecter.Disconnect(r.Context(), asked)
		}
		Answer(w, result, err)
	})
}
