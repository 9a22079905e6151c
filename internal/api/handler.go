package api

import (
	"context"
	_ "embed" // For the document.
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"wsd/internal/apikey"
	"wsd/internal/proto"
)

// Options is what NewHandler needs. All fields are required.
type Options struct {
	Keys     func() []apikey.Key // Returns the keys of now.
	Backend  Backend
	BytesMax int64         // Bytes of a request's body.
	Timeout  time.Duration // How long a request may take.
	Logger   *slog.Logger
}

// Handler serves the server API, at any path that ends with /api and below.
type Handler struct {
	o     Options
	stats *Stats

	mu     sync.Mutex
	logged time.Time
}

// NewHandler returns a handler.
func NewHandler(o Options) *Handler {
	return &Handler{o: o, stats: NewStats()}
}

// document is the OpenAPI document.
//
//go:embed openapi.json
var document []byte

// response is what a method's response is.
type response struct {
	Error  *Error `json:"error,omitempty"`
	Result any    `json:"result,omitempty"`
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.Trim(strings.TrimPrefix(r.URL.Path, "/api"), "/")
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	if name == "openapi.json" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		header.Set("Content-Type", "application/json")
		_, _ = w.Write(document) // Fails only if the client has gone.
		return
	}
	switch {
	case r.Method != http.MethodPost:
		header.Set("Allow", http.MethodPost)
		http.Error(w, "use POST (docs/api.md; GET /api/openapi.json describes the API)", http.StatusMethodNotAllowed)
		return
	case name != "" && name != apikey.Batch && methods[name] == nil:
		http.Error(w, "no such method: use one of "+strings.Join(apikey.Methods(), ", "), http.StatusNotFound)
		return
	}
	key := apikey.Find(h.o.Keys(), r)
	if key == nil {
		h.stats.Unauthorized.Add(1)
		header.Set("WWW-Authenticate", "apikey")
		http.Error(w, "a valid key is needed: send it as X-API-Key or as Authorization: apikey KEY (api.keys)",
			http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.o.BytesMax))
	if err != nil {
		status, text := http.StatusBadRequest, "the body cannot be read"
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status, text = http.StatusRequestEntityTooLarge, "the body is larger than api.body_max allows"
		}
		http.Error(w, text, status)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.o.Timeout)
	defer cancel()
	transport := r.Header.Get("X-Centrifugo-Error-Mode") == "transport"
	switch name {
	case "":
		h.serveCommands(ctx, w, key, body)
	case apikey.Batch:
		h.serveBatch(ctx, w, key, body)
	default:
		h.write(w, h.run(ctx, name, key, body), transport)
	}
}

// run carries out one command.
func (h *Handler) run(ctx context.Context, name string, key *apikey.Key, params []byte) response {
	do, known := methods[name]
	var result any
	var err error
	switch {
	case !known:
		name, err = methodUnknown, errorOf(proto.ErrMethodNotFound, "")
	case !key.AllowsMethod(name):
		err = errorOf(proto.ErrPermissionDenied, "the key is not for this method (api.keys)")
	default:
		result, err = do(ctx, &call{h: h, key: key, params: params})
	}
	if err != nil {
		e := h.errorFor(name, err)
		h.stats.count(name, e)
		return response{Error: e}
	}
	h.stats.count(name, nil)
	return response{Result: result}
}

// write writes a response.
func (h *Handler) write(w http.ResponseWriter, r any, transport bool) {
	body, err := json.Marshal(r)
	if err != nil {
		h.problem("response", err)
		http.Error(w, "the response cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if one, ok := r.(response); ok && transport && one.Error != nil {
		w.WriteHeader(one.Error.status())
	}
	_, _ = w.Write(body) // Fails only if the client has gone.
}

// problem logs an error that no client has caused, once in a while.
func (h *Handler) problem(name string, err error) {
	const interval = 10 * time.Second
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); h.logged.IsZero() || now.Sub(h.logged) >= interval {
		h.logged = now
		h.o.Logger.Warn("a request of the server API failed", "method", name, "error", err)
	}
}
