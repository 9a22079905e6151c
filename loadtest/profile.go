package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wsd/loadtest/serverstat"
)

// checkProfile checks that the server serves profiles, if --profile needs them, so that a run without them does not
// begin.
func (r *run) checkProfile(ctx context.Context) error {
	if r.Profile == "" {
		return nil
	}
	if err := os.MkdirAll(r.Profile, 0o750); err != nil {
		return fmt.Errorf("--profile: %w", err)
	}
	return r.fetch(ctx, "goroutine?debug=1", "goroutines.txt")
}

// profile has profiles of the server saved besides what the scenario does during the hold, if --profile says so. The
// CPU profile takes the time of the hold; the others are taken in its middle.
func (r *run) profile() {
	if r.Profile == "" {
		return
	}
	seconds := max(1, int(r.duration.Seconds()))
	during := r.during
	r.during = func(ctx context.Context, r *run) {
		done := make(chan error, 2)
		go func() { done <- r.fetch(ctx, fmt.Sprintf("profile?seconds=%d", seconds), "cpu.pprof") }()
		go func() {
			sleep(ctx, r.duration/2)
			err := r.fetch(ctx, "heap", "heap.pprof")
			if err == nil {
				err = r.fetch(ctx, "goroutine", "goroutine.pprof")
			}
			done <- err
		}()
		if during != nil {
			during(ctx, r)
		}
		for range 2 {
			if err := <-done; err != nil {
				r.problem("%v", err)
			}
		}
	}
}

// fetch saves one profile.
func (r *run) fetch(ctx context.Context, what, file string) error {
	ctx, cancel := context.WithTimeout(ctx, r.duration+30*time.Second)
	defer cancel()
	response, err := serverstat.Get(ctx, r.Admin, "/debug/pprof/"+what)
	if err != nil {
		return fmt.Errorf("--profile: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
		return fmt.Errorf("--profile: %s answers HTTP %s: %s (wsd serves profiles with ENABLE_PPROF=true in its "+
			"environment)", response.Request.URL, response.Status, strings.TrimSpace(string(text)))
	}
	f, err := os.Create(filepath.Join(r.Profile, file))
	if err != nil {
		return fmt.Errorf("--profile: %w", err)
	}
	_, err = io.Copy(f, response.Body)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("--profile: save %s: %w", file, err)
	}
	return nil
}
