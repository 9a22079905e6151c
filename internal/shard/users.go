package shard

import (
	"sync"

	"wsd/internal/shrink"
)

// users counts what users have, in all shards. A user that has nothing has no entry.
type users struct {
	mu     sync.Mutex
	counts map[string]int32
	peak   int // See shrink.Map.
}

// add adds to what a user has and returns it.
func (u *users) add(user string, n int32) int32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.counts == nil {
		u.counts = make(map[string]int32)
	}
	have := u.counts[user] + n
	switch {
	case have < 0:
		panic("BUG: a user has less than nothing")
	case have == 0:
		u.peak = max(u.peak, len(u.counts))
		delete(u.counts, user)
		shrink.Map(&u.counts, &u.peak, shrinkFrom)
	default:
		u.counts[user] = have
	}
	return have
}

// len returns how many users have something.
func (u *users) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.counts)
}
