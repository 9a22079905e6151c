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
	// HealthPath is the path that Health requests. Status 200 means that wsd serves clients.
	HealthPath = "/health"
	// SteerPath is the path that Steering and Steer request.
	SteerPath = "/steering"
	// SkipPath is the path that Skip requests.
	SkipPath = "/kafka/skip"
	// DrainPath is the path that Draining and Drain request.
	DrainPath = "/drain"
	// ClientsPath is the path that Clients requests.
	ClientsPath = "/clients"
	// ChannelsPath is the path that Channels requests.
	ChannelsPath = "/channels"
	// DisconnectPath is the path that Disconnect requests.
	DisconnectPath = "/disconnect"

	bodyMax    = 16 << 20         // Largest response, in bytes.
	requestMax = 10 * time.Second // Time for a request and its response.
	socketName = "http://wsd"     // HTTP requires a host, although the socket is the address.
)

// Health requests the health of the wsd that serves on the socket. It returns the body of the response, and ok if the
// status was 200. The error says why there was no response: no socket, no process that serves it, no permission, or a
// timeout of ten seconds.
func Health(ctx context.Context, socketPath string) (body []byte, ok bool, err error) {
	body, status, err := request(ctx, socketPath, http.MethodGet, HealthPath, nil)
	return body, err == nil && status == http.StatusOK, err
}

// Steering requests the steering state of the wsd that serves on the socket. The error is a *Refusal, or says why there
// was no response, like that of Health.
func Steering(ctx context.Context, socketPath string) (SteerState, error) {
	return steering(ctx, socketPath, http.MethodGet, nil)
}

// Steer changes a setting of the wsd that serves on the socket, until that wsd ends. It returns the state after the
// change. Its errors are those of Steering. A *Refusal means that nothing has changed.
func Steer(ctx context.Context, socketPath string, change SteerChange) (SteerState, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return SteerState{}, fmt.Errorf("BUG: write a change: %w", err)
	}
	return steering(ctx, socketPath, http.MethodPost, body)
}

func steering(ctx context.Context, socketPath, method string, body []byte) (state SteerState, err error) {
	err = ask(ctx, socketPath, method, SteerPath, body, &state)
	if err == nil && state.Mode == "" {
		err = otherVersion(socketPath, SteerPath, "no mode")
	}
	return state, err
}

// Draining requests the state of the drain of the wsd that serves on the socket. Its errors are those of Steering.
func Draining(ctx context.Context, socketPath string) (DrainState, error) {
	return draining(ctx, socketPath, http.MethodGet, nil)
}

// Drain begins, changes or ends the drain of the wsd that serves on the socket, and returns the state after that. Its
// errors are those of Steering. A *Refusal means that nothing has changed.
func Drain(ctx context.Context, socketPath string, change DrainChange) (DrainState, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return DrainState{}, fmt.Errorf("write a change of the drain: %w", err) // Not a number.
	}
	return draining(ctx, socketPath, http.MethodPost, body)
}

func draining(ctx context.Context, socketPath, method string, body []byte) (state DrainState, err error) {
	err = ask(ctx, socketPath, method, DrainPath, body, &state)
	if err == nil && state.Status == "" {
		err = otherVersion(socketPath, DrainPath, "no status")
	}
	return state, err
}

// ask sends a request and reads the state that is the response.
func ask(ctx context.Context, socketPath, method, path string, body []byte, state any) error {
	body, status, err := request(ctx, socketPath, method, path, body)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		var p problem
		if err := json.Unmarshal(body, &p); err != nil || p.Error == "" {
			return otherVersion(socketPath, path, fmt.Sprintf("status %d", status))
		}
		return &Refusal{Status: status, Text: p.Error}
	}
	if err := json.Unmarshal(body, state); err != nil {
		return otherVersion(socketPath, path, err.Error())
	}
	return nil
}

func otherVersion(socketPath, path, got string) error {
	return fmt.Errorf("request %s from wsd at %s: %s: the running wsd may have another version than this command",
		path, socketPath, got)
}

// request sends one request and returns the body and the status of the response. It waits at most requestMax.
func request(ctx context.Context, socketPath, method, path string, body []byte) (response []byte, status int,
	err error) {
	ctx, cancel := context.WithTimeout(ctx, requestMax)
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
		return nil, 0, fmt.Errorf("request %s from wsd at %s: %w", path, socketPath, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, 0, unreachable(socketPath, err)
	}
	defer resp.Body.Close()
	response, err = io.ReadAll(io.LimitReader(resp.Body, bodyMax+1))
	if err != nil {
		return nil, 0, unreachable(socketPath, err)
	}
	if len(response) > bodyMax {
		return nil, 0, fmt.Errorf("read the response of wsd at %s: larger than %d bytes", socketPath, bodyMax)
	}
	return response, resp.StatusCode, nil
}

// unreachable explains why there was no response, or no complete one.
func unreachable(path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = ". Is wsd running? If it runs on another port, pass its --config, --client.listen or --control.socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = ". The wsd that created this socket has ended"
	case errors.Is(err, fs.ErrPermission):
		hint = ". Run this command as root or as the user of wsd"
	case errors.Is(err, context.DeadlineExceeded):
		hint = ". wsd did not respond in time; it may be stopped or out of CPU"
	}
	var op *net.OpError
	if errors.As(err, &op) { // Its text repeats the path.
		err = op.Err
	}
	return fmt.Errorf("cannot reach wsd at %s: %w%s", path, err, hint)
}
