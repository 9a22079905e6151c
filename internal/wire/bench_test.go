package wire

import "testing"

// What is counted: one masked text frame of 41 bytes, copied into the read
// buffer, unmasked, checked. The copy stands for the read.
func BenchmarkNext(b *testing.B) {
	sent := whole(text, `{"id":1,"subscribe":{"channel":"trades"}}`)
	buf := make([]byte, len(sent))
	var r Reader
	b.ReportAllocs()
	for b.Loop() {
		copy(buf, sent)
		if ev, _, _, err := r.Next(buf, RoleServer, 1<<16); ev != EventText || err != nil {
			b.Fatal(ev, err)
		}
	}
}

// What is counted: finding the end of a browser's upgrade request, checking it
// and writing the 101 into a buffer that is used again.
func BenchmarkHandshake(b *testing.B) {
	request := upgradeHead("/ws?channel=trades", "Pragma: no-cache", "Cache-Control: no-cache",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
		"Origin: https://page.example", "Accept-Encoding: gzip, deflate, br, zstd", "Accept-Language: en-US,en;q=0.9",
		"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
	out := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		var rejected *Reject
		n := HeadLen(request, 0)
		if out, rejected = Handshake(out[:0], request[:n], accept); rejected != nil {
			b.Fatal(string(out))
		}
	}
}

// What is counted: 128 bytes behind an unmasked header.
func BenchmarkAppendFrame(b *testing.B) {
	payload, dst := make([]byte, 128), make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		dst = AppendFrame(dst[:0], bin, payload)
	}
}
