package shard

import (
	"github.com/gobwas/ws"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// rawDialect is that of clients on /ws: each record is one WebSocket message, its value as it was produced.
func rawDialect() dialect {
	return dialect{
		layout: func(_ string, records []bus.Record, valueBytes, _ int) []byte {
			return appendRaw(make([]byte, 0, valueBytes+len(records)*headerMax), records)
		},
		value:    func(r *bus.Record) []byte { return r.Value },
		separate: true, nullRemoves: true,
		closeCode: func(r Reason) (uint16, string) { return closings[r].raw, closings[r].rawText },
	}
}

// appendRaw appends one message for each value: text when it is UTF-8, else binary. A null has no value to send.
func appendRaw(dst []byte, records []bus.Record) []byte {
	for i := range records {
		r := &records[i]
		if r.Value == nil {
			continue
		}
		op := ws.OpBinary
		if r.Text {
			op = ws.OpText
		}
		dst = wire.AppendFrame(dst, op, r.Value)
	}
	return dst
}
