package proto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/centrifugal/protocol/cfjson"
)

// Decoding a request that is full of small parts takes far more work and memory than its bytes: a filter of two bytes a
// node becomes a tree of 150 bytes a node. So a command that is not small is screened first, which costs about as much
// as copying it, and refused if it has a filter, which wsd does not serve, or too many parts.
const (
	// screenedFrom is the length from which on a command is screened.
	screenedFrom = 1 << 10
	// partsMax is how many entries a list or map of a request may have, and fields a Protobuf request.
	partsMax = 4096
)

// ErrCommandParts is an error of NextJSON and NextProtobuf, like those in json.go.
var ErrCommandParts = errors.New("decode command: a filter, or too many entries, in a long command")

// listFields are the fields of requests that are lists or maps of any length.
var listFields = []string{"subs", "headers", "track", "untrack"}

// screenJSON reports whether a command may be decoded. Of text that is not a command of the protocol it may say so:
// the decoder says what is wrong with it.
func screenJSON(command []byte) bool {
	return eachField(command, 0, func(_ string, request int) bool {
		if request >= len(command) || command[request] != '{' {
			return true
		}
		return eachField(command, request, func(name string, i int) bool {
			switch {
			case name == "tf":
				return cfjson.IsNull(command, i)
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

// Numbers of fields (client.proto).
const (
	fieldSubscribe = 5  // Of Command.
	fieldTf        = 13 // Of SubscribeRequest.
)

// screenProtobuf is screenJSON for Protobuf.
func screenProtobuf(command []byte) bool {
	ok := true
	eachProtobufField(command, func(request int, content []byte) {
		parts := 0
		eachProtobufField(content, func(field int, value []byte) {
			parts++
			if request == fieldSubscribe && field == fieldTf && len(value) > 0 {
				ok = false
			}
		})
		ok = ok && parts <= partsMax
	})
	return ok
}

// eachProtobufField calls fn with the number of each field of a message, and with the content of those that have a
// length. It stops where the message is malformed.
func eachProtobufField(b []byte, fn func(field int, content []byte)) {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 || tag>>3 > 1<<29 {
			return
		}
		b = b[n:]
		var size int
		switch tag & 7 {
		case 0:
			if _, size = binary.Uvarint(b); size <= 0 {
				return
			}
		case 1:
			size = 8
		case 2:
			content, _, ok := cutMessage(b)
			if !ok {
				return
			}
			_, n = binary.Uvarint(b)
			b, size = b[n:], len(content)
		case 5:
			size = 4
		default: // Groups, which the decoder refuses.
			return
		}
		if size > len(b) {
			return
		}
		content := b[:size]
		if tag&7 != 2 {
			content = nil
		}
		fn(int(tag>>3), content)
		b = b[size:]
	}
}
