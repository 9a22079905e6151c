package reload

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options says which files a value is made from, and how.
type Options[T any] struct {
	Name  string   // What the value is, for the log, such as "password for Kafka".
	Paths []string // The files. None means that the value never changes.
	// Parse makes the value from the files' contents, in the order of Paths. Its error must not contain a secret.
	Parse  func(contents [][]byte) (T, error)
	Logger *slog.Logger
}

// Value is a value made from files.
type Value[T any] struct {
	o Options[T]

	mu       sync.Mutex
	value    T
	contents [][]byte // What value was made from. Nil before the files were first read.
	broken   bool     // The log says that the files cannot be used.

	last atomic.Pointer[T] // A copy of value.
}

// New returns a value that is first until its files can be read. A file that is not regular, such as a pipe, can be
// read only once: a value with such a file stays first.
func New[T any](first T, o Options[T]) *Value[T] {
	v := &Value[T]{o: o, value: first}
	v.last.Store(&first)
	return v
}

// Get reads the files and returns the value that they give, or the last good one. It takes as long as the files take to
// read.
func (v *Value[T]) Get() T {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.o.Paths) > 0 {
		v.refreshLocked()
	}
	return v.value
}

// Last returns the value that the files gave when they were last read. It reads nothing and does not block.
func (v *Value[T]) Last() T {
	return *v.last.Load()
}

// Refresh reads the files again, so that a fault is logged soon after it was made.
func (v *Value[T]) Refresh() { v.Get() }

func (v *Value[T]) refreshLocked() {
	contents := make([][]byte, len(v.o.Paths))
	for i, path := range v.o.Paths {
		var err error
		if contents[i], err = ReadRegular(path); errors.Is(err, ErrNotRegular) {
			return
		} else if err != nil {
			v.failLocked(err)
			return
		}
	}
	if v.contents != nil && slices.EqualFunc(v.contents, contents, bytes.Equal) {
		v.okLocked()
		return
	}
	value, err := v.o.Parse(contents)
	if err != nil {
		v.failLocked(err)
		return
	}
	changed := v.contents != nil
	v.value, v.contents = value, contents
	v.last.Store(&value)
	if changed && !v.broken {
		v.o.Logger.Info("files have changed; new connections use the new ones", "what", v.o.Name, "files", v.o.Paths)
	}
	v.okLocked()
}

func (v *Value[T]) failLocked(err error) {
	if !v.broken {
		v.broken = true
		v.o.Logger.Warn("files that have changed cannot be used; wsd goes on with the last good ones", "what", v.o.Name,
			"files", v.o.Paths, "err", err)
	}
}

func (v *Value[T]) okLocked() {
	if v.broken {
		v.broken = false
		v.o.Logger.Info("files can be used again", "what", v.o.Name, "files", v.o.Paths)
	}
}

// Refresher is a Value of any type.
type Refresher interface{ Refresh() }

// Watch refreshes values at every interval until ctx ends.
func Watch(ctx context.Context, interval time.Duration, values ...Refresher) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, v := range values {
				v.Refresh()
			}
		case <-ctx.Done():
			return
		}
	}
}
