package shard

import (
	"net/netip"
	"time"
)

// Authority says who clients are and which channels they may have.
type Authority interface {
	// Verify has a token verified for a client at the address, as proxied.network returns it. It calls answer exactly
	// once, from any goroutine, perhaps before it returns. Shards call it from their goroutines, so it must not block.
	// answer does not block.
	Verify(purpose TokenPurpose, token string, address netip.Addr, answer func(TokenAnswer))
	// Allows reports whether a client may have a channel: subscribe to it, recover it and read its history. With token
	// it has shown a subscription token for the channel. Any shard's goroutine calls it.
	Allows(who *Identity, channel string, token bool) bool
}

// TokenPurpose is what a token is for.
type TokenPurpose uint8

// The purposes.
const (
	TokenForConnection   TokenPurpose = iota // It says who the client is.
	TokenForSubscription                     // It lets the client have one channel.
)

// TokenResult is what became of a token.
type TokenResult uint8

// The results.
const (
	TokenInvalid    TokenResult = iota // It cannot be verified, and never will be.
	TokenOK                            // It was verified.
	TokenExpired                       // It was good once: the client is to get another one.
	TokenLater                         // It was not looked at, because there is too much work: to be tried again.
	TokenRefused                       // There is none, and the backend refuses the client.
	TokenUnanswered                    // There is none, and the backend does not answer.
)

// TokenAnswer is the answer to Authority.Verify.
type TokenAnswer struct {
	Result   TokenResult
	Identity *Identity // With TokenOK only.
}

// Identity is what a verified token or the backend says. It never changes, and strings in it are never parts of a
// larger text.
type Identity struct {
	User     string    // Empty: the client has no user.
	Channel  string    // Of a token for a subscription: the one channel that it is for.
	Channels []string  // Channels that the server subscribes the client to, each once.
	ExpireAt time.Time // When the connection or subscription expires, with a monotonic reading; zero: never.
	Lists    map[string][]string
	Info     []byte            // What others may know of the client; nil: nothing.
	Meta     []byte            // What calls of the backend have of it, as JSON; nil: nothing.
	Asked    bool              // The backend said it, so that no token of the client can extend it.
	Data     []byte            // For the reply to the connect or subscribe command, in a form that the client takes.
	SubData  map[string][]byte // The same for the channels of a connect command.
	Bytes    int               // Memory that all of this takes, for Memory; at least an estimate.
}

// AuthOptions is how clients say who they are.
type AuthOptions struct {
	// Authority decides. Nil: clients have no identity, may have every channel, and their tokens are ignored.
	Authority Authority
	// Anonymous lets in clients without a token. They have no user and no claims.
	Anonymous bool
	// Grace is how long a connection or subscription goes on after it has expired, for the client to refresh it.
	Grace time.Duration
}

// on reports whether clients have identities.
func (o *AuthOptions) on() bool { return o.Authority != nil }
