// Package apikey is the keys of the server API, and what each allows: methods and channels. Keys are compared in
// constant time, and kept as hashes. Any goroutine may use a Key; none changes.
package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// BytesLeast is how many bytes a key should have at least: fewer can be guessed.
const BytesLeast = 16

// keysMax bounds the keys of a server: each request is compared with all of them.
const keysMax = 256

// Batch is the method that carries out a list of others.
const Batch = "batch"

// Methods returns the names of all methods of the server API, in order. A key for Batch alone allows nothing: each
// command needs its own method.
func Methods() []string {
	return []string{
		Batch, "broadcast", "channels", "disconnect", "history", "history_remove", "info", "presence", "presence_stats",
		"publish", "refresh", "rpc", "subscribe", "unsubscribe",
	}
}

// Key is a key of the server API, and what it allows.
type Key struct {
	hash     [sha256.Size]byte // Of the key, so that all are compared over the same length.
	short    bool
	methods  []string // Empty: all.
	patterns []string // Of channels; empty: all. A * at the end stands for any rest.
}

// Short reports whether the key has fewer than BytesLeast bytes.
func (k *Key) Short() bool { return k.short }

// Parse parses keys in the form KEY [methods=METHOD|…] [channels=PATTERN|…]. Empty texts and those that begin with
// # are left out. An error names no part of a key.
func Parse(texts []string) (keys []Key, err error) {
	for i, text := range texts {
		fields := strings.Fields(text)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		k := Key{hash: sha256.Sum256([]byte(fields[0])), short: len(fields[0]) < BytesLeast}
		for _, field := range fields[1:] {
			name, value, _ := strings.Cut(field, "=")
			list := strings.Split(value, "|")
			switch {
			case name != "methods" && name != "channels":
				return nil, fmt.Errorf("key %d: what follows the key is not methods= or channels=", i+1)
			case slices.Contains(list, ""):
				return nil, fmt.Errorf("key %d: %s= lists nothing, or has an empty part", i+1, name)
			case name == "methods":
				for _, method := range list {
					if !slices.Contains(Methods(), method) {
						return nil, fmt.Errorf("key %d: %q is not a method: use %s", i+1, method,
							strings.Join(Methods(), ", "))
					}
				}
				k.methods = append(k.methods, list...)
			default:
				for _, pattern := range list {
					if strings.Contains(strings.TrimSuffix(pattern, "*"), "*") {
						return nil, fmt.Errorf("key %d: pattern %q: a * may only stand at the end", i+1, pattern)
					}
				}
				k.patterns = append(k.patterns, list...)
			}
		}
		if slices.ContainsFunc(keys, func(other Key) bool { return other.hash == k.hash }) {
			return nil, fmt.Errorf("key %d is there twice", i+1)
		}
		if keys = append(keys, k); len(keys) > keysMax {
			return nil, fmt.Errorf("more than %d keys", keysMax)
		}
	}
	return keys, nil
}

// ParseFile parses a file with one key a line.
func ParseFile(content []byte) ([]Key, error) {
	keys, err := Parse(strings.Split(string(content), "\n"))
	if err == nil && len(keys) == 0 {
		err = errors.New("has no key: write one by openssl rand -hex 32")
	}
	return keys, err
}

// Find returns the key that a request shows, nil if it shows none of keys. It takes as long
// for any key. A key comes in the header X-API-Key or as Authorization: apikey KEY, never in the address.
func Find(keys []Key, r *http.Request) *Key {
	shown := r.Header.Get("X-Api-Key")
	if shown == "" {
		scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if strings.EqualFold(scheme, "apikey") {
			shown = strings.TrimSpace(rest)
		}
	}
	hash := sha256.Sum256([]byte(shown))
	found := -1
	for i := range keys {
		found = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(hash[:], keys[i].hash[:]), i, found)
	}
	if found < 0 || shown == "" {
		return nil
	}
	return &keys[found]
}

// AllowsMethod reports whether the key is for a method.
func (k *Key) AllowsMethod(method string) bool {
	return len(k.methods) == 0 || slices.Contains(k.methods, method)
}

// NamesMethod reports whether the key names a method that it is for, and is not only for every method.
func (k *Key) NamesMethod(method string) bool { return slices.Contains(k.methods, method) }

// AllowsChannel reports whether the key is for a channel.
func (k *Key) AllowsChannel(channel string) bool {
	return len(k.patterns) == 0 || slices.ContainsFunc(k.patterns, func(p string) bool {
		prefix, cut := strings.CutSuffix(p, "*")
		return channel == p || cut && strings.HasPrefix(channel, prefix)
	})
}

// AllChannels reports whether the key is for every channel.
func (k *Key) AllChannels() bool { return len(k.patterns) == 0 || slices.Contains(k.patterns, "*") }
