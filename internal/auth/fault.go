package auth

// Fault says what is wrong with a token. The list is closed: a fault is a metric label.
type Fault uint8

// The faults.
const (
	FaultNone      Fault = iota
	FaultTooLong         // Longer than auth.token_bytes_max.
	FaultMalformed       // Not a signed JWT, or a name is in it twice.
	FaultAlgorithm       // Not one of the algorithms that are ever accepted, such as none.
	FaultKey             // No key has this id and is for this algorithm.
	FaultSignature       // The signature is not that of any such key.
	FaultExpired         // Its exp or expire_at has passed.
	FaultNotYet          // Its nbf is yet to come.
	FaultIssuer          // Its iss is not auth.issuer.
	FaultAudience        // Its aud does not contain auth.audience.
	FaultClaims          // A claim has the wrong type or is too large.
	FaultPurpose         // A subscription token where one for a connection is needed, or the reverse.
	FaultBusy            // Too many tokens wait, so that this one was not looked at.
	FaultAddress         // Too many tokens of this address were bad, so that this one was not looked at.
	faultCount
)

var faults = [faultCount]struct{ label, text string }{
	FaultNone:      {"ok", "the token is good"},
	FaultTooLong:   {"too_long", "the token is longer than auth.token_bytes_max"},
	FaultMalformed: {"malformed", "not a signed JSON Web Token"},
	FaultAlgorithm: {"algorithm", "the algorithm of the token is never accepted"},
	FaultKey:       {"key", "no configured key has the id and the algorithm that the token names"},
	FaultSignature: {"signature", "the signature of the token is not that of a configured key"},
	FaultExpired:   {"expired", "the token has expired"},
	FaultNotYet:    {"not_yet", "the token is not valid yet (nbf)"},
	FaultIssuer:    {"issuer", "the issuer of the token (iss) is not auth.issuer"},
	FaultAudience:  {"audience", "the audience of the token (aud) does not contain auth.audience"},
	FaultClaims:    {"claims", "a claim of the token has the wrong type or is too large"},
	FaultPurpose:   {"purpose", "the token is for another purpose: one for a subscription names its channel"},
	FaultBusy:      {"busy", "too many tokens wait to be verified"},
	FaultAddress:   {"address", "too many tokens of this address could not be verified"},
}

// String is the fault's metric label.
func (f Fault) String() string { return faults[f].label }

// Faults lists every fault, FaultNone first.
func Faults() []Fault {
	list := make([]Fault, faultCount)
	for i := range list {
		list[i] = Fault(i)
	}
	return list
}

// Error is why a token is not accepted. Its text contains nothing of the token.
type Error struct {
	Fault Fault
	Claim string // Of FaultClaims: the claim, if it is one that wsd knows; else empty.

	// Expired says that the token could not be verified (FaultKey, FaultSignature), but that its time is over by what
	// it says itself. A client that was away while a key was replaced has such a token, and needs another one.
	Expired bool
}

// Error implements error.
func (e *Error) Error() string {
	if e.Claim != "" {
		return faults[e.Fault].text + ": " + e.Claim
	}
	return faults[e.Fault].text
}

func fault(f Fault) error { return &Error{Fault: f} }

func claimFault(claim string) error { return &Error{Fault: FaultClaims, Claim: claim} }
