package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// turnTime is what a run takes besides dialing, the window and the hold: to start and stop a server and its Kafka, to
// be idle, and to wait for the last records.
const turnTime = 6 * time.Second

// runTime is about how long a run takes.
func (c *config) runTime() time.Duration {
	return (time.Duration(float64(c.Clients)/c.Rate*float64(time.Second)) + c.Window + c.Hold + turnTime).
		Round(time.Second)
}

// partial is what is known of a table that is not complete, in a file beside the results. Runs with other options do
// not belong to it.
type partial struct {
	Args  string               `json:"args"`
	Begun time.Time            `json:"begun"`
	Took  time.Duration        `json:"took"`
	Runs  map[string][]measure `json:"runs"`
}

func (r *results) partialFile() string { return filepath.Join(r.Out, "results", "partial.json") }

// save keeps the runs so far.
func (r *results) save() error {
	text, err := json.MarshalIndent(partial{r.args(), r.begun, r.took, r.values}, "", " ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(r.partialFile()), 0o755)
	}
	if err == nil {
		err = os.WriteFile(r.partialFile(), append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep the runs so far: %w", err)
	}
	return nil
}

// resume takes the runs that an interrupted table of the same options has kept, without those that failed.
func (r *results) resume() error {
	text, err := os.ReadFile(r.partialFile())
	if err != nil {
		return fmt.Errorf("--resume: %w", err)
	}
	var p partial
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("--resume: %s: %w", r.partialFile(), err)
	}
	if p.Args != r.args() {
		return fmt.Errorf("--resume: %s was measured with other options: %s", r.partialFile(), p.Args)
	}
	for key, list := range p.Runs {
		p.Runs[key] = slices.DeleteFunc(list, func(m measure) bool { return m.Failure != "" })
	}
	r.begun, r.before, r.values = p.Begun, p.Took, p.Runs
	return nil
}

// turns are the rows in the order in which they run, round by round, without those that were done before.
func (r *results) turns() (list []row) {
	done := map[string]int{}
	selected := r.selected()
	for round := range r.Rounds {
		order := slices.Clone(selected)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, x := range order {
			if done[x.key()]++; done[x.key()] > len(r.values[x.key()]) {
				list = append(list, x)
			}
		}
	}
	return list
}

// all makes the runs that remain, with a line for each, and keeps what they measured. A run that fails, or that takes
// three times as long as it should, does not keep the next from running.
func (r *results) all(ctx context.Context, log io.Writer) error {
	list, each, started := r.turns(), r.runTime(), time.Now()
	fmt.Fprintf(log, "%d runs of about %s: %s, until %s\n", len(list), each, time.Duration(len(list))*each,
		started.Add(time.Duration(len(list))*each).Format("15:04"))
	for i, x := range list {
		bounded, cancel := context.WithTimeout(ctx, 3*each+time.Minute)
		m, err := r.measureRow(bounded, x)
		cancel()
		if ctx.Err() != nil {
			return errors.New("interrupted: the results are those up to then; repeat with --resume for the rest")
		}
		if err != nil {
			m = measure{Failure: strings.ReplaceAll(err.Error(), "\n", "; ")}
		}
		r.values[x.key()] = append(r.values[x.key()], m)
		r.took = r.before + time.Since(started)
		each = time.Since(started) / time.Duration(i+1)
		fmt.Fprintf(log, "run %d of %d, %-11s %s; about %s to go\n", i+1, len(list), x.key(), m,
			(time.Duration(len(list)-i-1) * each).Round(time.Second))
		if err := r.save(); err != nil {
			return err
		}
	}
	return nil
}

// table makes the runs and writes the results, also when it is interrupted.
func (c *config) table(ctx context.Context, log io.Writer) error {
	r := &results{config: c, begun: time.Now(), values: map[string][]measure{}}
	if c.Resume {
		if err := r.resume(); err != nil {
			return err
		}
	}
	err := r.all(ctx, log)
	if err != nil {
		r.incomplete = true
		return errors.Join(err, r.write(c.Out))
	}
	if err := r.write(c.Out); err != nil {
		return err
	}
	if err := os.Remove(r.partialFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what is complete: %w", err)
	}
	return nil
}
