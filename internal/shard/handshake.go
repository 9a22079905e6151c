package shard

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// The paths of the client port. Options.PathPrefix may precede them, and a slash may follow.
const (
	pathProtocol = "/connection/websocket"
	pathRaw      = "/ws"
	pathHealth   = "/healthz"
)

const helpLine = "This is a WebSocket port: connect to " +
	"/connection/websocket (Centrifugo protocol) or /ws?channel=NAME (raw)."

// The subprotocols of raw clients. A browser cannot send a header of its own, so the second one carries a token.
const (
	subprotocolRaw   = "wsd.raw"
	subprotocolToken = "wsd.token." // The token follows.
)

// The query parameters that are read. All others, and what they contain, are the client's own business.
const (
	paramChannel    = "channel"
	paramToken      = "token"
	paramPublish    = "publish"
	paramNativePing = "cf_ws_frame_ping_pong"
	paramProtocol   = "cf_protocol"
	paramFormat     = "format"
)

var protocolParams = []string{paramNativePing, paramProtocol, paramFormat}

// request is what the shard wants of an upgrade request that it accepts.
type request struct {
	plainHTTP bool
	deflate   bool        // Compressed messages.
	native    bool        // Ping frames rather than in-band pings.
	variant   bus.Variant // Of the dialect that the client speaks.
	channels  []string    // Of a raw client.
	publish   string      // Of a raw client: the channel that it publishes to; empty: none.
	token     string      // Of a raw client. It must not be logged or sent.
	who       *Identity   // Of a raw client whose token was verified.
	head      []byte      // All of it; valid while it is looked at.
}

// handshake responds to the complete upgrade request in head.
func (s *Shard) handshake(c *conn, head []byte) {
	req := request{head: head}
	decide := func(r *wire.Request) (wire.Accept, error) { return s.decide(c, r, &req) }
	out, rejected := wire.Handshake(s.replies[:0], head, decide)
	if rejected == verifying {
		return
	}
	if rejected != nil {
		reason := ReasonHandshakeRejected
		if req.plainHTTP {
			reason = ReasonHTTP
		} else {
			s.countRefusal(c, rejected)
		}
		s.respond(c, slices.Clone(out), reason)
		return
	}
	s.replies = out[:0]
	s.endHandshake(c)
	s.countClients(1)
	if s.opts.Calls.Backend != nil && len(s.opts.Calls.Headers) > 0 {
		s.calls.keepHeader(c, wire.Fields(head, s.opts.Calls.Headers))
	}
	c.deadline = 0
	c.variant = req.variant
	d := c.speaks()
	c.nativePing = req.native || d.ping == nil
	if req.deflate {
		s.stats.Compressed.Add(1)
		c.reader.AllowDeflate()
	}
	if d.takesCommands {
		c.state = stateJoining
		c.deadline = s.tick + ticks(s.opts.Limits.StaleCloseDelay)
		s.wheel.rearm(c)
	} else {
		c.state = stateJoined
		if req.who != nil {
			s.joinRaw(c, req.who)
		}
		s.beginPublishing(c, req.publish)
		for _, name := range req.channels {
			s.channels.subscribe(c, name)
		}
		s.scheduleEnd(c)
		s.pings.schedule(c)
	}
	// Last: a client that has seen the answer misses nothing from then on.
	if v := s.sender.writeCopy(&c.out, &c.transport, out); v != verdictOK {
		c.reason = v.reason()
		s.abort(c)
		return
	}
	if !c.out.empty() || s.secured.holds(&c.transport) {
		s.outlet.markDirty(c)
	}
}

// decide accepts or rejects a request.
func (s *Shard) decide(c *conn, r *wire.Request, req *request) (accept wire.Accept, err error) {
	path := s.path(r.Path)
	if err := s.nameClient(c, r, req.head); err != nil {
		return accept, err
	}
	if !r.Upgrade {
		req.plainHTTP = true
		return accept, plainResponse(path, !s.accepting.stopped && s.opts.Serving.Load())
	}
	if s.accepting.stopped || s.opts.Drain.on() {
		return accept, stopping
	}
	// One that is identified was admitted before its token was verified.
	if c.known&knownIdentity == 0 && !s.admits(AnswerHTTP) {
		return accept, s.opts.Admission.overloaded()
	}
	if allows := s.opts.AllowsOrigin; allows != nil && r.Origin != "" && !allows(r.Origin, r.Host) {
		return accept, wrongOrigin(r.Origin)
	}
	req.deflate = r.Deflate && s.opts.Deflate.Deflater != nil
	accept.Deflate = req.deflate
	if s.opts.ShardHeader {
		accept.Header = [][2]string{{"X-Wsd-Shard", fmt.Sprint(s.opts.ID)}}
	}
	switch path {
	case pathRaw:
		accept.Protocol, err = s.decideRaw(c, r, req)
	case pathProtocol:
		query := make(url.Values)
		known := func(name string) bool { return slices.Contains(protocolParams, name) }
		if err = parameters(r.RawQuery, known, query.Add); err != nil {
			return accept, err
		}
		req.native = query.Get(paramNativePing) == "true"
		accept.Protocol, req.variant, err = chooseEncoding(r.Protocols, query)
	default:
		err = &wire.Reject{Cause: causePath, Status: 404, Body: "No such path. " + helpLine}
	}
	if err != nil {
		return accept, err
	}
	if exceeded, ok := s.admitsChannels(req.channels); !ok {
		return accept, rejectOver(exceeded)
	}
	if rejected := s.takePlace(c); rejected != nil {
		return accept, rejected
	}
	if who := req.who; who != nil && who.User != "" {
		id := s.identities.find(c)
		if s.identities.set(id, who); !s.takeUser(id) {
			return accept, rejectOver(QuotaUserConnections)
		}
	}
	return accept, nil
}

