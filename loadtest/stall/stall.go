// Package stall holds TLS handshakes that never end, as attackers do: some clients halt after their ClientHello, and
// others send it byte by byte.
//
// Thread rule: Run belongs to one goroutine. Each client has one of its own.
package stall

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Command is the command line.
type Command struct {
	Address  string        `required:"" placeholder:"HOST:PORT" help:"The server's TLS port."`
	Halted   int           `default:"5000" help:"Clients that halt after their ClientHello (${default})."`
	Trickled int           `default:"5000" help:"Clients that send it byte by byte (${default})."`
	Every    time.Duration `default:"500ms" help:"Time between two bytes (${default})."`
	Duration time.Duration `default:"1m" help:"How long to go on. Clients that the server closes come back (${default})."`
	Dials    int           `default:"256" help:"Connection attempts at the same time (${default})."`
}

const (
	clientsMax   = 100_000
	dialTimeout  = 10 * time.Second
	comeBack     = 100 * time.Millisecond // Between the end of a connection and the next attempt.
	showInterval = time.Second
)

// check returns what is wrong with the command line.
func (c *Command) check() error {
	switch {
	case c.Halted < 0 || c.Trickled < 0 || c.Halted+c.Trickled < 1 || c.Halted+c.Trickled > clientsMax:
		return fmt.Errorf("--halted %d and --trickled %d must be between 1 and %d together", c.Halted, c.Trickled,
			clientsMax)
	case c.Every <= 0 || c.Duration <= 0 || c.Dials < 1:
		return errors.New("--every, --duration and --dials must be above 0")
	}
	return nil
}

// counts is what the clients have come to.
type counts struct{ open, begun, closed, failed atomic.Int64 }

// Run holds the clients until the time is over or ctx ends, and writes each second how many there are.
func (c *Command) Run(ctx context.Context, out io.Writer) error {
	if err := c.check(); err != nil {
		return err
	}
	hello, err := clientHello()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Duration)
	defer cancel()
	var n counts
	var clients sync.WaitGroup
	dials := make(chan struct{}, c.Dials)
	for i := range c.Halted + c.Trickled {
		clients.Go(func() {
			for ctx.Err() == nil {
				c.stall(ctx, hello, i >= c.Halted, dials, &n)
				sleep(ctx, comeBack)
			}
		})
	}
	for sleep(ctx, showInterval) {
		c.show(out, &n)
	}
	clients.Wait()
	c.show(out, &n)
	return nil
}

func (*Command) show(out io.Writer, n *counts) {
	_, _ = fmt.Fprintf(out, "stall: %d open, %d begun, %d closed by the server, %d not connected\n", n.open.Load(),
		n.begun.Load(), n.closed.Load(), n.failed.Load()) // Nobody can be told.
}

// stall makes one connection and holds it until the server closes it or ctx ends.
func (c *Command) stall(ctx context.Context, hello []byte, trickle bool, dials chan struct{}, n *counts) {
	dials <- struct{}{}
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", c.Address)
	<-dials
	if err != nil {
		n.failed.Add(1)
		return
	}
	n.begun.Add(1)
	n.open.Add(1)
	defer n.open.Add(-1)
	ended := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer ended()
	defer conn.Close()
	if trickle {
		closed := make(chan struct{})
		go func() { // The first bytes go at once, so that the connection is seen.
			defer close(closed)
			c.trickle(ctx, conn, hello)
		}()
		defer func() {
			_ = conn.Close()
			<-closed
		}()
	} else if _, err := conn.Write(hello); err != nil {
		n.closed.Add(1)
		return
	}
	_, _ = io.Copy(io.Discard, conn) // What the server answers. It ends with the connection.
	if ctx.Err() == nil {
		n.closed.Add(1)
	}
}

// trickle sends the hello byte by byte, without the last one.
func (c *Command) trickle(ctx context.Context, conn net.Conn, hello []byte) {
	for i := range len(hello) - 1 {
		if _, err := conn.Write(hello[i : i+1]); err != nil || !sleep(ctx, c.Every) {
			return
		}
	}
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// clientHello returns a record with the ClientHello of crypto/tls.
func clientHello() ([]byte, error) {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		c := tls.Client(far, &tls.Config{ServerName: "localhost"})
		_ = c.HandshakeContext(context.Background()) // It fails when the pipe is closed.
		_ = far.Close()
	}()
	header := make([]byte, 5)
	if _, err := io.ReadFull(near, header); err != nil {
		return nil, fmt.Errorf("make a ClientHello: %w", err)
	}
	hello := make([]byte, len(header)+int(header[3])<<8+int(header[4]))
	copy(hello, header)
	if _, err := io.ReadFull(near, hello[len(header):]); err != nil {
		return nil, fmt.Errorf("make a ClientHello: %w", err)
	}
	return hello, nil
}
