// Package progress shows how far a phase is: a bar on a terminal, else a line now and then.
//
// Thread rule: one phase at a time; the function that is asked for the state is called from goroutines of this package.
//
// It writes to the writer it is given and decides nothing.
package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// The time between two looks at the state.
const (
	barInterval  = 200 * time.Millisecond
	lineInterval = 2 * time.Second
)

// State is how far a phase is. The note goes behind the numbers.
type State struct {
	Done  int64
	Total int64
	Note  string
}

// Display writes progress to one writer.
type Display struct {
	w        io.Writer
	terminal bool
	line     time.Duration // lineInterval, but for tests.
}

// New returns a display on w. terminal says that w can draw bars.
func New(w io.Writer, terminal bool) *Display {
	return &Display{w: w, terminal: terminal, line: lineInterval}
}

// Start shows a phase until the returned function is called, which shows the last state and may be called once. state
// must be quick.
func (d *Display) Start(name string, state func() State) (stop func()) {
	if d.terminal {
		return d.bar(name, state)
	}
	return d.lines(name, state)
}

func (d *Display) lines(name string, state func() State) func() {
	show := func() {
		s := state()
		// Nothing depends on progress being readable.
		_, _ = fmt.Fprintf(d.w, "%s: %d of %d%s\n", name, s.Done, s.Total, note(s))
	}
	end := every(d.line, show)
	return func() {
		end()
		show()
	}
}

func (d *Display) bar(name string, state func() State) func() {
	p := mpb.New(mpb.WithOutput(d.w), mpb.WithWidth(40), mpb.WithRefreshRate(barInterval))
	bar := p.AddBar(0,
		mpb.PrependDecorators(decor.Name(name, decor.WC{W: 9, C: decor.DindentRight})),
		mpb.AppendDecorators(decor.CountersNoUnit("%d of %d"),
			decor.Any(func(decor.Statistics) string { return note(state()) })),
	)
	update := func() {
		s := state()
		// A total of 0 would mean that it is not known.
		bar.SetTotal(max(s.Total, 1), false)
		bar.SetCurrent(s.Done)
	}
	update()
	end := every(barInterval, update)
	return func() {
		end()
		update()
		if !bar.Completed() {
			bar.Abort(false) // Leaves it as it stands.
		}
		p.Wait()
	}
}

func note(s State) string {
	if s.Note == "" {
		return ""
	}
	return ", " + s.Note
}

// every calls f at each interval until the returned function is called, which waits for a call under way.
func every(interval time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}
