package proto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/centrifugal/protocol/cfjson"
)

// Decoding a request that is full of small parts takes far more work and memory than its bytes: a filter of two bytes a
// node becomes a tree of 150 bytes a node. So a command that is not small is screened first, which costs about as much
// as copying it, and refused if it has a large filter, which wsd does not serve, or too many parts. A small filter gets
// the same error as in a small command.
const (
	// screenedFrom is the length from which on a command is screened.
	screenedFrom = 1 << 10
	// filterMax is how many bytes the filters of a screened command may have.
	filterMax = screenedFrom
	// partsMax is how many entries a list or map of a request may have, and fields a Protobuf command, with those of
	// the messages in it.
	partsMax = 4096
)

// ErrCommandParts is an error of NextJSON and NextProtobuf, like those in json.go.
var ErrCommandParts = fmt.Errorf("decode command: a filter of more than %d bytes, or more than %d entries", filterMax,
	partsMax)

// listFields are the fields of requests that are lists or maps of any length.
var listFields = []string{"subs", "headers", "track", "untrack"}

// screenJSON reports whether a command may be decoded. Of text that is not a command of the protocol it may say so:
// the decoder says what is wrong with it.
func screenJSON(command []byte) bool {
	return eachField(command, 0, func(kind string, request int) bool {
		if request >= len(command) || command[request] != '{' {
			return true
		}
		return eachField(command, request, func(name string, i int) bool {
			switch {
			case kind == "subscribe" && name == "tf": // The decoder refuses a second one.
				return cfjson.Skip(command, i, 0)-i <= filterMax
			case slices.Contains(listFields, name):
				end := cfjson.Skip(command, i, 0)
				return end < 0 || bytes.Count(command[i:end], comma) <= partsMax
			}
			return true
		})
	})
}

var comma = []byte{','}

// eachField calls fn with the name of each field of the object at i and the index of its value, until fn returns false,
// which it then returns. It stops where the text is not JSON.
func eachField(b []byte, i int, fn func(name string, value int) bool) bool {
	if i = cfjson.SkipSpace(b, i); i >= len(b) || b[i] != '{' {
		return true
	}
	for {
		i = cfjson.SkipSpace(b, i+1)
		if i >= len(b) || b[i] != '"' {
			return true
		}
		end := cfjson.Skip(b, i, 0)
		if end < 0 {
			return true
		}
		name := string(b[i+1 : end-1])
		if bytes.IndexByte(b[i:end], '\\') >= 0 {
			var err error
			if name, err = cfjson.UnmarshalString(b[i:end]); err != nil {
				return true
			}
		}
		if i = cfjson.SkipSpace(b, end); i >= len(b) || b[i] != ':' {
			return true
		}
		i = cfjson.SkipSpace(b, i+1)
		if !fn(name, i) {
			return false
		}
		if i = cfjson.Skip(b, i, 0); i < 0 {
			return true
		}
		if i = cfjson.SkipSpace(b, i); i >= len(b) || b[i] != ',' {
			return true
		}
	}
}

// message says which fields of a Protobuf message may hold many parts, by their numbers (client.proto).
type message struct {
	filter   int              // Field that holds a filter; 0: none does.
	messages map[int]*message // Fields that hold messages.
}

var (
	leaf             = &message{}
	subscribeMessage = &message{filter: 13}
	subsEntry        = &message{messages: map[int]*message{2: subscribeMessage}} // Of the map of a connect request.
	commandMessage   = &message{messages: map[int]*message{
		4: {messages: map[int]*message{3: subsEntry}}, // Connect.
		5: subscribeMessage,
		6: leaf, 7: leaf, 8: leaf, 9: leaf, 10: leaf, 11: leaf, 12: leaf, 13: leaf, 14: leaf,
		15: {messages: map[int]*message{4: leaf}}, // Sub-refresh: what is tracked.
	}}
)

// screenProtobuf is screenJSON for Protobuf. All that is in the command counts together: the decoder merges fields that
// are there twice.
func screenProtobuf(command []byte) bool {
	parts, filters := 0, 0
	var screen func(content []byte, m *message) bool
	screen = func(content []byte, m *message) bool {
		return eachProtobufField(content, func(field int, content []byte) bool {
			parts++
			if field == m.filter {
				filters += len(content)
			}
			if parts > partsMax || filters > filterMax {
				return false
			}
			inner := m.messages[field]
			return inner == nil || screen(content, inner)
		})
	}
	return screen(command, commandMessage)
}

// eachProtobufField calls fn with the number of each field of a message, and with the content of those that have a
// length, until fn returns false, which it then returns. It stops where the message is malformed.
func eachProtobufField(b []byte, fn func(field int, content []byte) bool) bool {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 > 1<<29 {
			return true
		}
		b = b[n:]
		var size int
		switch tag & 7 {
		case 0:
			if _, size = binary.Uvarint(b); size <= 0 {
				return true
			}
		case 1:
			size = 8
		case 2:
			content, _, ok := cutMessage(b)
			if !ok {
				return true
			}
			_, n = binary.Uvarint(b)
			b, size = b[n:], len(content)
		case 5:
			size = 4
		default: // Groups, which the decoder refuses.
			return true
		}
		if size > len(b) {
			return true
		}
		content := b[:size]
		if tag&7 != 2 {
			content = nil
		}
		if !fn(int(tag>>3), content) {
			return false
		}
		b = b[size:]
	}
	return true
}
