package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	// HealthPath is what Health asks for; a status of 200 means that wsd is well.
	HealthPath = "/health"
	// SteerPath is what Steering and Steer ask for.
	SteerPath = "/steering"

	bodyMax    = 16 << 20
	askMax     = 10 * time.Second // For the whole exchange, unless the context ends it earlier.
	socketName = "http://wsd"     // HTTP wants a host; the socket is the address.
)

// Health asks the wsd that serves on the socket how it is. It returns the body of its answer, and ok when its status was 200.
// An error means that there was no answer, and says why: no socket, nobody behind it, no permission, no time. It waits at
// most ten seconds.
func Health(ctx context.Context, socketPath string) (body []byte, ok bool, err error) {
	body, status, err := ask(ctx, socketPath, http.MethodGet, HealthPath, nil)
	return body, err == nil && status == http.StatusOK, err
}

// Steering asks the wsd that serves on the socket how new connections find their shard. An error is a *Refusal, or says why
// there was no answer, as that of Health does.
func Steering(ctx context.Context, socketPath string) (SteerState, error) {
	return steering(ctx, socketPath, http.MethodGet, nil)
}

// Steer asks the wsd that serves on the socket for another value of a setting, which lasts until that wsd ends. It returns
// what is then. Its errors are those of Steering; a change that was refused has changed nothing.
func Steer(ctx context.Context, socketPath string, change SteerChange) (SteerState, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return SteerState{}, fmt.Errorf("BUG: write a change: %w", err)
	}
	return steering(ctx, socketPath, http.MethodPost, body)
}

func steering(ctx context.Context, socketPath, method string, body []byte) (state SteerState, err error) {
	body, status, err := ask(ctx, socketPath, method, SteerPath, body)
	if err != nil {
		return state, err
	}
	if status != http.StatusOK {
		var p problem
		if err := json.Unmarshal(body, &p); err != nil || p.Error == "" {
			return state, otherVersion(socketPath, fmt.Sprintf("status %d", status))
		}
		return state, &Refusal{Status: status, Text: p.Error}
	}
	if err := json.Unmarshal(body, &state); err != nil {
		return state, otherVersion(socketPath, err.Error())
	}
	if state.Mode == "" {
		return state, otherVersion(socketPath, "no mode")
	}
	return state, nil
}

func otherVersion(socketPath, got string) error {
	return fmt.Errorf("ask wsd on the control socket %s for %s: %s: is that wsd of another version than this command?", socketPath, SteerPath, got)
}

// ask sends one request and returns the answer's body and status. It waits at most askMax.
func ask(ctx context.Context, socketPath, method, path string, body []byte) (answer []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socketPath)
		},
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, method, socketName+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("ask %s: %w", socketPath, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, 0, unreachable(socketPath, err)
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(resp.Body, bodyMax+1))
	if err != nil {
		return nil, 0, unreachable(socketPath, err)
	}
	if len(answer) > bodyMax {
		return nil, 0, fmt.Errorf("read the answer from %s: it has more than %d bytes", socketPath, bodyMax)
	}
	return answer, resp.StatusCode, nil
}

// unreachable says in words why nobody answered, or not to the end.
func unreachable(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = ": is wsd running, and with this client port? control.socket names its socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = ": the wsd that made this socket has ended"
	case errors.Is(err, fs.ErrPermission):
		hint = ": ask as root or as the user that wsd runs as"
	case errors.Is(err, context.DeadlineExceeded):
		hint = ": wsd did not answer in time: is it stopped, or out of CPU?"
	}
	var op *net.OpError
	if errors.As(err, &op) { // Its text repeats the path.
		err = op.Err
	}
	return fmt.Errorf("ask wsd on the control socket %s: %w%s", path, err, hint)
}
