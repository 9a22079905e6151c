package kafkaauth

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/testutil"
)

// issuer is a token endpoint.
type issuer struct {
	*httptest.Server
	*endpoint
	log    *testutil.Buffer
	clock  time.Time
	secret string

	mu       sync.Mutex
	requests []url.Values
	secrets  []string
	answer   func(w http.ResponseWriter, n int)
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{log: &testutil.Buffer{}, clock: time.Now(), secret: "s1"}
	i.answer = func(w http.ResponseWriter, n int) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token%d","token_type":"bearer","expires_in":1000}`, n)
	}
	i.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		_ = r.ParseForm()
		id, secret, _ := r.BasicAuth()
		i.requests, i.secrets = append(i.requests, r.PostForm), append(i.secrets, id+":"+secret)
		i.answer(w, len(i.requests))
	}))
	t.Cleanup(i.Close)
	pool := x509.NewCertPool()
	pool.AddCert(i.Certificate())
	i.endpoint = NewEndpoint(EndpointOptions{
		URL: i.URL + "/token", ClientID: "wsd", Secret: func() string { return i.secret }, Scopes: []string{"a", "b"},
		Parameters: url.Values{"audience": {"kafka"}}, CAs: func() *x509.CertPool { return pool },
		Logger: slog.New(slog.NewTextHandler(i.log, nil)),
	}).(*endpoint)
	i.now = func() time.Time { return i.clock }
	return i
}

func (i *issuer) want(t *testing.T, token string) {
	t.Helper()
	got, err := i.Token(t.Context())
	require.NoError(t, err)
	require.Equal(t, token, got)
}

func TestEndpoint(t *testing.T) {
	i := newIssuer(t)
	i.want(t, "token1")
	require.Equal(t, url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}, "audience": {"kafka"}}, i.requests[0])
	require.Equal(t, "wsd:s1", i.secrets[0])
	i.clock = i.clock.Add(790 * time.Second)
	i.want(t, "token1")
	i.clock = i.clock.Add(20 * time.Second) // 80 percent are over.
	i.secret = "s2"
	i.want(t, "token2")
	require.Equal(t, "wsd:s2", i.secrets[1], "the secret of the moment")
}

// While the endpoint fails, the last token is used as long as it is valid, and the log says so once.
func TestEndpointFails(t *testing.T) {
	i := newIssuer(t)
	i.want(t, "token1")
	good := i.answer
	i.answer = func(w http.ResponseWriter, _ int) {
		http.Error(w, "<html>"+strings.Repeat("x", 10_000), http.StatusBadGateway)
	}
	i.clock = i.clock.Add(850 * time.Second)
	i.want(t, "token1")
	i.want(t, "token1")
	require.Equal(t, 1, strings.Count(i.log.String(), "the token endpoint fails"))
	i.clock = i.clock.Add(200 * time.Second) // It has expired.
	_, err := i.Token(t.Context())
	require.ErrorContains(t, err, "status 502")
	require.ErrorContains(t, err, i.URL+"/token")
	require.Less(t, len(err.Error()), 500)
	i.answer = good
	got, err := i.Token(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, "token1", got)
	require.Contains(t, i.log.String(), "works again")
}

func TestEndpointRefuses(t *testing.T) {
	i := newIssuer(t)
	i.answer = func(w http.ResponseWriter, _ int) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"no\nsuch client"}`)
	}
	_, err := i.Token(t.Context())
	require.ErrorContains(t, err, "invalid_client")
	require.ErrorContains(t, err, "check kafka.sasl.oauth.client_id")
	require.NotContains(t, err.Error(), "s1")
	require.NotContains(t, err.Error(), "\n")

	for what, body := range map[string]string{
		"no token": `{}`, "not a token": `{"access_token":"a\u0001b"}`, "a page": "<html>",
		"too long": `{"access_token":"` + strings.Repeat("a", tokenMax+1) + `"}`,
	} {
		i.answer = func(w http.ResponseWriter, _ int) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, body)
		}
		_, err := i.Token(t.Context())
		require.Error(t, err, what)
		require.Less(t, len(err.Error()), 600, what)
	}

	// A redirect is not followed: the secret would go there.
	asked := len(i.requests)
	i.config = nil
	i.answer = func(w http.ResponseWriter, _ int) {
		w.Header().Set("Location", i.URL+"/elsewhere")
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	_, err = i.Token(t.Context())
	require.ErrorContains(t, err, "status 307")
	require.LessOrEqual(t, len(i.requests)-asked, 2, "by header and by parameter")
}

// A token that brokers refuse is replaced, but not one that has just been issued.
func TestRefusedToken(t *testing.T) {
	i := newIssuer(t)
	i.want(t, "token1")
	i.Refused("token1")
	i.want(t, "token1")
	i.clock = i.clock.Add(refusedPause)
	i.Refused("token0")
	i.want(t, "token1")
	i.Refused("token1")
	i.want(t, "token2")
}

// Without a known life, a token is for one login.
func TestTokenWithoutLife(t *testing.T) {
	i := newIssuer(t)
	i.answer = func(w http.ResponseWriter, n int) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"token%d"}`, n)
	}
	i.want(t, "token1")
	i.want(t, "token2")
}

// One request serves all logins that wait for it, also if it fails. A login that is given up fails nobody else's.
func TestOneRequestForAll(t *testing.T) {
	i := newIssuer(t)
	i.turn <- struct{}{} // A request is under way.
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := i.Token(ctx)
		gaveUp <- err
	}()
	cancel()
	require.ErrorIs(t, <-gaveUp, context.Canceled)
	var waiting sync.WaitGroup
	got := make(chan string, 8)
	for range cap(got) {
		waiting.Go(func() {
			token, err := i.Token(t.Context())
			if err != nil {
				token = err.Error()
			}
			got <- token
		})
	}
	<-i.turn
	waiting.Wait()
	close(got)
	for token := range got {
		require.Equal(t, "token1", token)
	}
	require.Len(t, i.requests, 1)
}
