package produce

import "github.com/twmb/franz-go/pkg/kgo"

// Connection returns kgo's options to connect and log in to the cluster as a Producer of o does, for other clients of
// it. It uses Brokers, ClientID, TLS, SASL and DialTimeout.
func (o *Options) Connection() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...), kgo.ClientID(o.ClientID), kgo.Dialer(o.dial), kgo.DisableClientMetrics(),
	}
	if o.SASL != nil {
		opts = append(opts, kgo.SASL(mechanism{o.SASL}))
	}
	return opts
}
