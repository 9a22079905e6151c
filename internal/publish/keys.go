package publish

import (
	"container/list"
	"errors"
	"strconv"
	"sync"
	"time"

	"wsd/internal/produce"
)

// keys remembers the outcomes of requests with an idempotency key: a bounded number, for a bounded time. One that fails
// is forgotten, so that it can be tried again. One whose outcome is not known gives way to no other.
type keys struct {
	ttl time.Duration
	max int
	now func() time.Time

	mu     sync.Mutex
	byKey  map[string]*outcome
	oldest list.List // Of *outcome, those that end first at the front.
}

// outcome is what is known of a request.
type outcome struct {
	key     string
	ends    time.Time
	element *list.Element

	known   bool // It was acknowledged, with ack.
	late    bool // It was answered with a timeout, and may be written yet.
	settled bool // Its late outcome is known, perhaps before the answer was given.
	full    bool // Of what begin returns.
	ack     produce.Ack
	waiting []func(produce.Ack, error)
}

// waitingMax is how many requests may wait for the outcome of one key.
const waitingMax = 16

func newKeys(ttl time.Duration, most int) *keys {
	return &keys{ttl: ttl, max: most, now: time.Now, byKey: make(map[string]*outcome)}
}

// keyOf makes one text of both.
func keyOf(channel, key string) string { return strconv.Itoa(len(channel)) + " " + channel + key }

// begin notes a request. If it is the first with its key, mine is not nil, and the caller has to call answer or abandon
// with it. Otherwise known says that the first was acknowledged (ack), or that its outcome is uncertain (late); if it
// is nil, done will be called with the outcome. full says that there is no place for another key.
func (k *keys) begin(key string, done func(produce.Ack, error)) (mine, known *outcome) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.now()
	k.expire(now)
	o := k.byKey[key]
	switch {
	case o == nil && !k.makeRoom():
		return nil, &outcome{full: true}
	case o == nil:
		o = &outcome{key: key, ends: now.Add(k.ttl), waiting: []func(produce.Ack, error){done}}
		o.element = k.oldest.PushBack(o)
		k.byKey[key] = o
		return o, nil
	case o.known || o.late:
		return nil, &outcome{known: o.known, late: o.late, ack: o.ack}
	case len(o.waiting) >= waitingMax:
		return nil, &outcome{late: true}
	}
	o.waiting = append(o.waiting, done)
	return nil, nil
}

// looksMax is how many of the oldest outcomes one request looks at for what it may forget.
const looksMax = 64

// expire forgets outcomes whose time is over, unless somebody waits for them.
func (k *keys) expire(now time.Time) {
	e := k.oldest.Front()
	for range looksMax {
		if e == nil || now.Before(e.Value.(*outcome).ends) {
			return
		}
		o := e.Value.(*outcome)
		if e = e.Next(); len(o.waiting) == 0 {
			k.forget(o)
		}
	}
}

// makeRoom forgets an old outcome that is known if there is no place for another one. It returns false if it finds none
// among the oldest.
func (k *keys) makeRoom() bool {
	if len(k.byKey) < k.max {
		return true
	}
	e := k.oldest.Front()
	for range looksMax {
		if e == nil {
			break
		}
		if o := e.Value.(*outcome); o.known {
			k.forget(o)
			return true
		}
		e = e.Next()
	}
	return false
}

// answer gives the answer to a request to everybody who waits for it.
func (k *keys) answer(o *outcome, ack produce.Ack, err error) {
	k.mu.Lock()
	waiting := o.waiting
	o.waiting = nil
	var e *produce.Error
	switch {
	case err == nil:
		o.known, o.ack = true, ack
	case o.known: // Its late outcome came first.
		ack, err = o.ack, nil
	case errors.As(err, &e) && e.Kind == produce.Timeout && !o.settled:
		o.late = true
	case k.byKey[o.key] == o:
		k.forget(o)
	}
	k.mu.Unlock()
	for _, done := range waiting {
		done(ack, err)
	}
}

// settle notes the outcome of a request that was answered with a timeout.
func (k *keys) settle(o *outcome, ack produce.Ack, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	o.settled = true
	switch {
	case err == nil:
		o.known, o.late, o.ack = true, false, ack
	case k.byKey[o.key] == o:
		k.forget(o)
	}
}

// abandon forgets a request that was not begun. Whoever has come to wait for it meanwhile gets err.
func (k *keys) abandon(o *outcome, err error) {
	k.mu.Lock()
	waiting := o.waiting[1:] // The first is the caller, who has the error.
	o.waiting = nil
	if k.byKey[o.key] == o {
		k.forget(o)
	}
	k.mu.Unlock()
	for _, done := range waiting {
		done(produce.Ack{}, err)
	}
}

// forget drops an outcome from the table. If it is awaited, those who wait still get it.
func (k *keys) forget(o *outcome) {
	k.oldest.Remove(o.element)
	if k.byKey[o.key] == o {
		delete(k.byKey, o.key)
	}
}
