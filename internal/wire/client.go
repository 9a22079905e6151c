package wire

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2.
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
)

// AppendClientHandshake appends the upgrade request of a client. path includes the query and is percent-encoded.
// protocol is the subprotocol to offer, or "". key is 16 random bytes in base64.
func AppendClientHandshake(dst []byte, host, path, protocol, key string) []byte {
	dst = append(append(append(dst, "GET "...), path...), " HTTP/1.1\r\n"...)
	dst = appendField(dst, "Host", host)
	dst = append(dst, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"...)
	dst = appendField(dst, "Sec-WebSocket-Key", key)
	if protocol != "" {
		dst = appendField(dst, "Sec-WebSocket-Protocol", protocol)
	}
	return append(dst, "\r\n"...)
}

// OfferDeflate adds an offer of permessage-deflate to a request of AppendClientHandshake, on terms that Handshake
// accepts.
func OfferDeflate(request []byte) []byte {
	request = appendField(request[:len(request)-2], "Sec-WebSocket-Extensions", deflateTerms)
	return append(request, "\r\n"...)
}

// ParseClientResponse reads the complete head of the server's response, whose length HeadLen has found. key is that of
// the request. deflate says whether the request offered permessage-deflate; if so, a 101 that does not accept it is an
// error.
//
// A well-formed response with another status than 101 is not an error; the bytes after the head may give a reason. A
// 101 that does not fit the request is an error (RFC 6455 §4.1). The caller checks the subprotocol.
func ParseClientResponse(head []byte, key string, deflate bool) (status int, header http.Header, err error) {
	line, rest, ok := cutLine(head)
	// HTTP/1.1 101 Switching Protocols; the text is optional.
	if !ok || len(line) < len("HTTP/1.1 101") || string(line[:7]) != "HTTP/1." || line[8] != ' ' ||
		(len(line) > 12 && line[12] != ' ') {
		return 0, nil, errors.New("read handshake response: missing HTTP/1.1 status line")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil || status < 100 {
		return 0, nil, fmt.Errorf("read handshake response: bad status %q", line[9:12])
	}
	header = make(http.Header)
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return 0, nil, errors.New("read handshake response: header line without CR LF or with a control character")
		}
		if len(line) == 0 {
			break
		}
		name, value, ok := cutField(line)
		if !ok {
			return 0, nil, fmt.Errorf("read handshake response: bad header line %q", line)
		}
		header.Add(string(name), string(value))
	}
	if status != http.StatusSwitchingProtocols {
		return status, header, nil
	}
	return status, header, checkAccepted(header, key, deflate)
}

func checkAccepted(header http.Header, key string, deflate bool) error {
	if values := header.Values("Upgrade"); len(values) != 1 || !equalFold([]byte(values[0]), "websocket") {
		return fmt.Errorf("check handshake response: Upgrade is %q, not websocket", values)
	}
	found := false
	for _, value := range header.Values("Connection") {
		found = found || hasItem([]byte(value), "upgrade")
	}
	if !found {
		return fmt.Errorf("check handshake response: Connection is %q, which lacks Upgrade",
			header.Values("Connection"))
	}
	if values := header.Values("Sec-WebSocket-Accept"); len(values) != 1 || values[0] != acceptKey(key) {
		return fmt.Errorf("check handshake response: Sec-WebSocket-Accept is %q, not %q", values, acceptKey(key))
	}
	switch values := header.Values("Sec-WebSocket-Extensions"); {
	case !deflate && len(values) > 0:
		return fmt.Errorf("check handshake response: extensions are %q, but none were offered", values)
	case deflate && (len(values) != 1 || values[0] != deflateTerms):
		return fmt.Errorf("check handshake response: extensions are %q, but %q was offered", values, deflateTerms)
	}
	return nil
}

// acceptKey returns the Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // RFC 6455 §4.2.2.
	return base64.StdEncoding.EncodeToString(sum[:])
}
