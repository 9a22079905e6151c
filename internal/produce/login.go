package produce

import (
	"context"
	"net"
	"strconv"

	kafkasasl "github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/sasl"
)

// mechanism makes kgo log in by the mechanisms of the reader (package kafkaauth), which get their credentials anew for
// each login.
type mechanism struct{ m kafkasasl.Mechanism }

// Name implements sasl.Mechanism.
func (m mechanism) Name() string { return m.m.Name() }

// Authenticate implements sasl.Mechanism.
func (m mechanism) Authenticate(ctx context.Context, addr string) (sasl.Session, []byte, error) {
	host, portText, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(portText)
	ctx = kafkasasl.WithMetadata(ctx, &kafkasasl.Metadata{Host: host, Port: port})
	exchange, out, err := m.m.Start(ctx)
	if err != nil {
		return nil, nil, err
	}
	return session{ctx, exchange}, out, nil
}

type session struct {
	ctx      context.Context //nolint:containedctx // kgo's interface has none to pass on.
	exchange kafkasasl.StateMachine
}

// Challenge implements sasl.Session.
func (s session) Challenge(in []byte) (bool, []byte, error) { return s.exchange.Next(s.ctx, in) }
