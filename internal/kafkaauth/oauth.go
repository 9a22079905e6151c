package kafkaauth

import (
	"context"
	"fmt"

	"github.com/segmentio/kafka-go/sasl"
)

// Tokens is where bearer tokens come from.
type Tokens interface {
	// Token returns the token for a login that begins now.
	Token(ctx context.Context) (string, error)
	// Refused is called if a broker refuses a token.
	Refused(token string)
}

// Extension is a SASL extension (KIP-342).
type Extension struct{ Name, Value string }

// OAuthBearer returns the mechanism OAUTHBEARER (RFC 7628). Advice says what to check if a broker refuses a token.
func OAuthBearer(tokens Tokens, extensions []Extension, advice string) sasl.Mechanism {
	return &oauthBearer{tokens, extensions, advice}
}

type oauthBearer struct {
	tokens     Tokens
	extensions []Extension
	advice     string
}

// Name implements sasl.Mechanism.
func (*oauthBearer) Name() string { return "OAUTHBEARER" }

// Advice implements kafka.Advisor.
func (m *oauthBearer) Advice() string { return m.advice }

// separator stands between the parts of a message (RFC 7628, section 3.1).
const separator = "\x01"

// Start implements sasl.Mechanism.
func (m *oauthBearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	token, err := m.tokens.Token(ctx)
	if err != nil {
		return nil, nil, err
	}
	message := "n,," + separator + "auth=Bearer " + token + separator
	for _, e := range m.extensions {
		message += e.Name + "=" + e.Value + separator
	}
	return &bearerLogin{tokens: m.tokens, token: token}, []byte(message + separator), nil
}

// bearerLogin is one login.
type bearerLogin struct {
	tokens  Tokens
	token   string
	refusal string
}

// Next implements sasl.StateMachine. An empty challenge is the broker's consent, anything else says why it refuses. The
// broker then waits for one more message before it ends the exchange (RFC 7628, section 3.2.3).
func (l *bearerLogin) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	switch {
	case l.refusal != "":
		return false, nil, fmt.Errorf("the broker refuses the token: %s", l.refusal)
	case len(challenge) == 0:
		return true, nil, nil
	}
	l.refusal = shorten(string(challenge))
	l.Refused()
	return false, []byte(separator), nil
}

// Refused implements kafka.Refusable.
func (l *bearerLogin) Refused() { l.tokens.Refused(l.token) }

// shorten returns what of a foreign text fits into a message.
func shorten(text string) string {
	const most = 300
	if len(text) > most {
		text = text[:most] + "…"
	}
	return fmt.Sprintf("%q", text)
}

// File returns tokens that are read from a file by read.
func File(read func() string) Tokens { return fileTokens(read) }

type fileTokens func() string

func (f fileTokens) Token(context.Context) (string, error) { return f(), nil }
func (fileTokens) Refused(string)                          {} // Something else renews the file.
