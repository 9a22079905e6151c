package control

import (
	"context"
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

	bodyMax    = 16 << 20
	askMax     = 10 * time.Second // For the whole exchange, unless the context ends it earlier.
	socketName = "http://wsd"     // HTTP wants a host; the socket is the address.
)

// Health asks the wsd that serves on the socket how it is. It returns the body of its answer, and ok when its status was 200.
// An error means that there was no answer, and says why: no socket, nobody behind it, no permission, no time. It waits at
// most ten seconds.
func Health(ctx context.Context, socketPath string) (body []byte, ok bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socketPath)
		},
		DisableKeepAlives: true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, socketName+HealthPath, nil)
	if err != nil {
		return nil, false, fmt.Errorf("ask %s: %w", socketPath, err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, false, unreachable(socketPath, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, bodyMax+1))
	if err != nil {
		return nil, false, unreachable(socketPath, err)
	}
	if len(body) > bodyMax {
		return nil, false, fmt.Errorf("read the answer from %s: it has more than %d bytes", socketPath, bodyMax)
	}
	return body, resp.StatusCode == http.StatusOK, nil
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
