package tlsrecord

import (
	"errors"
	"fmt"
)

// Alert is the description of an alert (RFC 8446 §6).
type Alert uint8

// The alerts that are sent, or that mean something of their own.
const (
	AlertCloseNotify       Alert = 0
	AlertUnexpectedMessage Alert = 10
	AlertBadRecordMAC      Alert = 20
	AlertRecordOverflow    Alert = 22
	AlertIllegalParameter  Alert = 47
	AlertDecodeError       Alert = 50
	AlertProtocolVersion   Alert = 70
	AlertInternalError     Alert = 80
	AlertUserCanceled      Alert = 90
	AlertNoRenegotiation   Alert = 100
)

const (
	levelWarning = 1
	levelFatal   = 2
)

func (a Alert) level() byte {
	if a == AlertCloseNotify || a == AlertNoRenegotiation {
		return levelWarning
	}
	return levelFatal
}

// ErrEnded is the error of Open when the client has sent close_notify: the orderly end of what it sends.
var ErrEnded = errors.New("the client has sent close_notify")

// PeerAlert is the error of Open when the client has sent a fatal alert. No alert is due in answer.
type PeerAlert struct{ Alert Alert }

func (e *PeerAlert) Error() string { return fmt.Sprintf("the client sent the TLS alert %d", e.Alert) }

// Violation is the error of Open when the client has sent what it must not. The alert is to be sent before the
// connection is closed.
type Violation struct {
	Alert Alert
	What  string
}

func (e *Violation) Error() string { return fmt.Sprintf("%s (TLS alert %d)", e.What, e.Alert) }

func violation(a Alert, what string) error { return &Violation{a, what} }
