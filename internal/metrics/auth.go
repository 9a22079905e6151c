package metrics

import "wsd/internal/auth"

// tokens returns what became of clients' tokens.
func (o Options) tokens() []family {
	s := o.Auth
	if s == nil {
		s = &auth.Stats{}
	}
	return []family{
		{
			name: "wsd_tokens_total", help: "Tokens of clients, by result: ok, or why they were not accepted " +
				"(docs/metrics.md explains each).", kind: counter, labels: []string{"result"},
			values: func(emit func(float64, ...string)) {
				for i, f := range auth.Faults() {
					emit(float64(s.Results[i].Load()), f.String())
				}
			},
		},
		single("wsd_tokens_waiting", "Tokens that wait to be verified, or are being verified.", gauge, s.Waiting.Load),
		single("wsd_tokens_address_exceeded_total", "Tokens of client addresses that have exceeded "+
			"limits.address_token_failures. In a dry run they are only counted.", counter, s.OverFailure.Load),
	}
}
