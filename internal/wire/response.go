package wire

import (
	"net/http"
	"strconv"
)

// AppendReject appends r as a complete HTTP/1.1 response with Content-Type
// text/plain, Content-Length and Connection: close.
func AppendReject(dst []byte, r *Reject) []byte { return appendResponse(dst, r, true) }

// appendResponse is AppendReject with an optional body. A response to HEAD has none, but has the Content-Length of the
// response to GET (RFC 9110 §8.6).
func appendResponse(dst []byte, r *Reject, withBody bool) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(r.Status), 10)
	dst = append(append(dst, ' '), http.StatusText(r.Status)...)
	dst = append(dst, "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(r.Body)+len("\n")), 10)
	connection := "close"
	for _, field := range r.Header {
		if field[0] == "Upgrade" {
			connection = "close, Upgrade" // RFC 9110 §7.8: the sender of Upgrade must list it here.
		}
	}
	dst = appendField(append(dst, "\r\n"...), "Connection", connection)
	for _, field := range r.Header {
		dst = appendField(dst, field[0], field[1])
	}
	dst = append(dst, "\r\n"...)
	if withBody {
		dst = append(append(dst, r.Body...), '\n')
	}
	return dst
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), "\r\n"...)
}
