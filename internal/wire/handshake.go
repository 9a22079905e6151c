package wire

// Request is a syntactically valid HTTP request head.
type Request struct {
	Method    string
	Path      string // As sent, percent-encoding included; "/" when an absolute target has none.
	RawQuery  string // Behind the first '?', as sent.
	Host      string
	Origin    string
	Upgrade   bool     // Asks for a WebSocket, with everything RFC 6455 wants.
	Protocols []string // Subprotocols offered, in order.
}

// Accept says how to accept an upgrade.
type Accept struct {
	Protocol string      // The chosen one of Request.Protocols, or "".
	Header   [][2]string // Extra response header fields.
}

// Reject is a complete HTTP answer that is not an upgrade.
type Reject struct {
	Status int
	Body   string      // One line without its newline, sent as text/plain.
	Header [][2]string // Extra response header fields.
}

// Error implements error.
func (r *Reject) Error() string { return r.Body }

// HeadLen returns the length of the request or response head at the start of
// b, blank line included, or 0 while it is incomplete. from is where the last
// scan ended.
func HeadLen(b []byte, from int) int { panic("BUG: declared only") }

// Handshake answers one complete request head.
func Handshake(dst, head []byte, decide func(*Request) (Accept, error)) (out []byte, upgraded bool) {
	panic("BUG: declared only")
}

// AppendReject appends the HTTP response that r is.
func AppendReject(dst []byte, r *Reject) []byte { panic("BUG: declared only") }
