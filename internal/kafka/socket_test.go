package kafka

import (
	"bytes"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func socketPair(t *testing.T) (ours *socket, peer net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	tcp, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	peer, err = l.Accept()
	require.NoError(t, err)
	ours, err = newSocket(tcp.(*net.TCPConn))
	require.NoError(t, err)
	t.Cleanup(func() { _ = ours.Close(); _ = peer.Close() })
	return ours, peer
}

// More than both sides' buffers hold goes through whole, both ways, waiting in between.
func TestSocketCarriesAll(t *testing.T) {
	ours, peer := socketPair(t)
	sent := make([]byte, 16<<20)
	for i := range sent {
		sent[i] = byte(i * 7 / 5)
	}
	written := make(chan error, 1)
	go func() {
		_, err := ours.Write(sent)
		written <- err
	}()
	echoed := make(chan error, 1)
	go func() {
		got := make([]byte, len(sent))
		_, err := io.ReadFull(peer, got)
		if err == nil {
			_, err = peer.Write(got)
		}
		echoed <- err
	}()
	got := make([]byte, len(sent))
	_, err := io.ReadFull(ours, got)
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.NoError(t, <-echoed)
	require.True(t, bytes.Equal(sent, got))
	require.NoError(t, peer.Close())
	_, err = ours.Read(got)
	require.Equal(t, io.EOF, err)
}

// Deadlines and closing end a call that waits, as they do for package net's connections; a reset is the system's error.
func TestSocketEnds(t *testing.T) {
	ours, _ := socketPair(t)
	require.NoError(t, ours.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err := ours.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, ours.SetDeadline(time.Time{}))

	go func() {
		time.Sleep(time.Millisecond)
		_ = ours.Close()
	}()
	_, err = ours.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = ours.Write(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)

	ours, peer := socketPair(t)
	require.NoError(t, peer.(*net.TCPConn).SetLinger(0))
	require.NoError(t, peer.Close())
	_, err = ours.Read(make([]byte, 1))
	require.ErrorContains(t, err, "connection reset by peer")
	require.ErrorContains(t, err, ours.RemoteAddr().String())
	n, err := ours.Read(nil)
	require.NoError(t, err)
	require.Zero(t, n)
}

func TestSocketAllocates(t *testing.T) {
	ours, peer := socketPair(t)
	buf := make([]byte, 100)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_, _ = peer.Write(buf)
		_, _ = ours.Read(buf)
		_, _ = ours.Write(buf)
		_, _ = peer.Read(buf)
	}))
}
