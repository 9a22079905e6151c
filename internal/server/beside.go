package server

import (
	"context"
	"runtime/pprof"
	"time"

	"wsd/internal/reload"
)

// beside runs do in a goroutine with the labels component and part, until the returned function is called, which
// returns when do has.
func beside(ctx context.Context, component, part string, do func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pprof.Do(ctx, pprof.Labels("component", component, "part", part), do)
	}()
	return func() {
		cancel()
		<-done
	}
}

// watchFiles refreshes values at every interval, like beside. Without values it does nothing.
func watchFiles(
	ctx context.Context, component, part string, interval time.Duration, values ...reload.Refresher,
) (stop func()) {
	if len(values) == 0 {
		return func() {}
	}
	return beside(ctx, component, part, func(ctx context.Context) { reload.Watch(ctx, interval, values...) })
}
