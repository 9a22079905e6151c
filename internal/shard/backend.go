package shard

import (
	"time"

	"wsd/internal/proto"
)

// Backend is the application behind this server, which answers what clients ask of it.
type Backend interface {
	// Call makes a call. It gives answer what came of it exactly once, from any goroutine, perhaps before it returns.
	// Shards call it from their goroutines, so it must not block; answer does not block. cancel, which may be called at
	// any time, ends the call early, as nobody waits for the answer any longer.
	Call(k *Call, answer func(*CallAnswer)) (cancel func())
	// Decides reports whether the backend is asked who may subscribe to a channel. Any shard's goroutine calls it.
	Decides(channel string) bool
}

// CallKind is a kind of call.
type CallKind uint8

// The kinds.
const (
	CallConnect    CallKind = iota // Who is this client?
	CallRefresh                    // May this connection go on, now that it has expired?
	CallSubscribe                  // May this client subscribe to this channel?
	CallSubRefresh                 // May this subscription go on, now that it has expired?
	CallRPC                        // Call this method.
	CallSend                       // Take this message.
	CallKinds                      // How many there are.
)

// Call is what a client asks of the backend, or the shard on its behalf. It never changes.
type Call struct {
	Kind     CallKind
	Client   string      // Id of the client.
	Binary   bool        // The client takes any bytes as data; else JSON only.
	User     string      // Empty: the client has none.
	Method   string      // Of an RPC.
	Channel  string      // Of CallSubscribe and CallSubRefresh.
	Token    string      // Of CallSubscribe. It must not be logged.
	Name     string      // Of CallConnect: what the client calls itself.
	Version  string      // Of CallConnect: its version.
	Channels []string    // Of CallConnect: channels that the command names.
	Data     []byte      // What the client sent with it; empty: nothing.
	Meta     []byte      // Identity.Meta.
	Header   [][2]string // Fields of CallOptions.Headers and Emulated that the client sent. They must not be logged.
	Ahead    int         // Calls of the client that are under way already. Those of clients with fewer go first.
}

// CallAnswer is what came of a Call. Nothing in it changes any longer.
type CallAnswer struct {
	Error      *proto.Error      // For the client; nil: there is none.
	Failed     bool              // Error is not the backend's: there is no answer.
	Disconnect *proto.Disconnect // How the client is to be closed; nil: it is not.

	Given    bool      // The backend gave a result.
	Data     []byte    // For the client, in a form that it takes; nil: nothing.
	Identity *Identity // Of CallConnect, with Given. Of CallRefresh: what replaces Info, Meta and ExpireAt.
	ExpireAt time.Time // Of CallSubscribe and CallSubRefresh, with a monotonic reading; zero: never.
	Expired  bool      // Of CallRefresh and CallSubRefresh: it may not go on.
}

// bytes returns about how much memory a takes.
func (a *CallAnswer) bytes() int { return len(a.Data) + int(a.Identity.memory()) }

// CallOptions says what clients may ask of the backend.
type CallOptions struct {
	Backend Backend         // Nil: there is none.
	Serves  [CallKinds]bool // What is asked.
	// Max bounds the calls of one connection that are under way. What it sends waits while there are as many.
	Max int
	// Headers are the header fields of upgrade requests that calls have, in lower case.
	Headers []string
	// Emulated are the fields that a connect command may name for those that a browser cannot send, in lower case.
	// The connection's calls have them from then on.
	Emulated []string
	// IgnoreSend drops what clients send by the send command, where CallSend is not served, rather than close them.
	IgnoreSend bool
}

// serves reports whether the backend is asked for a kind of call.
func (o *CallOptions) serves(kind CallKind) bool { return o.Backend != nil && o.Serves[kind] }

// SendResult is what became of a message of the send command.
type SendResult uint8

// The results.
const (
	SendTaken   SendResult = iota // The backend, or the topic, has it.
	SendFailed                    // They do not.
	SendIgnored                   // It was dropped, see CallOptions.IgnoreSend.
	sendResults
)

// SendResults returns the names of the results, in order.
func SendResults() []string { return []string{"taken", "failed", "ignored"} }
