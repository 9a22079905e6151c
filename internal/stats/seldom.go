package stats

import "time"

// Seldom lets something be logged once a minute at most. Its zero value is ready to use. Any goroutine may use it.
type Seldom struct {
	last Moment // Time of the last line.
}

// Allows reports whether a line may be logged now, and counts it as logged if so.
func (s *Seldom) Allows() bool {
	now, last := time.Now(), s.last.Get()
	return (last.IsZero() || now.Sub(last) >= time.Minute) && s.last.Replace(last, now)
}