// path returns one of the paths above if the path of a request means that, else any other path.
func (s *Shard) path(path string) string {
	path = strings.TrimSuffix(path, "/")
	if rest, ok := strings.CutPrefix(path, s.opts.PathPrefix); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	return path
}

var stopping = &wire.Reject{
	Cause: causeStopping, Status: 503, Body: "The server takes no new clients, because it is stopping.",
}

// plainResponse is the response to a request that is not an upgrade.
func plainResponse(path string, serving bool) *wire.Reject {
	switch {
	case path != pathHealth:
		return &wire.Reject{Status: 426, Body: helpLine,
			Header: [][2]string{{"Upgrade", "websocket"}}}
	case !serving:
		return &wire.Reject{Status: 503, Body: "not serving"}
	default:
		return &wire.Reject{Status: 200, Body: "ok"}
	}
}

// parameters calls take with the known query parameters, in the order of the query. It does not look at other
// parameters, which may be malformed.
func parameters(query string, known func(name string) bool, take func(name, value string)) error {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil || !known(name) {
			continue
		}
		// A semicolon once separated parameters, and some software still reads it so.
		if value, err = url.QueryUnescape(value); err != nil || strings.Contains(pair, ";") {
			return &wire.Reject{Cause: causeQuery, Status: 400,
				Body: "The query parameter " + name + " is malformed: percent-encode special characters."}
		}
		take(name, value)
	}
	return nil
}

// checkChannels checks the channels of a raw client.
func (s *Shard) checkChannels(channels []string) error {
	limits := &s.opts.Limits
	refuse := func(cause wire.Cause, format string, args ...any) error {
		return &wire.Reject{Cause: cause, Status: 400, Body: fmt.Sprintf(format, args...)}
	}
	if s.overSubscriptions(len(channels)) {
		return refuse(causeChannelsMax, "%d channels named, at most %d allowed (client.channels_max).",
			len(channels), limits.ChannelsMax)
	}
	for _, name := range channels {
		switch {
		case name == "" || !utf8.ValidString(name):
			return refuse(causeChannel, "A channel name must be non-empty UTF-8.")
		case len(name) > limits.ChannelLengthMax:
			return refuse(causeChannel, "A channel name has %d bytes, at most %d allowed "+
				"(client.channel_length_max).", len(name), limits.ChannelLengthMax)
		case s.opts.CanFeed != nil && !s.opts.CanFeed(name):
			return refuse(causeUnknownChannel, "A channel is named that no topic and no route can feed.")
		}
	}
	if len(channels) > 1 {
		sorted := slices.Sorted(slices.Values(channels))
		if len(slices.Compact(sorted)) < len(channels) {
			return refuse(causeChannel, "A channel is named twice.")
		}
	}
	return nil
}

// rawSubprotocol chooses the subprotocol of a raw client, which may also offer a token.
func rawSubprotocol(offered []string) (subprotocol, token string, err error) {
	refuse := func(text string) (string, string, error) {
		return "", "", &wire.Reject{Cause: wire.CauseSubprotocol, Status: 400, Body: text}
	}
	tokens := 0
	for _, name := range offered {
		switch value, isToken := strings.CutPrefix(name, subprotocolToken); {
		case name == subprotocolRaw:
			subprotocol = name
		case isToken && value == "":
			return refuse("The subprotocol wsd.token.TOKEN lacks its token.")
		case isToken:
			token = value
			tokens++
		}
	}
	switch {
	case tokens > 1:
		return refuse("More than one token is offered as a subprotocol; offer one.")
	case subprotocol == "" && len(offered) > 0:
		return refuse("None of the offered subprotocols is known here: offer wsd.raw, and wsd.token.TOKEN beside it " +
			"for a token, or none at all.")
	}
	return subprotocol, token, nil
}

// chooseEncoding picks the encoding of the client protocol: by the first subprotocol offered that names one; if none
// were offered by the query, else JSON.
func chooseEncoding(offered []string, query url.Values) (subprotocol string, v bus.Variant, err error) {
	var names []string
	for _, name := range offered {
		for i := range dialects {
			if e := dialects[i].encoding; e != nil && e.Name == name {
				return name, bus.Variant(i), nil
			}
		}
	}
	if len(offered) > 0 {
		for i := range dialects {
			if e := dialects[i].encoding; e != nil {
				names = append(names, e.Name)
			}
		}
		return "", 0, &wire.Reject{Cause: wire.CauseSubprotocol, Status: 400, Body: "None of the " +
			"offered subprotocols is known here: offer " + strings.Join(names, " or ") + ", or none at all."}
	}
	if query.Get(paramProtocol) == "protobuf" || query.Get(paramFormat) == "protobuf" {
		return "", bus.VariantProtobuf, nil
	}
	return "", bus.VariantJSON, nil
}

// refuseRequest responds to a request that never became complete or is too long.
func (s *Shard) refuseRequest(c *conn, r *wire.Reject, reason Reason) {
	s.countRefusal(c, r)
	s.respond(c, wire.AppendReject(nil, r), reason)
}

// countRefusal counts and logs a refused request. The text of a refusal contains nothing that the client sent, but for
// an origin that is not allowed.
func (s *Shard) countRefusal(c *conn, r *wire.Reject) {
	s.stats.Refused[causeIndex(r.Cause)].Add(1)
	if s.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		s.opts.Logger.Debug("upgrade request refused", "client", s.proxied.client(c), "reason", r.Cause,
			"status", r.Status, "answer", r.Body, "shard", s.opts.ID)
	}
}

// respond sends a response that ends the connection.
func (s *Shard) respond(c *conn, response []byte, reason Reason) {
	s.beginClosing(c, reason)
	s.outlet.queue(c, chunk{bytes: response})
}
