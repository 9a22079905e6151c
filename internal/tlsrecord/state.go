package tlsrecord

import (
	"bytes"
	"crypto/cipher"
	"crypto/tls"
	"fmt"
)

// State is everything that a Conn is made of. Its secrets decrypt the connection: it must not be logged.
type State struct {
	Version uint16 // tls.VersionTLS12 or tls.VersionTLS13.
	Suite   uint16 // One of the suites of crypto/tls that are AEADs.
	In, Out Half   // Client to server, and server to client.

	Ended     bool // The client has sent close_notify.
	Said      bool // We have sent an alert, after which nothing may follow.
	UpdateDue bool // The client has asked for a KeyUpdate that was not sent yet.

	// Limit is how many records a key of AES-GCM protects before it is replaced, or Conn.Worn reports true. 0: less
	// than 2^24, by a random part.
	Limit uint32
}

// Half is one direction of a connection.
type Half struct {
	Secret []byte // TLS 1.3: the traffic secret. TLS 1.2: the key.
	IV     []byte // TLS 1.2: what the nonce is made of, 4 bytes for AES-GCM or 12. TLS 1.3: not used.
	Number uint64 // Number of the next record.
}

// From13 returns the state after a handshake of TLS 1.3 with the given traffic secrets. out is the number of records
// that the server has sealed with its secret already, such as session tickets; see CountSealed.
func From13(suiteID uint16, client, server []byte, out uint64) State {
	return State{Version: tls.VersionTLS13, Suite: suiteID, In: Half{Secret: client},
		Out: Half{Secret: server, Number: out}}
}

// From12 returns the state after a handshake of TLS 1.2, in which both sides have sealed one record, their Finished.
func From12(suiteID uint16, master, clientRandom, serverRandom []byte) (State, error) {
	s, err := lookup(tls.VersionTLS12, suiteID)
	if err != nil {
		return State{}, err
	}
	ivBytes := ivSize - s.explicit
	block := s.prf(master, "key expansion", append(bytes.Clone(serverRandom), clientRandom...),
		2*s.keyBytes+2*ivBytes) // RFC 5246 §6.3; an AEAD has no MAC keys.
	next := func(n int) []byte {
		part := bytes.Clone(block[:n])
		block = block[n:]
		return part
	}
	st := State{Version: tls.VersionTLS12, Suite: suiteID, In: Half{Number: 1}, Out: Half{Number: 1}}
	st.In.Secret, st.Out.Secret = next(s.keyBytes), next(s.keyBytes)
	st.In.IV, st.Out.IV = next(ivBytes), next(ivBytes)
	return st, nil
}

// CountSealed returns how many records at the end of written were sealed by the server with the secret of a handshake
// of TLS 1.3. written is everything that the server has sent, in whole records.
func CountSealed(suiteID uint16, secret, written []byte) (uint64, error) {
	c, err := New(From13(suiteID, secret, secret, 0))
	if err != nil {
		return 0, err
	}
	for len(written) >= HeaderLen {
		n := HeaderLen + int(written[3])<<8 + int(written[4])
		if n > len(written) {
			return 0, fmt.Errorf("BUG: the handshake has written a part of a record, %d of %d bytes", len(written), n)
		}
		if written[0] == typeData {
			c.open(bytes.Clone(written[:n])) //nolint:errcheck // Those before are sealed with another key.
		}
		written = written[n:]
	}
	return c.in.number, nil
}

// half is one direction of a Conn.
type half struct {
	aead   cipher.AEAD // Of key; nil: it has to be made, see cipher.
	number uint64
	secret [secretMax]byte // TLS 1.3: the traffic secret, as long as the suite's hash.
	key    [keyMax]byte    // As long as the suite has it.
	iv     [ivSize]byte    // Changed by the number while a nonce is in use.
}

const (
	secretMax = 48 // SHA-384.
	keyMax    = 32 // AES-256 and ChaCha20.
	ivSize    = 12 // The length of the nonce of every AEAD here.
)

func (h *half) set(s *suite, from Half) error {
	h.number = from.Number
	if from.IV == nil {
		return h.derive(s, from.Secret)
	}
	if len(from.Secret) != s.keyBytes || len(from.IV) != ivSize-s.explicit {
		return errSecret
	}
	copy(h.key[:], from.Secret)
	copy(h.iv[:], from.IV)
	return nil
}

func (h *half) state(s *suite) Half {
	if s.version == tls.VersionTLS12 {
		return Half{
			Secret: bytes.Clone(h.key[:s.keyBytes]), IV: bytes.Clone(h.iv[:ivSize-s.explicit]), Number: h.number,
		}
	}
	return Half{Secret: bytes.Clone(h.secret[:s.hash.Size()]), Number: h.number}
}

// cipher returns the AEAD, made if there is none.
func (h *half) cipher(s *suite) cipher.AEAD {
	if h.aead == nil {
		aead, err := s.make(h.key[:s.keyBytes])
		if err != nil {
			panic("BUG: a TLS key of the wrong length: " + err.Error())
		}
		h.aead = aead
	}
	return h.aead
}

// derive makes key and nonce of a traffic secret of TLS 1.3 (RFC 8446 §7.3).
func (h *half) derive(s *suite, secret []byte) error {
	if len(secret) != s.hash.Size() {
		return errSecret
	}
	key, err := s.expandLabel(secret, "key", s.keyBytes)
	if err != nil {
		return err
	}
	iv, err := s.expandLabel(secret, "iv", ivSize)
	if err != nil {
		return err
	}
	copy(h.secret[:], secret)
	copy(h.key[:], key)
	copy(h.iv[:], iv)
	h.aead = nil
	return nil
}

// update goes on to the next traffic secret (RFC 8446 §7.2).
func (h *half) update(s *suite) error {
	secret, err := s.expandLabel(h.secret[:s.hash.Size()], "traffic upd", s.hash.Size())
	if err != nil {
		return err
	}
	h.number = 0
	return h.derive(s, secret)
}
