package tlshandshake

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"

	"wsd/internal/tlsrecord"
)

// secrets collects the secrets of one handshake from the lines that crypto/tls writes to a KeyLogWriter, in the format
// of NSS (draft-ietf-tls-keylogfile). They are never logged.
type secrets struct {
	client, server []byte // Traffic secrets of TLS 1.3.
	master         []byte // Of TLS 1.2.
	random         []byte // The client's.
}

// resumable has sessions of TLS 1.2 carry their master secret where Go gives it back: when one is resumed, crypto/tls
// writes no line to the key log. A ticket is encrypted, and contains the secret anyway.
func (s *secrets) resumable(c *tls.Config) {
	c.WrapSession = func(cs tls.ConnectionState, state *tls.SessionState) ([]byte, error) {
		if cs.Version == tls.VersionTLS12 {
			state.Extra = append(state.Extra, append([]byte(masterPrefix), s.master...))
		}
		return c.EncryptTicket(cs, state)
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		state, err := c.DecryptTicket(ticket, cs)
		if err != nil || state == nil || cs.Version != tls.VersionTLS12 {
			return state, err
		}
		for _, extra := range state.Extra {
			if master, ok := bytes.CutPrefix(extra, []byte(masterPrefix)); ok {
				s.master = master
				return state, nil
			}
		}
		return nil, nil //nolint:nilnil // Another program's ticket: a full handshake follows.
	}
}

// masterPrefix marks the master secret in SessionState.Extra.
const masterPrefix = "wsd: master secret: "

// hello notes the client's random of its first record, a ClientHello.
func (s *secrets) hello(record []byte) {
	if len(record) >= randomAt+randomLen {
		s.random = bytes.Clone(record[randomAt : randomAt+randomLen])
	}
}

// Write takes one line: LABEL CLIENT_RANDOM SECRET.
func (s *secrets) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return 0, errors.New("BUG: a line of the key log without three fields")
	}
	secret, err := hex.DecodeString(string(fields[2]))
	if err != nil {
		return 0, errors.New("BUG: a secret of the key log is not hexadecimal")
	}
	switch string(fields[0]) {
	case "CLIENT_TRAFFIC_SECRET_0":
		s.client = secret
	case "SERVER_TRAFFIC_SECRET_0":
		s.server = secret
	case "CLIENT_RANDOM":
		s.master = secret
	}
	return len(line), err
}

// Where ClientHello and ServerHello have their random: after the headers of record and message, and the version.
const (
	randomAt  = tlsrecord.HeaderLen + 4 + 2
	randomLen = 32
)

// conn returns the record layer that goes on after a handshake in which the server has written what is given.
func (s *secrets) conn(cs *tls.ConnectionState, written []byte) (*tlsrecord.Conn, error) {
	var state tlsrecord.State
	switch {
	case cs.Version == tls.VersionTLS13 && s.client != nil && s.server != nil:
		sealed, err := tlsrecord.CountSealed(cs.CipherSuite, s.server, written)
		if err != nil {
			return nil, err
		}
		state = tlsrecord.From13(cs.CipherSuite, s.client, s.server, sealed)
	case cs.Version == tls.VersionTLS12 && s.random == nil:
		return nil, errors.New("the first record of the ClientHello is too short")
	case cs.Version == tls.VersionTLS12 && s.master != nil && len(written) >= randomAt+randomLen:
		var err error
		state, err = tlsrecord.From12(cs.CipherSuite, s.master, s.random, written[randomAt:randomAt+randomLen])
		if err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("BUG: no secrets of a handshake of %s", tls.VersionName(cs.Version))
	}
	return tlsrecord.New(state)
}
