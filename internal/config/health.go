package config

import "time"

// Health is what /health calls a problem.
type Health struct {
	DeliveryMax time.Duration `key:"delivery_max" def:"5s" help:"How old a record may be when it is written to the clients, from its timestamp in Kafka on. When it was older in the last ten seconds, /health is degraded, and says whether wsd was slow or the record was already old when wsd read it, as in a backlog. 100ms to 1h. 0: any age."`
}

// shortestDeliveryMax is the least bound that the shards' figures can be compared with.
const shortestDeliveryMax = 100 * time.Millisecond

func (l *loader) checkHealth(h *Health) {
	if h.DeliveryMax != 0 {
		number(l, "health.delivery_max", h.DeliveryMax, shortestDeliveryMax, time.Hour)
	}
}
