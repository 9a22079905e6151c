package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// saslStepsMax bounds the exchange. SCRAM, the longest mechanism known here, takes three steps.
const saslStepsMax = 10

// Advisor is implemented by mechanisms for whose credentials users have to look elsewhere than at a user name and a
// password.
type Advisor interface {
	// Advice says what to check if a broker refuses a login, for a sentence that begins with "check".
	Advice() string
}

// Refusable is implemented by the sasl.StateMachine of a mechanism that wants to know about refused credentials.
type Refusable interface {
	// Refused is called if the broker refuses the login.
	Refused()
}

// advice says what to check if a broker refuses a login by m.
func advice(m sasl.Mechanism) string {
	if a, ok := m.(Advisor); ok {
		return "check " + a.Advice()
	}
	return "check kafka.sasl.username and the password"
}

// authenticate runs the SASL exchange. If the broker refuses, the error has the broker's own words. Lifetime is how
// long the broker takes requests after this login; zero means without limit.
func (c *Conn) authenticate(
	ctx context.Context, m sasl.Mechanism, addr string,
) (lifetime time.Duration, err error) {
	during := "authenticate at broker " + addr + " by " + m.Name()
	refused := func(err error) error { return &KindError{ErrorAuth, fmt.Errorf("%s: %w", during, err)} }

	if err := c.saslHandshake(m.Name()); errors.As(err, new(Code)) {
		return 0, refused(err)
	} else if err != nil {
		return 0, &KindError{KindOf(err), Describe(during, err)}
	}

	host, portText, _ := net.SplitHostPort(addr)
	port, _ := strconv.Atoi(portText)
	ctx = sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: port})
	exchange, out, err := m.Start(ctx)
	if err != nil {
		return 0, refused(err)
	}
	for range saslStepsMax {
		in, lifetime, err := c.saslStep(out)
		if errors.As(err, new(Code)) {
			if r, ok := exchange.(Refusable); ok {
				r.Refused()
			}
			return 0, refused(fmt.Errorf("%w (%s)", err, advice(m)))
		} else if KindOf(err) == ErrorTimeout {
			return 0, &KindError{ErrorTimeout, Describe(during, err)}
		} else if err != nil {
			return 0, &KindError{ErrorAuth, fmt.Errorf("%w (some brokers do this if credentials are wrong: %s)",
				Describe(during, err), advice(m))}
		}
		done, next, err := exchange.Next(ctx, in)
		if err != nil {
			return 0, refused(err)
		}
		if done {
			return lifetime, nil
		}
		out = next
	}
	return 0, refused(fmt.Errorf("not finished after %d steps", saslStepsMax))
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

// saslStep sends the client's part of a step and returns the broker's, and how long the login lasts if this was the
// last step. The error is a Code if the broker refuses.
func (c *Conn) saslStep(out []byte) (in []byte, lifetime time.Duration, err error) {
	req := kmsg.NewSASLAuthenticateRequest()
	req.Version = min(1, c.Version(req.Key()))
	req.SASLAuthBytes = out
	var resp kmsg.SASLAuthenticateResponse
	if _, err := c.Request(&req, &resp, 0); err != nil {
		return nil, 0, err
	}
	if resp.ErrorCode == 0 {
		millis := min(max(resp.SessionLifetimeMillis, 0), lifetimeMax.Milliseconds())
		return resp.SASLAuthBytes, time.Duration(millis) * time.Millisecond, nil
	}
	words := ""
	if resp.ErrorMessage != nil {
		words = *resp.ErrorMessage
	}
	return nil, 0, fmt.Errorf("%w: %s", Code(resp.ErrorCode), words)
}
