package shard

import "sync"

// users counts what users have, in all shards. A user that has nothing has no entry.
type users struct {
	mu     sync.Mutex
	counts map[string]int32
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
		delete(u.counts, user)
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
