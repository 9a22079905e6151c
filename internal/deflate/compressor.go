package deflate

import (
	"github.com/klauspost/compress/flate"
)

// compressor compresses one message at a time. It takes up to about 1.2 MiB of memory.
type compressor struct {
	writer *flate.Writer
	out    sink
}

// sink is a writer that appends.
type sink struct{ b []byte }

func (s *sink) Write(p []byte) (int, error) {
	s.b = append(s.b, p...)
	return len(p), nil
}

func newCompressor(level int) (*compressor, error) {
	c := new(compressor)
	var err error
	c.writer, err = flate.NewWriter(&c.out, level)
	return c, err
}

// flushEnd is the end of the empty block with which a flush ends. It is not sent, because the receiver adds it (RFC
// 7692 §7.2.1).
const flushEnd = "\x00\x00\xff\xff"

func (c *compressor) append(dst, payload []byte) []byte {
	c.out.b = dst
	c.writer.Reset(&c.out)
	// Writing to a sink does not fail.
	_, _ = c.writer.Write(payload)
	_ = c.writer.Flush()
	dst = c.out.b[:len(c.out.b)-len(flushEnd)]
	c.out.b = nil
	return dst
}
