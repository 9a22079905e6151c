package recovery

import (
	"time"

	"wsd/internal/source"
)

// worker makes passes.
type worker struct {
	r      *Recovery
	reader *source.Reader // Used for lanes of the kind laneFar only.
	walker *source.Walker
}

// connectionIdle is roughly how long a worker keeps connections that it does not use.
const connectionIdle = 30 * time.Second

// work makes passes over the lanes of a kind, until Stop.
func (r *Recovery) work(kind laneKind) {
	w := &worker{r: r, reader: r.o.Source.NewReader(r.ctx), walker: r.o.Source.NewWalker()}
	defer w.reader.Close()
	idle := time.NewTicker(connectionIdle)
	defer idle.Stop()
	used := false
	for {
		select {
		case <-r.ready[kind]:
			for l := r.next(kind); l != nil; l = r.next(kind) {
				used = true
				w.pass(l)
			}
		case <-idle.C:
			if !used {
				w.reader.Close()
			}
			used = false
		case <-r.ctx.Done():
			return
		}
	}
}
