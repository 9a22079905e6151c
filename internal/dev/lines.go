package dev

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lineMax is the longest line that becomes a record, in bytes. It is the default limit of a broker.
const lineMax = 1 << 20

// lines produces each line of in as a record, without its line break. It skips empty lines. If the cluster does not
// keep up, reading waits.
func (c *Cluster) lines(ctx context.Context, topic string, in io.Reader) {
	r := bufio.NewReaderSize(in, 64<<10)
	produced := 0
	for ctx.Err() == nil {
		line, skipped, err := readLine(r)
		if skipped > 0 {
			c.o.Logger.Warn("skipped a line of standard input that is too long for a record", "bytes", skipped,
				"bytes_max", lineMax)
		}
		if len(line) > 0 {
			produced++
			c.producer.Produce(ctx, &kgo.Record{Topic: topic, Value: line}, func(_ *kgo.Record, err error) {
				if err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, kgo.ErrClientClosed) {
					c.o.Logger.Error("cannot produce a line of standard input", "topic", topic, "error", err)
				}
			})
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.o.Logger.Error("read standard input", "error", err)
			}
			c.o.Logger.Info("standard input has ended", "topic", topic, "records", produced)
			return
		}
	}
}

// readLine returns the next line, in memory of its own. If the line is longer than lineMax, it returns only its length,
// as skipped.
func readLine(r *bufio.Reader) (line []byte, skipped int, err error) {
	for {
		part, err := r.ReadSlice('\n')
		switch {
		case skipped > 0:
			skipped += len(part)
		case len(line)+len(part) > lineMax:
			line, skipped = nil, len(line)+len(part)
		default:
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimRight(line, "\r\n"), skipped, err
		}
	}
}
