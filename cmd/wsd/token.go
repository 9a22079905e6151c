package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"wsd/internal/auth"
	"wsd/internal/command"
	"wsd/internal/config"
	"wsd/internal/reload"
	"wsd/internal/server"
)

type tokenCmd struct {
	Make  tokenMakeCmd  `cmd:"" default:"withargs" help:"Make a token that this configuration accepts, for trying out."`
	Check tokenCheckCmd `cmd:"" help:"Show what a token says, and whether this configuration accepts it. Exit code 1 if not."`
}

type tokenMakeCmd struct {
	options
	User     string        `help:"The user (claim sub). Default: none."`
	Channel  string        `help:"Make a subscription token for this channel."`
	Channels []string      `help:"Channels that the server subscribes the client to (claim channels)."`
	TTL      time.Duration `name:"ttl" default:"1h" help:"How long the token is valid. 0: for ever."`
	Claim    []string      `sep:"none" placeholder:"NAME=JSON" help:"Further claim, such as teams=[\"team.red\"]; may be given several times."`
	Key      string        `placeholder:"FILE" help:"PEM file with the private key to sign by. Default: the HMAC secret of the configuration."`
}

// Run prints a token.
func (c *tokenMakeCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	a := &loaded.Config.Auth
	keys := &a.Keys
	if c.Channel != "" && a.Subscription.Given() {
		keys = &a.Subscription.Keys
	}
	claims, err := c.claims(keys)
	if err != nil {
		return command.UsageError{Err: err}
	}
	var token string
	switch {
	case c.Key != "":
		content, err := reload.Read(c.Key)
		if err != nil {
			return err
		}
		if token, err = auth.SignPEM(content, claims); err != nil {
			return fmt.Errorf("--key %s: %w", c.Key, err)
		}
	case keys.HMACSecret != "":
		if token, err = auth.SignSecret(string(keys.HMACSecret), claims); err != nil {
			return err
		}
	default:
		return command.UsageError{Err: errors.New("there is nothing to sign by: set auth.hmac_secret_file, name " +
			"the file that does with --config, or give the private key of one of auth.public_key_files with --key")}
	}
	_, err = fmt.Fprintln(e.stdout, token)
	return err
}

// claims returns the claims of the token.
func (c *tokenMakeCmd) claims(keys *config.Keys) (map[string]any, error) {
	claims := map[string]any{"iat": time.Now().Unix()}
	for name, text := range map[string]string{
		"sub": c.User, "channel": c.Channel, "iss": keys.Issuer, "aud": keys.Audience,
	} {
		if text != "" {
			claims[name] = text
		}
	}
	if len(c.Channels) > 0 {
		claims["channels"] = c.Channels
	}
	if c.TTL < 0 {
		return nil, fmt.Errorf("--ttl %v must not be negative", c.TTL)
	}
	if c.TTL > 0 {
		claims["exp"] = time.Now().Add(c.TTL).Unix()
	}
	for _, text := range c.Claim {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || !json.Valid([]byte(value)) {
			return nil, fmt.Errorf("--claim %q is not NAME=JSON, such as teams=[\"team.red\"] or plan=\"gold\"", text)
		}
		claims[name] = json.RawMessage(value)
	}
	return claims, nil
}

type tokenCheckCmd struct {
	options
	Token        string `arg:"" default:"-" help:"The token. Default: read it from standard input, where it does not show in ps."`
	Subscription bool   `help:"Check it as a subscription token. Default: if it has the claim channel."`
}

// Run explains a token.
func (c *tokenCheckCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	token, err := tokenOf(c.Token, e.stdin)
	if err != nil {
		return err
	}
	header, claims, err := auth.Peek(token)
	if err != nil {
		return fmt.Errorf("not a JSON Web Token: %w", err)
	}
	purpose := auth.ForConnection
	if c.Subscription || bytes.Contains(claims, []byte(`"channel":`)) {
		purpose = auth.ForSubscription
	}
	var b strings.Builder
	fmt.Fprintf(&b, "for      %s\n", [...]string{"a connection", "a subscription"}[purpose])
	fmt.Fprintf(&b, "header   %s\n", compact(header))
	fmt.Fprintf(&b, "claims   %s\n", compact(claims))
	verified, err := server.VerifyToken(context.Background(), &loaded.Config, purpose, token)
	refusal, isRefused := errors.AsType[*auth.Error](err)
	switch {
	case isRefused:
		fmt.Fprintf(&b, "refused  %s: %s\n", refusal.Fault, refusal)
	case err != nil:
		return err
	default:
		describeClaims(&b, verified)
		b.WriteString("accepted\n")
	}
	if _, err := io.WriteString(e.stdout, b.String()); err != nil {
		return err
	}
	if isRefused {
		return command.ErrReported
	}
	return nil
}

// describeClaims writes what a verified token means.
func describeClaims(b *strings.Builder, c *auth.Claims) {
	user := "none"
	if c.User != "" {
		user = fmt.Sprintf("%q", c.User)
	}
	fmt.Fprintf(b, "user     %s\n", user)
	if c.Channel != "" {
		fmt.Fprintf(b, "channel  %s\n", c.Channel)
	}
	if len(c.Channels) > 0 {
		fmt.Fprintf(b, "channels %s, subscribed to by the server\n", strings.Join(c.Channels, ", "))
	}
	if c.ExpireAt.IsZero() {
		b.WriteString("expires  never\n")
	} else {
		fmt.Fprintf(b, "expires  %s, in %v\n", c.ExpireAt.UTC().Format(time.RFC3339),
			time.Until(c.ExpireAt).Round(time.Second))
	}
}

// compact returns JSON text on one line, without characters that a terminal acts on.
func compact(text json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return "?"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, b.String())
}

// tokenOf returns a token that was given, or read from standard input for "-".
func tokenOf(given string, stdin io.Reader) (string, error) {
	if given != "-" {
		return given, nil
	}
	const most = 1 << 20
	text, err := io.ReadAll(io.LimitReader(stdin, most))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
