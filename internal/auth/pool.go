package auth

import (
	"context"
	"errors"
	"net/netip"
	"runtime/pprof"
	"sync"
	"sync/atomic"
)

// PoolOptions is what a Pool is built from.
type PoolOptions struct {
	Verifiers map[Purpose]*Verifier
	Workers   int // Goroutines that verify.
	Queue     int // Tokens that may wait for one.
	// FailuresMax is how many tokens of an address may fail in a minute before further ones are refused without a look;
	// 0: any number. With FailuresDryRun they are only counted.
	FailuresMax    int
	FailuresDryRun bool
	// Exceeded is called for each token of an address with more than that, also in a dry run; it must not block. Nil:
	// nothing is called.
	Exceeded func(netip.Addr)
}

// Pool verifies tokens in goroutines of its own. Any goroutine may use it.
type Pool struct {
	o        PoolOptions
	work     chan job
	stop     chan struct{}
	once     sync.Once
	done     sync.WaitGroup
	failures failures
	stats    Stats
}

// Stats counts what a Pool does. Any goroutine may read it.
type Stats struct {
	Results     [faultCount]atomic.Uint64 // Tokens by Fault; FaultNone: those that were good.
	OverFailure atomic.Uint64             // Tokens of addresses with more than FailuresMax failures, also in a dry run.
	Waiting     atomic.Int64              // Tokens that wait or are being verified.
}

// job is a token to be verified.
type job struct {
	purpose Purpose
	token   string
	address netip.Addr
	answer  func(*Claims, error)
}

// NewPool starts a Pool.
func NewPool(o PoolOptions) *Pool {
	p := &Pool{o: o, work: make(chan job, o.Queue), stop: make(chan struct{})}
	for range o.Workers {
		p.done.Go(func() {
			pprof.Do(context.Background(), pprof.Labels("component", "auth"), func(context.Context) { p.run() })
		})
	}
	return p
}

// Stats returns the pool's counters.
func (p *Pool) Stats() *Stats { return &p.stats }

// Verify has a token verified for a client of the address, which may be the zero value. It calls answer exactly once
// with what Verifier.Verify returns, or with an *Error with FaultBusy or FaultAddress; perhaps before it returns, else
// from another goroutine. It does not block, and neither must answer.
func (p *Pool) Verify(purpose Purpose, token string, address netip.Addr, answer func(*Claims, error)) {
	refuse := func(f Fault) {
		p.stats.Results[f].Add(1)
		answer(nil, fault(f))
	}
	v := p.o.Verifiers[purpose]
	switch {
	case len(token) > v.o.BytesMax: // It need not wait for that.
		p.failures.note(address)
		refuse(FaultTooLong)
		return
	case p.o.FailuresMax > 0 && p.failures.count(address) >= p.o.FailuresMax:
		p.stats.OverFailure.Add(1)
		if p.o.Exceeded != nil {
			p.o.Exceeded(address)
		}
		if !p.o.FailuresDryRun {
			refuse(FaultAddress)
			return
		}
	}
	p.stats.Waiting.Add(1)
	select {
	case p.work <- job{purpose, token, address, answer}:
	default:
		p.stats.Waiting.Add(-1)
		refuse(FaultBusy)
	}
}

func (p *Pool) run() {
	for {
		select {
		case j := <-p.work:
			p.verify(&j)
		case <-p.stop:
			return
		}
	}
}

func (p *Pool) verify(j *job) {
	claims, err := p.o.Verifiers[j.purpose].Verify(j.token)
	f := FaultNone
	if own, ok := errors.AsType[*Error](err); ok {
		f = own.Fault
	}
	p.stats.Results[f].Add(1)
	if f != FaultNone && f != FaultExpired && f != FaultNotYet { // Those were good tokens, or will be.
		p.failures.note(j.address)
	}
	p.stats.Waiting.Add(-1)
	j.answer(claims, err)
}

// Close ends the goroutines. Tokens that wait are answered with FaultBusy; Verify must not be called any longer.
func (p *Pool) Close() {
	p.once.Do(func() {
		close(p.stop)
		p.done.Wait()
		for {
			select {
			case j := <-p.work:
				p.stats.Waiting.Add(-1)
				j.answer(nil, fault(FaultBusy))
			default:
				return
			}
		}
	})
}
