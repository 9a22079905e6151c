package kafkaauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// EndpointOptions says where tokens are issued, and to whom.
type EndpointOptions struct {
	URL        string // Of the token endpoint.
	ClientID   string
	Secret     func() string // Asked for each request.
	Scopes     []string
	Parameters url.Values // Further parameters of each request.
	// Who may sign the endpoint's certificate, asked for each request. Nil means the system's.
	CAs    func() *x509.CertPool
	Logger *slog.Logger
}

// NewEndpoint returns tokens that an HTTP endpoint issues for client credentials (RFC 6749, section 4.4). A token is
// used until 80 percent of its life are over. If the endpoint then fails, the old token is used as long as it is valid.
func NewEndpoint(o EndpointOptions) Tokens {
	return &endpoint{o: o, turn: make(chan struct{}, 1), now: time.Now}
}

// Limits of an endpoint's tokens.
const (
	// refusedPause is the shortest time between two requests because brokers refuse a token.
	refusedPause = 10 * time.Second
	// tokenMax is the size in bytes of the longest token that is sent: half of what Kafka's brokers take
	// (sasl.server.max.receive.size).
	tokenMax = 256 << 10
)

// endpoint asks for one token at a time. Whoever holds turn owns the fields below it.
type endpoint struct {
	o   EndpointOptions
	now func() time.Time

	turn   chan struct{}
	config *clientcredentials.Config // Knows how the endpoint wants the secret. Nil before the first request.
	token  issued
	err    error // The last request's.
	failed time.Time
	broken bool // The log says that the endpoint fails.
}

// issued is a token with its life.
type issued struct {
	text            string
	began, renewAt  time.Time
	expires         time.Time // Zero means unknown: the token is used for one login only.
	refusedByBroker bool
}

// Token implements Tokens.
func (e *endpoint) Token(ctx context.Context) (string, error) {
	asked := e.now()
	select {
	case e.turn <- struct{}{}:
	case <-ctx.Done():
		return "", fmt.Errorf("wait for a token: %w", ctx.Err())
	}
	defer func() { <-e.turn }()
	now := e.now()
	if now.Before(e.token.renewAt) && !e.token.refusedByBroker {
		return e.token.text, nil
	}
	if e.err != nil && e.failed.After(asked) {
		return e.fallback(now, e.err) // The request that this login has waited for.
	}
	token, err := e.request(ctx)
	if err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			e.err, e.failed = err, e.now()
		}
		return e.fallback(now, err)
	}
	e.err = nil
	if e.broken {
		e.broken = false
		e.o.Logger.Info("the token endpoint works again", "url", e.o.URL)
	}
	e.token = token
	return token.text, nil
}

// fallback returns the old token if it is still valid, else err.
func (e *endpoint) fallback(now time.Time, err error) (string, error) {
	if !now.Before(e.token.expires) || e.token.refusedByBroker {
		return "", err
	}
	if !e.broken {
		e.broken = true
		e.o.Logger.Warn("the token endpoint fails; logins go on with the last token until it expires", "url", e.o.URL,
			"until", e.token.expires.Round(time.Second), "err", err)
	}
	return e.token.text, nil
}

// request asks the endpoint for a token.
func (e *endpoint) request(ctx context.Context) (issued, error) {
	secret := e.o.Secret()
	if e.config == nil || e.config.ClientSecret != secret {
		e.config = &clientcredentials.Config{ClientID: e.o.ClientID, ClientSecret: secret, TokenURL: e.o.URL,
			Scopes: e.o.Scopes, EndpointParams: e.o.Parameters}
	}
	began := e.now()
	token, err := e.config.Token(context.WithValue(ctx, oauth2.HTTPClient, e.client()))
	if err != nil {
		return issued{}, fmt.Errorf("ask %s for a token: %w", e.o.URL, e.explain(err))
	}
	if n := len(token.AccessToken); n > tokenMax || strings.ContainsFunc(token.AccessToken, outside) {
		return issued{}, fmt.Errorf("ask %s for a token: the answer has %d bytes that are not a bearer token of at "+
			"most %d", e.o.URL, n, tokenMax)
	}
	i := issued{text: token.AccessToken, began: began, expires: token.Expiry}
	if life := token.Expiry.Sub(began); !token.Expiry.IsZero() && life > 0 {
		i.renewAt = began.Add(life * 8 / 10)
	}
	return i, nil
}

// outside reports whether a token cannot have the character.
func outside(r rune) bool { return r <= ' ' || r > '~' }

// explain shortens what an endpoint answered, because it may answer with a page.
func (e *endpoint) explain(err error) error {
	var refused *oauth2.RetrieveError
	var failed *url.Error
	switch {
	case errors.As(err, &refused) && refused.ErrorCode != "":
		return fmt.Errorf("status %d, %s %s (check kafka.sasl.oauth.client_id and the secret)",
			refused.Response.StatusCode, shorten(refused.ErrorCode), shorten(refused.ErrorDescription))
	case errors.As(err, &refused):
		return fmt.Errorf("status %d, %s", refused.Response.StatusCode, shorten(string(refused.Body)))
	case errors.As(err, &failed):
		return failed.Err // It would name the URL again.
	}
	return err
}

// client returns a client for one request. It keeps no connection, because requests are many minutes apart.
func (e *endpoint) client() *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if e.o.CAs != nil {
		config.RootCAs = e.o.CAs()
	}
	return &http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true,
			ForceAttemptHTTP2: true},
		// To follow would send the secret to wherever the endpoint points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Refused implements Tokens. The next login asks for another token, unless this one is new.
func (e *endpoint) Refused(token string) {
	select {
	case e.turn <- struct{}{}:
	default: // A login asks for a token now, or has just got one.
		return
	}
	defer func() { <-e.turn }()
	if e.token.text == token && e.now().Sub(e.token.began) >= refusedPause {
		e.token.refusedByBroker = true
	}
}
