package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"wsd/internal/apikey"
	"wsd/internal/commands"
	"wsd/internal/proto"
)

// The limits of one request, for all of its commands together. A batch would multiply those of a command otherwise.
const (
	// commandsMax bounds the commands of a batch, or of a body in the older form.
	commandsMax = 1000
	// publicationsMax bounds what a request publishes: one for each channel of a broadcast.
	publicationsMax = 10_000
	// foundMax bounds the bytes of what a request reads: histories and channels.
	foundMax = 32 << 20
)

// bodyFactor is how much memory a body takes with what is made of it, for each of its bytes, roughly.
const bodyFactor = 4

// Memory is an account of memory that requests share with others. Any goroutine may use it.
type Memory interface {
	// Reserve counts n more bytes. It returns false, and counts nothing, if there is no room for them.
	Reserve(n int64) bool
	// Release counts n bytes less.
	Release(n int64)
}

// request is one HTTP request. Commands of a batch may use it from several goroutines.
type request struct {
	key      *apikey.Key
	memory   Memory
	foundMax int64

	published, found, reserved atomic.Int64 // What its commands have taken of the limits, and bytes of memory.
}

// reserve counts memory until the end of the request, or returns false if there is none.
func (r *request) reserve(n int64) bool {
	if !r.memory.Reserve(n) {
		return false
	}
	r.reserved.Add(n)
	return true
}

// end gives back what the request has reserved.
func (r *request) end() { r.memory.Release(r.reserved.Load()) }

var errMemory = errorOf(proto.ErrInternal, "there is no memory for it now (limits.memory): try again")

// reserving is a body of unknown size, whose memory is reserved as it comes.
type reserving struct {
	from io.Reader
	rq   *request
}

// Read implements io.Reader.
func (r *reserving) Read(p []byte) (n int, err error) {
	n, err = r.from.Read(p)
	if !r.rq.reserve(bodyFactor * int64(n)) {
		return 0, errMemory
	}
	return n, err
}

// publishes takes n publications off what the request may have.
func (r *request) publishes(n int) error {
	if r.published.Add(int64(n)) > publicationsMax {
		r.published.Add(-int64(n))
		return errorOf(proto.ErrLimitExceeded, fmt.Sprintf("a request publishes to at most %d channels, over all of "+
			"its commands", publicationsMax))
	}
	return nil
}

// finds encodes what a command has read, and takes it off what the request may have.
func (r *request) finds(result any) (any, error) {
	text, err := json.Marshal(result)
	if err != nil {
		return nil, fmt.Errorf("encode a result: %w", err)
	}
	n := int64(len(text))
	if r.found.Add(n) > r.foundMax {
		r.found.Add(-n)
		return nil, errorOf(proto.ErrLimitExceeded, fmt.Sprintf("a response has at most %d KiB of what was read, "+
			"over all commands: ask for less in one request", r.foundMax>>10))
	}
	if !r.reserve(n) {
		return nil, errMemory
	}
	return json.RawMessage(text), nil
}

// commandList is commands of a batch, channelList is channels of a broadcast, and clientList is ids of clients. Each
// ends with an error at the first element that is too many, so that a body of tiny elements does not become a large
// list.
type (
	commandList []json.RawMessage
	channelList []string
	clientList  []string
)

// UnmarshalJSON implements json.Unmarshaler.
func (l *commandList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[json.RawMessage](text, commandsMax, "commands")
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *channelList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[string](text, publicationsMax, "channels")
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *clientList) UnmarshalJSON(text []byte) (err error) {
	*l, err = decodeList[string](text, commands.KeepMax, "clients in whitelist")
	return err
}

// tooMany is the error of a list that has more elements than are allowed.
type tooMany struct {
	most int
	of   string
}

func (e *tooMany) Error() string {
	return fmt.Sprintf("more than %d %s: at most %d are allowed", e.most, e.of, e.most)
}

// decodeList decodes a list, or null, of at most so many elements.
func decodeList[T any](text []byte, most int, of string) ([]T, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	switch begin, err := d.Token(); {
	case err != nil:
		return nil, err
	case begin == nil:
		return nil, nil
	case begin != json.Delim('['):
		return nil, errors.New(of + " must be a list")
	}
	var list []T
	for d.More() {
		if len(list) == most {
			return nil, &tooMany{most, of}
		}
		var element T
		if err := d.Decode(&element); err != nil {
			return nil, err
		}
		list = append(list, element)
	}
	return list, nil
}
