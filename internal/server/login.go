package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/segmentio/kafka-go/sasl"

	"wsd/internal/config"
	"wsd/internal/kafkaauth"
	"wsd/internal/reload"
)

// login is how wsd connects and logs in to Kafka. Each connection uses the files as they are then.
type login struct {
	tls   func() *tls.Config // Nil means plain text.
	sasl  sasl.Mechanism     // Nil means no authentication.
	files []reload.Refresher
}

// watchInterval is the time between two looks at the files, beside those at each connection. A file that was replaced
// by a broken one is so noticed before it is needed.
const watchInterval = 10 * time.Second

// set fills l from the configuration.
func (l *login) set(k config.Kafka, log *slog.Logger) (err error) {
	first, err := k.TLS.ClientConfig()
	if err != nil {
		return err
	}
	if first != nil {
		l.tls = follow(l, first, "TLS configuration for Kafka", k.TLS.Files(), k.TLS.Parse, log)
	}
	l.sasl, err = l.mechanism(k.SASL, log)
	return err
}

// watch notices broken files until the returned function is called, which returns when that has ended.
func (l *login) watch(ctx context.Context) (stop func()) {
	return watchFiles(ctx, "source", "login", watchInterval, l.files...)
}

// follow returns a function that returns what parse makes of the files, at first the value that Load has made of them.
func follow[T any](
	l *login, first T, name string, paths []string, parse func([][]byte) (T, error), log *slog.Logger,
) func() T {
	v := reload.New(first, reload.Options[T]{Name: name, Paths: paths, Parse: parse, Logger: log})
	if len(paths) > 0 {
		v.Refresh() // The file may be replaced before the first connection is made.
		l.files = append(l.files, v)
	}
	return v.Get
}

// secret follows a file with a password or a client secret. Without one, it returns the configured value for ever.
func (l *login) secret(
	value config.Secret, file, name string, check func(string) error, log *slog.Logger,
) func() string {
	return follow(l, string(value), name, paths(file), func(contents [][]byte) (string, error) {
		text, err := config.ParseSecret(contents[0])
		if err == nil {
			err = check(text)
		}
		return text, err
	}, log)
}

// paths returns a list of the one path, or of none.
func paths(path string) []string {
	if path == "" {
		return nil
	}
	return []string{path}
}

// anything is a check that nothing fails.
func anything(string) error { return nil }

// mechanism returns the SASL mechanism, or nil for none. Load has checked the options.
func (l *login) mechanism(c config.SASL, log *slog.Logger) (sasl.Mechanism, error) {
	const password = "password for Kafka"
	switch c.Mechanism {
	case "":
		return nil, nil
	case config.MechanismPlain:
		return kafkaauth.Plain(c.Username, l.secret(c.Password, c.PasswordFile, password, anything, log)), nil
	case config.MechanismSCRAM256, config.MechanismSCRAM512:
		hash := kafkaauth.SHA256
		if c.Mechanism == config.MechanismSCRAM512 {
			hash = kafkaauth.SHA512
		}
		check := func(p string) error { return kafkaauth.CheckSCRAM(c.Username, p) }
		if err := check(string(c.Password)); err != nil {
			return nil, fmt.Errorf("kafka.sasl: %w", err)
		}
		return kafkaauth.SCRAM(hash, c.Username, l.secret(c.Password, c.PasswordFile, password, check, log)), nil
	case config.MechanismOAuth:
		tokens, advice, err := l.tokens(c.OAuth, log)
		if err != nil {
			return nil, err
		}
		var extensions []kafkaauth.Extension
		for _, text := range c.OAuth.Extensions {
			name, value := config.Pair(text)
			extensions = append(extensions, kafkaauth.Extension{Name: name, Value: value})
		}
		return kafkaauth.OAuthBearer(tokens, extensions, advice), nil
	case config.MechanismMSKIAM:
		return kafkaauth.OAuthBearer(kafkaauth.MSK(c.AWS.Region), nil, kafkaauth.MSKAdvice), nil
	}
	return nil, fmt.Errorf("BUG: kafka.sasl.mechanism %q passed the checks", c.Mechanism)
}

// tokens returns where tokens come from, and what to check if brokers refuse them.
func (l *login) tokens(o config.OAuth, log *slog.Logger) (kafkaauth.Tokens, string, error) {
	if o.TokenFile != "" {
		content, err := reload.ReadRegular(o.TokenFile)
		if err != nil {
			return nil, "", fmt.Errorf("kafka.sasl.oauth.token_file: %w", err)
		}
		first, err := config.ParseToken(content)
		if err != nil {
			return nil, "", fmt.Errorf("kafka.sasl.oauth.token_file: %w", err)
		}
		read := follow(l, first, "token for Kafka", paths(o.TokenFile), func(contents [][]byte) (string, error) {
			return config.ParseToken(contents[0])
		}, log)
		return kafkaauth.File(read), "the token in kafka.sasl.oauth.token_file", nil
	}
	authorities, err := o.Authorities()
	if err != nil {
		return nil, "", fmt.Errorf("kafka.sasl.oauth.ca_file: %w", err)
	}
	parameters := make(url.Values)
	for _, text := range o.Parameters {
		name, value := config.Pair(text)
		parameters.Set(name, value)
	}
	return kafkaauth.NewEndpoint(kafkaauth.EndpointOptions{
		URL: o.TokenURL, ClientID: o.ClientID, Scopes: o.Scopes, Parameters: parameters, Logger: log,
		Secret: l.secret(o.ClientSecret, o.ClientSecretFile, "client secret for Kafka's tokens", anything, log),
		CAs: follow(l, authorities, "authorities for kafka.sasl.oauth.token_url", paths(o.CAFile),
			func(contents [][]byte) (*x509.CertPool, error) { return config.ParseAuthorities(contents[0]) }, log),
	}), "kafka.sasl.oauth: client_id, scopes and parameters", nil
}
