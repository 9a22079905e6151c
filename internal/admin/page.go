package admin

import (
	"embed"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html page.css *.js
var assets embed.FS

// asset returns an embedded file.
func asset(name string) []byte {
	b, err := assets.ReadFile(name)
	if err != nil {
		panic("BUG: the page lacks " + name)
	}
	return b
}

// pageHandler serves the page, with the client port filled in. Its Content-Security-Policy lets it reach that port and
// this server only.
func pageHandler(known names, clientPort int, changes bool) http.HandlerFunc {
	page := []byte(strings.NewReplacer("{{clientPort}}", strconv.Itoa(clientPort), "{{changes}}",
		strconv.FormatBool(changes)).Replace(string(asset("page.html"))))
	return func(w http.ResponseWriter, r *http.Request) {
		host, _ := known.requestHost(r) // Checked by localHost.
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Security-Policy", policy(host, clientPort))
		_, _ = w.Write(page) // Fails only if the browser has closed the connection.
	}
}

func policy(host string, clientPort int) string {
	reach := fmt.Sprintf("ws://%[1]s:%[2]d wss://%[1]s:%[2]d http://%[1]s:%[2]d https://%[1]s:%[2]d", host, clientPort)
	if strings.HasPrefix(host, "[") {
		reach = "ws: wss: http: https:" // A policy cannot contain an IPv6 address.
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self' " + reach +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func assetHandler(name, contentType string) http.HandlerFunc {
	body := asset(name)
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(body)
	}
}
