package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// saslStepsMax bounds the exchange. SCRAM, the longest mechanism known here, takes three steps.
const saslStepsMax = 10

// authenticate runs the SASL exchange. If the broker refuses, the error has the broker's own words.
func (c *Conn) authenticate(ctx context.Context, m sasl.Mechanism, addr string) error {
	during := "authenticate at broker " + addr + " by " + m.Name()
	refused := func(err error) error { return &KindError{ErrorAuth, fmt.Errorf("%s: %w", during, err)} }

	if err := c.saslHandshake(m.Name()); errors.As(err, new(Code)) {
		return refused(err)
	} else if err != nil {
		return &KindError{KindOf(err), Describe(during, err)}
	}

	host, portText, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(portText)
	ctx = sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: port})
	session, out, err := m.Start(ctx)
	if err != nil {
		return refused(err)
	}
	for range saslStepsMax {
		in, err := c.saslStep(out)
		if errors.As(err, new(Code)) {
			return refused(err)
		} else if err != nil {
			return &KindError{ErrorAuth, fmt.Errorf(
				"%w (some brokers do this if credentials are wrong: check kafka.sasl.username and the password)",
				Describe(during, err))}
		}
		done, next, err := session.Next(ctx, in)
		if err != nil {
			return refused(err)
		}
		if done {
			return nil
		}
		out = next
	}
	return refused(fmt.Errorf("not finished after %d steps", saslStepsMax))
}

// saslHandshake chooses the mechanism. The error is a Code if the broker refuses.
func (c *Conn) saslHandshake(mechanism string) error {
	req := kmsg.NewSASLHandshakeRequest()
	req.Version = 1 // From here on each step is a request, which can carry the broker's error message.
	req.Mechanism = mechanism
	var resp kmsg.SASLHandshakeResponse
	if _, err := c.Request(&req, &resp, 0); err != nil {
		return err
	}
	switch {
	case resp.ErrorCode == 0:
		return nil
	case len(resp.SupportedMechanisms) == 0:
		return fmt.Errorf(
			"this broker port does not use SASL: unset kafka.sasl.mechanism or use the broker's SASL port (%w)",
			Code(resp.ErrorCode))
	}
	return fmt.Errorf("%w (the broker offers %s; set kafka.sasl.mechanism)", Code(resp.ErrorCode),
		strings.Join(resp.SupportedMechanisms, ", "))
}

// saslStep sends the client's part of a step and returns the broker's. The error is a Code if the broker refuses.
func (c *Conn) saslStep(out []byte) (in []byte, err error) {
	req := kmsg.NewSASLAuthenticateRequest()
	req.Version = min(1, c.Version(req.Key()))
	req.SASLAuthBytes = out
	var resp kmsg.SASLAuthenticateResponse
	if _, err := c.Request(&req, &resp, 0); err != nil {
		return nil, err
	}
	if resp.ErrorCode == 0 {
		return resp.SASLAuthBytes, nil
	}
	words := ""
	if resp.ErrorMessage != nil {
		words = *resp.ErrorMessage
	}
	return nil, fmt.Errorf("%w: %s (check kafka.sasl.username and the password)", Code(resp.ErrorCode), words)
}
