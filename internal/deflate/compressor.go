package deflate

import (
	"github.com/klauspost/compress/flate"
)

// compressor makes one message at a time. It takes up to about 1.2 MiB.
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

// flushEnd is the end of the empty block with which a flush ends. The receiver
// adds it, so it is not sent (RFC 7692 §7.2.1).
const flushEnd = "\x00\x00\xff\xff"

func (c *compressor) append(dst, payload []byte) []byte {
	c.out.b = dst
	c.writer.Reset(&c.out)
	// A sink takes everything, so neither can fail.
	_, _ = c.writer.Write(payload)
	_ = c.writer.Flush()
	dst = c.out.b[:len(c.out.b)-len(flushEnd)]
	c.out.b = nil
	return dst
}
