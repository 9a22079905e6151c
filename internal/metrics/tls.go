package metrics

import (
	"sync/atomic"

	"wsd/internal/shard"
	"wsd/internal/stats"
	"wsd/internal/tlshandshake"
)

// noTLS is what metrics show without TLS.
var noTLS = tlshandshake.NewStats()

func (o Options) tls() []family {
	t := o.TLS
	if t == nil {
		t = noTLS
	}
	return []family{
		{
			name: "wsd_tls_handshakes_total", help: "TLS handshakes of clients that ended, by result: full, resumed, " +
				"failed, gone, evicted or refused (docs/tls.md explains each).",
			kind: counter, labels: []string{"result"},
			values: func(emit func(float64, ...string)) {
				for _, r := range tlshandshake.Results() {
					emit(float64(t.Results[r].Load()), r.String())
				}
			},
		},
		{
			name: "wsd_tls_versions_total", help: "TLS handshakes of clients that succeeded, by version.",
			kind: counter, labels: []string{"version"},
			values: func(emit func(float64, ...string)) {
				emit(float64(t.TLS12.Load()), "1.2")
				emit(float64(t.TLS13.Load()), "1.3")
			},
		},
		single("wsd_tls_handshakes_pending", "TLS handshakes under way; client.tls.handshakes_max bounds them.", gauge,
			t.Pending.Load),
		{
			name: "wsd_tls_handshake_seconds", kind: histogram,
			help: "Time from a client's first TLS record to the end of its handshake, however it ended. It includes " +
				"the client's round trip.",
			histogram: func() stats.HistogramSnapshot { return t.Duration.Snapshot() },
		},
		o.counter("wsd_tls_truncated_total", "TLS connections whose client closed its socket without close_notify. "+
			"Browsers often do.", func(s *shard.Stats) *atomic.Uint64 { return &s.TLSTruncated }),
		{
			name: "wsd_tls_certificate_expires_timestamp_seconds", help: "When the first of client.tls.certificates " +
				"expires, in seconds since 1970; 0 without TLS.",
			values: func(emit func(float64, ...string)) {
				if o.CertificateExpires == nil || o.CertificateExpires().IsZero() {
					emit(0)
					return
				}
				emit(float64(o.CertificateExpires().Unix()))
			},
		},
	}
}
