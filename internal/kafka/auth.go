package kafka

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// saslStepsMax bounds the exchange: SCRAM, the longest mechanism known here, takes three.
const saslStepsMax = 10

// authenticate runs the SASL exchange and reports a refusal in the broker's own words.
func (c *Conn) authenticate(ctx context.Context, m sasl.Mechanism, addr string) error {
	authError := func(format string, args ...any) error {
		return &KindError{ErrorAuth, fmt.Errorf("authenticate at broker %s by %s: "+format, append([]any{addr, m.Name()}, args...)...)}
	}
	during := "authenticate at broker " + addr + " by " + m.Name()

	msg, err := c.RoundTrip(&saslhandshake.Request{Mechanism: m.Name()})
	if err != nil {
		return &KindError{KindOf(err), Describe(during, err)}
	}
	hello := msg.(*saslhandshake.Response)
	if hello.ErrorCode != 0 {
		return authError("%w (it offers %s; see kafka.sasl.mechanism)", Code(hello.ErrorCode), strings.Join(hello.Mechanisms, ", "))
	}

	host, portText, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(portText)
	ctx = sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: port})
	session, out, err := m.Start(ctx)
	if err != nil {
		return authError("%w", err)
	}
	for range saslStepsMax {
		msg, err := c.RoundTrip(&saslauthenticate.Request{AuthBytes: out})
		if err != nil {
			return &KindError{ErrorAuth, fmt.Errorf("%w (some brokers answer wrong credentials so: check kafka.sasl.username and the password)", Describe(during, err))}
		}
		res := msg.(*saslauthenticate.Response)
		if res.ErrorCode != 0 {
			return authError("%w: %s (check kafka.sasl.username and the password)", Code(res.ErrorCode), res.ErrorMessage)
		}
		done, next, err := session.Next(ctx, res.AuthBytes)
		if err != nil {
			return authError("%w", err)
		}
		if done {
			return nil
		}
		out = next
	}
	return authError("not finished after %d steps", saslStepsMax)
}
