package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"wsd/internal/auth"
	"wsd/internal/config"
	"wsd/internal/reload"
)

// keySet is a JSON Web Key Set, which is fetched in the background. Nothing that a client sends causes a fetch.
type keySet struct {
	address  string
	shown    string // The address without a query, which may contain a secret.
	interval time.Duration
	store    *auth.KeyStore
	log      *slog.Logger

	authorities *reload.Value[*x509.CertPool] // Who may sign the certificate of the address; nil: the system's.

	failed  bool
	fetched bool
}

const (
	keySetTimeout  = 10 * time.Second
	keySetBytesMax = 1 << 20
	// keySetRetry is the time after a first failed fetch. It doubles, up to the interval.
	keySetRetry = time.Second
)

func newKeySet(k *config.Keys, store *auth.KeyStore, log *slog.Logger) (*keySet, error) {
	u, err := url.Parse(string(k.JWKSURL))
	if err != nil {
		return nil, errors.New("BUG: auth.jwks_url passed the checks")
	}
	set := &keySet{
		address: string(k.JWKSURL), shown: u.Scheme + "://" + u.Host + u.Path, interval: k.JWKSInterval,
		store: store, log: log,
	}
	if k.JWKSCAFile != "" {
		pem, err := reload.ReadRegular(k.JWKSCAFile)
		if err != nil {
			return nil, fmt.Errorf("auth.jwks_ca_file: %w", err)
		}
		first, err := config.ParseAuthorities(pem)
		if err != nil {
			return nil, fmt.Errorf("auth.jwks_ca_file: %w", err)
		}
		set.authorities = reload.New(first, reload.Options[*x509.CertPool]{
			Name: "authorities for auth.jwks_url", Paths: []string{k.JWKSCAFile}, Logger: log,
			Parse: func(contents [][]byte) (*x509.CertPool, error) { return config.ParseAuthorities(contents[0]) },
		})
	}
	return set, nil
}

// client returns a client for one fetch, which trusts the authorities that are in the file then. It keeps no
// connection, because fetches are far apart.
func (k *keySet) client() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // It is one.
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.DisableKeepAlives = true
	if k.authorities != nil {
		transport.TLSClientConfig.RootCAs = k.authorities.Get()
	}
	return &http.Client{
		Timeout: keySetTimeout, Transport: transport,
		// Only the address that is configured may say which keys are trusted.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// follow fetches the key set now and at every interval, give or take a tenth, until ctx ends.
func (k *keySet) follow(ctx context.Context) {
	wait := keySetRetry
	for {
		next := k.interval - k.interval/10 + rand.N(k.interval/5+1) //nolint:gosec // It only spreads fetches.
		if err := k.fetch(ctx); ctx.Err() != nil {
			return
		} else if err != nil {
			next = min(wait, k.interval)
			wait = min(2*wait, k.interval)
			k.fail(err)
		} else {
			wait = keySetRetry
			k.succeed()
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return
		}
	}
}

// fetch replaces the keys in the store.
func (k *keySet) fetch(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.address, nil)
	if err != nil {
		return errors.New("not an address")
	}
	request.Header.Set("Accept", "application/json, application/jwk-set+json")
	response, err := k.client().Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // Its text has the address with its query.
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, keySetBytesMax+1))
	switch {
	case err != nil:
		return err
	case len(body) > keySetBytesMax:
		return fmt.Errorf("larger than %d bytes", keySetBytesMax)
	}
	keys, err := auth.ParseKeySet(body)
	if err != nil {
		return err
	}
	k.store.Fetched(keys)
	return nil
}

// fail logs the first failure of several.
func (k *keySet) fail(err error) {
	if !k.failed {
		k.failed = true
		k.log.Warn("cannot fetch the keys that tokens are verified by; the ones from before stay in use", "address",
			k.shown, "error", err, "keys", k.store.Len())
	}
}

// succeed logs the first fetch, and the first one after a failure.
func (k *keySet) succeed() {
	if k.failed || !k.fetched {
		k.log.Info("fetched the keys that tokens are verified by", "address", k.shown, "keys", k.store.Len())
	}
	k.failed, k.fetched = false, true
}
