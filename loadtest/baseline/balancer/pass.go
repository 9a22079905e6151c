package balancer

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bufferBytes is the most that one read takes.
const bufferBytes = 16 << 10

// writeTimeout is how long a write may take, and how long a peer may take to end its side after the other has ended.
const writeTimeout = 10 * time.Second

var buffers = sync.Pool{New: func() any { return new([bufferBytes]byte) }}

// pass copies from one connection to the other until one of them ends, and then ends the other direction's writing.
// io.Copy would use splice(2), whose pipe takes two descriptors for each direction even while nothing moves.
func pass(to, from net.Conn) {
	defer endWriting(to, from)
	raw, err := from.(syscall.Conn).SyscallConn()
	if err != nil {
		return
	}
	var buf *[bufferBytes]byte
	var n int
	// One closure for the life of the tunnel. It takes a buffer when there may be something to read, and gives it back
	// before it waits.
	read := func(fd uintptr) bool {
		buf = buffers.Get().(*[bufferBytes]byte)
		for {
			n, err = unix.Read(int(fd), buf[:])
			if err != unix.EINTR { //nolint:errorlint // A bare errno.
				break
			}
		}
		if err == unix.EAGAIN { //nolint:errorlint // A bare errno.
			buffers.Put(buf)
			return false
		}
		return true
	}
	for {
		if raw.Read(read) != nil {
			return // The connection was closed.
		}
		failed := err != nil || n == 0
		if !failed {
			_ = to.SetWriteDeadline(time.Now().Add(writeTimeout)) // If it fails, so does the write.
			_, err = to.Write(buf[:n])
			failed = err != nil
		}
		buffers.Put(buf)
		if failed {
			return
		}
	}
}

// endWriting passes the end of a stream on. What cannot be passed on any more must not come either, so after an error
// both connections end.
func endWriting(to, from net.Conn) {
	// The peer has this long to end its side, too. One that is gone without a word would hold the tunnel for ever.
	_ = to.SetReadDeadline(time.Now().Add(writeTimeout))
	half, ok := to.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		_ = to.Close()
		_ = from.Close()
	}
}
