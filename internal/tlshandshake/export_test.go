package tlshandshake

import "time"

// SetPatience has handshakes wait for other than patience before the newest is taken first. Nothing may be under way.
func (p *Pool) SetPatience(d time.Duration) { p.turns.patience = d }

// Waiting returns how many handshakes wait for a turn.
func (p *Pool) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns.answered.Len() + p.turns.fresh.Len()
}

// Free returns how many turns nobody has, and how many handshakes count as computing.
func (p *Pool) Free() (turns, computing int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.turns.free, p.computing
}
