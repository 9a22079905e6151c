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
	"time"
	"unicode/utf8"

	"wsd/internal/apikey"
	"wsd/internal/proto"
	"wsd/internal/throttle"
)

// Options is what NewHandler needs. All fields are required.
type Options struct {
	Keys      func() []apikey.Key // Returns the keys of now.
	Backend   Backend
	BytesMax  int64         // Bytes of a request's body.
	JSONDepth int           // How deep arrays and objects may be nested in data to publish.
	Timeout   time.Duration // How long a request may take.
	Memory    Memory        // What bodies and responses are counted in.
	Logger    *slog.Logger
}

// writeTimeout is how long a client may take to read a response, beside Options.Timeout and the time that it had to
// send the request.
const writeTimeout = 10 * time.Second

// Handler serves the server API, at any path that ends with /api and below.
type Handler struct {
	o        Options
	stats    *Stats
	problems throttle.Log
	foundMax int64 // The constant; a test has less.
}

// NewHandler returns a handler.
func NewHandler(o Options) *Handler {
	const interval = 10 * time.Second
	return &Handler{o: o, stats: NewStats(), problems: throttle.Log{Interval: interval}, foundMax: foundMax}
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
	rq := &request{key: key, memory: h.o.Memory, foundMax: h.foundMax}
	defer rq.end()
	body, status, problem := h.read(w, r, rq)
	if problem != "" {
		http.Error(w, problem, status)
		return
	}
	// A port that serves other things, too, may have a shorter limit for all.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.o.Timeout + writeTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), h.o.Timeout)
	defer cancel()
	transport := r.Header.Get("X-Centrifugo-Error-Mode") == "transport"
	switch name {
	case "":
		h.serveCommands(ctx, w, rq, body)
	case apikey.Batch:
		h.serveBatch(ctx, w, rq, body)
	default:
		h.write(w, h.run(ctx, name, rq, body), transport)
	}
}

// read reads a request's body, or returns the status and text of the response that says why not.
func (h *Handler) read(w http.ResponseWriter, r *http.Request, rq *request) (body []byte, status int, problem string) {
	const tooLarge = "the body is larger than api.body_max allows"
	const noMemory = "there is no memory for the request now (limits.memory): try again"
	from := io.Reader(http.MaxBytesReader(w, r.Body, h.o.BytesMax))
	switch size := r.ContentLength; {
	case size > h.o.BytesMax:
		return nil, http.StatusRequestEntityTooLarge, tooLarge
	case size < 0: // It comes in chunks.
		from = &reserving{from, rq}
	case !rq.reserve(bodyFactor * size):
		return nil, http.StatusServiceUnavailable, noMemory
	}
	body, err := io.ReadAll(from)
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case large:
		return nil, http.StatusRequestEntityTooLarge, tooLarge
	case errors.Is(err, errMemory):
		return nil, http.StatusServiceUnavailable, noMemory
	case err != nil:
		return nil, http.StatusBadRequest, "the body cannot be read"
	case !utf8.Valid(body): // Names would become other ones, with U+FFFD in them.
		return nil, http.StatusBadRequest, "the body is not UTF-8, which JSON must be: send other data as b64data"
	}
	return body, 0, ""
}

// run carries out one command.
func (h *Handler) run(ctx context.Context, name string, rq *request, params []byte) response {
	do, known := methods[name]
	var result any
	var err error
	switch {
	case !known:
		name, err = methodUnknown, errorOf(proto.ErrMethodNotFound, "")
	case !rq.key.AllowsMethod(name):
		err = errorOf(proto.ErrPermissionDenied, "the key is not for this method (api.keys)")
	case ctx.Err() != nil:
		err = errNotBegun
	default:
		result, err = do(ctx, &call{h: h, request: rq, params: params})
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
	h.problems.Fail(h.o.Logger, "a request of the server API failed", "method", name, "error", err)
}
