package server

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/auth"
	"wsd/internal/config"
	"wsd/internal/testutil"
)

// The authority of a key set's address is replaced, in its file, without a restart.
func TestKeySetAuthorityIsReplaced(t *testing.T) {
	_, jwk := ecKey(t, "one")
	issuer := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"keys":[` + jwk + `]}`))
	}))
	t.Cleanup(issuer.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	other, _ := pair(t, "other")
	writeFile(t, file, other)
	log := &testutil.Buffer{}
	store := &auth.KeyStore{}
	set, err := newKeySet(&config.Keys{JWKSURL: config.Address(issuer.URL), JWKSCAFile: file, JWKSInterval: time.Minute}, store,
		slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	require.ErrorContains(t, set.fetch(t.Context()), "unknown authority")
	writeFile(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Certificate().Raw}))
	require.NoError(t, set.fetch(t.Context()))
	require.Equal(t, 1, store.Len())
	writeFile(t, file, []byte("half"))
	require.NoError(t, set.fetch(t.Context()), "the last good ones stay")
	require.Contains(t, log.String(), "wsd goes on with the last good ones")
}
