package shrink

const (
	// A table with more than splitFrom entries has manyParts parts, one with fewer than joinFrom has one.
	splitFrom = 4096
	joinFrom  = 1024
	manyParts = 64
)

// Table is a map that shrinks with its entries, however many they are. A large one consists of many maps, each of which
// is made anew by itself, so that no operation copies more than some thousand entries.
type Table[K comparable, V any] struct {
	hash  func(K) uint64
	parts []part[K, V] // One, or manyParts.
	n     int
}

type part[K comparable, V any] struct {
	entries map[K]V
	peak    int // How many entries it has had since it was made.
}

// NewTable returns an empty table. Its entries are spread by hash, whose low bits must differ.
func NewTable[K comparable, V any](hash func(K) uint64) *Table[K, V] {
	return &Table[K, V]{hash: hash, parts: make([]part[K, V], 1)}
}

// Len returns how many entries the table has.
func (t *Table[K, V]) Len() int { return t.n }

// Get returns the entry of a key.
func (t *Table[K, V]) Get(key K) (value V, ok bool) {
	value, ok = t.part(key).entries[key]
	return value, ok
}

// Set sets the entry of a key.
func (t *Table[K, V]) Set(key K, value V) {
	t.put(key, value)
	if len(t.parts) == 1 && t.n > splitFrom {
		t.divide(manyParts)
	}
}

// Delete removes the entry of a key, if there is one.
func (t *Table[K, V]) Delete(key K) {
	p := t.part(key)
	if _, ok := p.entries[key]; !ok {
		return
	}
	delete(p.entries, key)
	t.n--
	switch {
	case len(t.parts) > 1 && t.n < joinFrom:
		t.divide(1)
	case p.peak > keepMost/len(t.parts) && len(p.entries) < p.peak/fewPart:
		p.entries, p.peak = again(p.entries), len(p.entries)
	}
}

// All calls fn for each entry in no order, until it returns false. Fn must not change the table.
func (t *Table[K, V]) All(fn func(K, V) bool) {
	for i := range t.parts {
		for key, value := range t.parts[i].entries {
			if !fn(key, value) {
				return
			}
		}
	}
}

func (t *Table[K, V]) part(key K) *part[K, V] {
	if len(t.parts) == 1 {
		return &t.parts[0]
	}
	return &t.parts[t.hash(key)%manyParts]
}

func (t *Table[K, V]) put(key K, value V) {
	p := t.part(key)
	if p.entries == nil {
		p.entries = make(map[K]V)
	}
	before := len(p.entries)
	p.entries[key] = value
	t.n += len(p.entries) - before
	p.peak = max(p.peak, len(p.entries))
}

// divide moves all entries to another number of parts.
func (t *Table[K, V]) divide(parts int) {
	before := t.parts
	t.parts, t.n = make([]part[K, V], parts), 0
	for i := range before {
		for key, value := range before[i].entries {
			t.put(key, value)
		}
	}
}
