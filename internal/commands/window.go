package commands

// windowMax bounds the ids that are remembered. A record is read twice after a broker lost a part of its log, and
// what comes twice comes soon.
const windowMax = 1 << 16

// window remembers the newest ids.
type window struct {
	ids  map[ID]struct{}
	ring []ID
	next int // Index into ring of the oldest one, once it is full.
}

// add adds an id, and reports whether it is new.
func (w *window) add(id ID) bool {
	if _, known := w.ids[id]; known {
		return false
	}
	if w.ids == nil {
		w.ids = make(map[ID]struct{})
	}
	w.ids[id] = struct{}{}
	if len(w.ring) < windowMax {
		w.ring = append(w.ring, id)
		return true
	}
	delete(w.ids, w.ring[w.next])
	w.ring[w.next] = id
	w.next = (w.next + 1) % windowMax
	return true
}
