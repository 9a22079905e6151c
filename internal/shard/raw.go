package shard

import (
	"slices"
	"strings"

	"wsd/internal/wire"
)

// decideRaw reads the request of a raw client: its channels, its subprotocol and its token. It returns the subprotocol.
func (s *Shard) decideRaw(c *conn, r *wire.Request, req *request) (subprotocol string, err error) {
	var tokens []string
	var publishTo []string
	known := func(name string) bool {
		return name == paramChannel || name == paramToken && s.opts.Auth.on() ||
			name == paramPublish && s.opts.Publish.Raw && s.opts.Publish.Publisher != nil
	}
	err = parameters(r.RawQuery, known, func(name, value string) {
		switch name {
		case paramChannel:
			req.channels = append(req.channels, value)
		case paramPublish:
			publishTo = append(publishTo, value)
		default:
			tokens = append(tokens, value)
		}
	})
	if err == nil {
		err = s.checkChannels(req.channels)
	}
	if err != nil {
		return "", err
	}
	subprotocol, offered, err := rawSubprotocol(r.Protocols)
	if err != nil {
		return "", err
	}
	tokens = append(tokens, offered, bearerToken(r.Authorization))
	if s.opts.Auth.on() {
		if req.token, err = oneToken(tokens); err != nil {
			return "", err
		}
		if err := s.authorizeRaw(c, req); err != nil {
			return "", err
		}
		if err := s.checkChannels(req.channels); err != nil { // There may be more now.
			return "", err
		}
	} else {
		isToken := func(name string) bool { return name == paramToken }
		_ = parameters(r.RawQuery, isToken, func(_, value string) { tokens = append(tokens, value) })
		s.ignoreToken(strings.Join(tokens, ""))
	}
	if err := s.authorizeRawPublish(publishTo, req); err != nil {
		return "", err
	}
	if len(req.channels) == 0 && req.publish == "" {
		return "", &wire.Reject{Cause: causeChannel, Status: 400, Body: "Name at least one channel: /ws?channel=NAME."}
	}
	return subprotocol, nil
}

// bearerToken returns the token of an Authorization field (RFC 6750 §2.1); empty: it has none.
func bearerToken(authorization string) string {
	scheme, token, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimLeft(token, " ")
}

// oneToken returns the token of which copies may have come in several ways; empty: there is none.
func oneToken(tokens []string) (string, error) {
	tokens = slices.DeleteFunc(tokens, func(t string) bool { return t == "" })
	if len(tokens) == 0 {
		return "", nil
	}
	for _, other := range tokens[1:] {
		if other != tokens[0] {
			return "", &wire.Reject{Cause: causeQuery, Status: 400, Body: "More than one token is sent: send one, as " +
				"Authorization: Bearer, as a subprotocol wsd.token.TOKEN, or as ?token=."}
		}
	}
	return tokens[0], nil
}

// joinRaw makes c the raw client that who says; decide has counted it as its user's.
func (s *Shard) joinRaw(c *conn, who *Identity) {
	id := s.identities.of(c)
	id.answer = nil
	s.identities.set(id, who)
	if who.User != "" {
		s.setUser(c, who.User)
	}
	id.ends = s.connectionEnds(who.ExpireAt)
}
