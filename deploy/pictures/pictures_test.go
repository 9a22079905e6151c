package main

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every dashboard can be drawn: the picture is well-formed, has each panel's title, and is asked for each query.
func TestPictures(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if strings.Contains(r.FormValue("query"), "$") {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"status":"error","error":"a variable is left"}`)
			return
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"result":[{"metric":{"topic":"a<b","shard":"1"},
			"values":[[1e9,"NaN"],[1e9,"3"],[1e9,"1e12"]]},{"metric":{},"values":[]}]}}`)
	}))
	defer server.Close()
	files, err := filepath.Glob("../compose/grafana/dashboards/*.json")
	require.NoError(t, err)
	require.Len(t, files, 6)
	dir := t.TempDir()
	require.NoError(t, run(append([]string{"-prometheus", server.URL, "-out", dir}, files...), io.Discard))
	require.Greater(t, asked, 100)
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(dir, strings.Replace(filepath.Base(name), ".json", ".svg", 1)))
		require.NoError(t, err)
		for d := xml.NewDecoder(strings.NewReader(string(text))); err == nil; {
			_, err = d.Token()
		}
		require.ErrorIs(t, err, io.EOF, name)
		_, err = os.Stat("../../docs/pictures/" + strings.Replace(filepath.Base(name), ".json", ".svg", 1))
		require.NoError(t, err, "the documents show it")
	}
	require.ErrorContains(t, run([]string{"-minutes", "0", "x"}, io.Discard), "at least 1")
	require.ErrorContains(t, run(nil, io.Discard), "no dashboard")
}

func TestFormat(t *testing.T) {
	require.Equal(t, 2.5, roundUp(2.1))
	require.Equal(t, 0.01, roundUp(0.0099))
	require.Equal(t, "2.5 ms", format(0.0025, "s"))
	require.Equal(t, "1.5 MB", format(1.5e6, "bytes"))
	require.Equal(t, "12 k", format(12e3, "short"))
	require.Equal(t, "0", format(0, "s"))
}
