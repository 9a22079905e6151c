package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"

	"wsd/internal/proto"
)

// parallelMax bounds how many commands of a batch are under way at the same time.
const parallelMax = 32

// serveBatch serves the method batch. The response has a reply for each command, in order.
func (h *Handler) serveBatch(ctx context.Context, w http.ResponseWriter, rq *request, body []byte) {
	var r struct {
		Commands commandList `json:"commands"`
		Parallel bool        `json:"parallel"`
	}
	err := json.Unmarshal(body, &r)
	if many, ok := errors.AsType[*tooMany](err); ok {
		h.write(w, response{Error: errorOf(proto.ErrLimitExceeded, many.Error())}, false)
		return
	}
	if err != nil {
		http.Error(w, "the body is not a batch: "+err.Error(), http.StatusBadRequest)
		return
	}
	replies := make([]map[string]any, len(r.Commands))
	one := func(i int) { replies[i] = h.runCommand(ctx, rq, r.Commands[i]) }
	if !r.Parallel {
		for i := range r.Commands {
			one(i)
		}
	} else {
		var all sync.WaitGroup
		places := make(chan struct{}, parallelMax)
		for i := range r.Commands {
			places <- struct{}{}
			all.Go(func() {
				one(i)
				<-places
			})
		}
		all.Wait()
	}
	h.write(w, map[string]any{"replies": replies}, false)
}

// runCommand carries out a command of a batch, an object whose one member is a method with its parameters. The reply
// has the result in a member of that name, or an error.
func (h *Handler) runCommand(ctx context.Context, rq *request, command []byte) map[string]any {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(command, &members); err != nil {
		return map[string]any{"error": badRequest("the command is not an object")}
	}
	name := methodUnknown
	for member := range members {
		if methods[member] != nil && string(members[member]) != "null" && (name == methodUnknown || member < name) {
			name = member
		}
	}
	r := h.run(ctx, name, rq, members[name])
	if r.Error != nil {
		return map[string]any{"error": r.Error}
	}
	return map[string]any{name: r.Result}
}

// serveCommands serves what clients of older versions send to /api: one command after another, each with its method.
// The response has a reply for each, a line each.
func (h *Handler) serveCommands(ctx context.Context, w http.ResponseWriter, rq *request, body []byte) {
	type command struct {
		ID     uint32          `json:"id,omitempty"`
		Method string          `json:"method"`
		Params json.RawMessage `json:"params"`
	}
	type reply struct {
		ID uint32 `json:"id,omitempty"`
		response
	}
	var list []command
	for decoder := json.NewDecoder(bytes.NewReader(body)); ; {
		var c command
		err := decoder.Decode(&c)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			http.Error(w, "the body is not commands: "+err.Error(), http.StatusBadRequest)
			return
		}
		if list = append(list, c); len(list) > commandsMax {
			http.Error(w, (&tooMany{commandsMax, "commands"}).Error(), http.StatusBadRequest)
			return
		}
	}
	if len(list) == 0 {
		http.Error(w, `there is no command: send {"method": METHOD, "params": {…}}`, http.StatusBadRequest)
		return
	}
	lines := make([][]byte, 0, len(list))
	for _, c := range list {
		line, err := json.Marshal(reply{ID: c.ID, response: h.run(ctx, c.Method, rq, c.Params)})
		if err != nil {
			h.problem("response", err)
			http.Error(w, "the response cannot be encoded", http.StatusInternalServerError)
			return
		}
		lines = append(lines, line)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(slices.Concat(bytes.Join(lines, []byte("\n")), []byte("\n"))) // Fails only if the client has gone.
}
