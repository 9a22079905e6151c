package server

import (
	"errors"
	"net/http"

	"wsd/internal/control"
	"wsd/internal/source"
)

// Skip moves on in a partition of a Kafka topic for `wsd kafka skip`. Any goroutine may call it.
func (s *Server) Skip(r control.SkipRequest) (control.SkipResult, error) {
	to := int64(source.SkipOne)
	switch {
	case r.End:
		to = source.SkipEnd
	case r.To != nil && *r.To < 0:
		return control.SkipResult{}, &control.Refusal{Status: http.StatusBadRequest,
			Text: "to must be an offset, from 0 on"}
	case r.To != nil:
		to = *r.To
	}
	from, next, err := s.source.Skip(r.Topic, r.Partition, to)
	for reason, status := range map[error]int{
		source.ErrNotRead: http.StatusNotFound, source.ErrNoPosition: http.StatusConflict,
		source.ErrSkipRange: http.StatusBadRequest,
	} {
		if errors.Is(err, reason) {
			return control.SkipResult{}, &control.Refusal{Status: status, Text: err.Error()}
		}
	}
	return control.SkipResult{From: from, Next: next}, err
}
