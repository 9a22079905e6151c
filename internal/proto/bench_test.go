package proto

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// benchmarkValue makes an array of about size bytes: trades, as a demo feed has
// them, compact or indented, with a name in ASCII or beyond it.
func benchmarkValue(size int, pretty bool, name string) []byte {
	var s strings.Builder
	s.WriteString("[")
	for i := 0; s.Len() == 1 || s.Len() < size; i++ {
		if i > 0 {
			s.WriteString(",")
		}
		s.WriteString(`{"symbol":"` + name + `","price":` + strconv.Itoa(i) + `.25,"size":100,"side":"buy"}`)
		if size < 200 {
			break
		}
	}
	s.WriteString("]")
	if !pretty {
		return []byte(s.String())
	}
	indented, err := json.MarshalIndent(json.RawMessage(s.String()), "", "  ")
	if err != nil {
		panic(err)
	}
	return indented
}

// What is counted: CompactJSON of one value into a buffer that is used again.
// encoding/json.Valid of the same value stands beside it as the measure.
func BenchmarkCompactJSON(b *testing.B) {
	values := map[string]func(size int) []byte{
		"compact": func(size int) []byte { return benchmarkValue(size, false, "ACME") },
		"text":    func(size int) []byte { return benchmarkValue(size, false, "Zürich") },
		"pretty":  func(size int) []byte { return benchmarkValue(size, true, "ACME") },
		"string":  func(size int) []byte { return []byte(`"` + strings.Repeat("x", size) + `"`) },
	}
	for _, size := range []int{128, 1 << 10, 8 << 20} {
		for name, value := range values {
			value := value(size)
			b.Run(strconv.Itoa(size)+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(value)))
				b.ReportAllocs()
				var dst []byte
				for b.Loop() {
					out, err := CompactJSON(dst, value, 128)
					if err != nil {
						b.Fatal("not valid")
					}
					if &out[0] != &value[0] {
						dst = out
					}
				}
			})
			b.Run(strconv.Itoa(size)+"/"+name+"/encoding-json-valid", func(b *testing.B) {
				b.SetBytes(int64(len(value)))
				for b.Loop() {
					if !json.Valid(value) {
						b.Fatal("not valid")
					}
				}
			})
		}
	}
}

// What is counted: one publication of 128 bytes into a buffer that is used again.
func BenchmarkAppendPublication(b *testing.B) {
	data, dst := benchmarkValue(128, false, "ACME"), make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendPublication(dst[:0], "trades", data, 123456789)
	}
}

// What is counted: a frame with one subscribe command.
func BenchmarkNextJSON(b *testing.B) {
	frame := []byte(`{"id":2,"subscribe":{"channel":"trades"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := NextJSON(frame); err != nil {
			b.Fatal(err)
		}
	}
}
