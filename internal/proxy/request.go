package proxy

import (
	"encoding/base64"
	"encoding/json"

	"wsd/internal/proto"
)

// Request is one call. It must not change while the call is under way.
type Request struct {
	Kind     Kind
	Client   string      // Id of the client.
	Binary   bool        // The client speaks Protobuf and takes any bytes as data; else JSON.
	User     string      // Empty: the client has none.
	Method   string      // Of an RPC.
	Channel  string      // Of subscribe and sub_refresh.
	Token    string      // Of subscribe: the token that the client sent with its command.
	Name     string      // Of connect: what the client calls itself.
	Version  string      // Of connect: its version.
	Channels []string    // Of connect: server-side channels that the client wants to recover or to have.
	Data     []byte      // What the client sent with its command; empty: nothing.
	Meta     []byte      // What the backend said of the connection before, as JSON; empty: nothing.
	Header   [][2]string // Header fields of the client that the backend is to get. A name may come more than once.
	Ahead    int         // Calls that the client has under way already: of calls that wait, those with fewer go first.
}

// body is a Request in the form of Centrifugo's proxy (its proxy.proto).
type body struct {
	Client    string          `json:"client"`
	Transport string          `json:"transport"`
	Protocol  string          `json:"protocol"`
	Encoding  string          `json:"encoding"`
	User      *string         `json:"user,omitempty"` // There in every kind but connect, also when it is empty.
	Method    string          `json:"method,omitempty"`
	Channel   string          `json:"channel,omitempty"`
	Token     string          `json:"token,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
	B64Data   string          `json:"b64data,omitempty"`
	Meta      json.RawMessage `json:"meta,omitempty"`
	Name      string          `json:"name,omitempty"`
	Version   string          `json:"version,omitempty"`
	Channels  []string        `json:"channels,omitempty"`
}

// bytes returns about how much memory r takes.
func (r *Request) bytes() int {
	n := len(r.Client) + len(r.User) + len(r.Method) + len(r.Channel) + len(r.Token) + len(r.Name) + len(r.Version) +
		len(r.Data) + len(r.Meta) + 256
	for _, name := range r.Channels {
		n += 16 + len(name)
	}
	for _, f := range r.Header {
		n += 32 + len(f[0]) + len(f[1])
	}
	return n
}

// encode returns the body of r. With binary the data may be any bytes; else they must be JSON, which the caller has
// checked.
func (r *Request) encode(binary bool) ([]byte, error) {
	b := body{
		Client: r.Client, Transport: "websocket", Protocol: "json", Encoding: "json", Method: r.Method,
		Channel: r.Channel, Token: r.Token, Name: r.Name, Version: r.Version, Channels: r.Channels,
		Meta: json.RawMessage(r.Meta),
	}
	if r.Binary {
		b.Protocol = "protobuf"
	}
	if r.Kind != KindConnect {
		b.User = &r.User
	}
	if binary {
		b.Encoding, b.B64Data = "binary", base64.StdEncoding.EncodeToString(r.Data)
	} else {
		b.Data = json.RawMessage(r.Data)
	}
	return json.Marshal(&b)
}

// dataFit reports whether data can be sent without binary encoding.
func dataFit(data []byte) bool { return len(data) == 0 || proto.ValidJSON(data) }
