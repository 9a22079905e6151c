package floor

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// ChainRecordMax is the largest record that a Feed takes, in bytes: CHAIN_RECORD_MAX in chain.h.
const ChainRecordMax = 4096

// chainRequest is what the chain asks for a record with, in bytes: CHAIN_REQUEST in chain.h.
const chainRequest = 100

// Job is records to make and to write.
type Job struct {
	Groups   int           // How many times Batch records are written, each time in one write for each client.
	Batch    int           // Records of a group, at most 1,000, and 64 MiB.
	Interval time.Duration // From one group to the next; 0: without a pause.
	Size     int           // Bytes of a record, from client.SizeMin to 1 MiB.
	Run      uint32        // Tells the records from those of other runs.
	Offset   int64         // Nanoseconds from CLOCK_MONOTONIC to the clock of the records' times.
	// 0: each record goes to every client. Else to the one client of the next of so many channels, at most 65,536.
	Channels int
}

// Floor is a server that runs.
type Floor struct {
	Server netip.AddrPort // Where clients connect.
	Feed   netip.AddrPort // Where the chain takes its records; port 0 without a chain.
	in     io.Writer
	out    *bufio.Scanner
	sent   atomic.Uint64
}

// Attach waits until the server whose standard input and output these are listens.
func Attach(in io.Writer, out io.Reader) (*Floor, error) {
	f := &Floor{in: in, out: bufio.NewScanner(out)}
	var server, feed uint16
	if err := f.answer("listening %d %d", &server, &feed); err != nil {
		return nil, fmt.Errorf("start the floor: %w", err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	f.Server, f.Feed = netip.AddrPortFrom(loopback, server), netip.AddrPortFrom(loopback, feed)
	return f, nil
}

// answer reads a line of the server.
func (f *Floor) answer(format string, into ...any) error {
	if !f.out.Scan() {
		if err := f.out.Err(); err != nil {
			return err
		}
		return errors.New("it has ended")
	}
	if _, err := fmt.Sscanf(f.out.Text(), format, into...); err != nil {
		return fmt.Errorf("answer %q: %w", f.out.Text(), err)
	}
	return nil
}

// Sent is how many records the server had made when the last job ended; with channels, all of them together.
func (f *Floor) Sent() uint64 { return f.sent.Load() }

// Send has a job done, and returns when its last record is written: how late a group was at most. It waits for as long
// as the server lives.
func (f *Floor) Send(j Job) (late time.Duration, err error) {
	verb, channels := "send", ""
	if j.Channels > 0 {
		verb, channels = "spread", fmt.Sprintf(" %d", j.Channels)
	}
	_, err = fmt.Fprintf(f.in, "%s %d %d %d %d %08x %d%s\n", verb, j.Groups, j.Batch, j.Interval.Nanoseconds(), j.Size,
		j.Run, j.Offset, channels)
	if err != nil {
		return 0, fmt.Errorf("ask the floor for records: %w", err)
	}
	var sent, nanos uint64
	if err := f.answer("sent %d %d", &sent, &nanos); err != nil {
		return 0, fmt.Errorf("have the floor write records: %w", err)
	}
	f.sent.Store(sent)
	return time.Duration(nanos), nil
}

// Feed is the connection by which the chain gets its records.
type Feed struct {
	conn net.Conn
	buf  []byte
}

// Dial connects to the feed of a server with a chain. It can be connected to once.
func (f *Floor) Dial(ctx context.Context) (*Feed, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", f.Feed.String())
	if err != nil {
		return nil, fmt.Errorf("connect to the floor's chain: %w", err)
	}
	return &Feed{conn: conn}, nil
}

// Write waits until the chain asks for a record and gives it one, for the client of a channel.
func (d *Feed) Write(channel uint32, record []byte) error {
	var request [chainRequest]byte
	if _, err := io.ReadFull(d.conn, request[:]); err != nil {
		return fmt.Errorf("wait for the floor's chain to ask for a record: %w", err)
	}
	d.buf = binary.BigEndian.AppendUint32(d.buf[:0], channel)
	d.buf = binary.BigEndian.AppendUint32(d.buf, uint32(len(record)))
	d.buf = append(d.buf, record...)
	if _, err := d.conn.Write(d.buf); err != nil {
		return fmt.Errorf("give the floor's chain a record: %w", err)
	}
	return nil
}

// Close ends the connection.
func (d *Feed) Close() error { return d.conn.Close() }
