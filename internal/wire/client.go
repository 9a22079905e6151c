package wire

import "net/http"

// AppendClientHandshake appends the upgrade request of a client.
func AppendClientHandshake(dst []byte, host, path, protocol, key string) []byte {
	panic("BUG: declared only")
}

// ParseClientResponse reads the head of a server's answer.
func ParseClientResponse(head []byte, key string) (status int, header http.Header, err error) {
	panic("BUG: declared only")
}
