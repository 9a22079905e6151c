package shard

import (
	"fmt"
	"net/url"
	"slices"
	"unicode/utf8"

	"wsd/internal/bus"
	"wsd/internal/wire"
)

// The paths of the client port.
const (
	pathProtocol = "/connection/websocket"
	pathRaw      = "/ws"
	pathHealth   = "/healthz"
)

const helpLine = "This is a WebSocket port: connect to " +
	"/connection/websocket (Centrifugo protocol) or /ws?channel=NAME (raw)."

// request is what the shard wants of an upgrade request that it accepts.
type request struct {
	plainHTTP bool
	deflate   bool        // Compressed messages.
	native    bool        // Ping frames rather than in-band pings.
	variant   bus.Variant // Of the dialect that the client speaks.
	channels  []string    // Of a raw client.
}

// handshake answers the complete upgrade request in head.
func (s *Shard) handshake(c *conn, head []byte) {
	var req request
	decide := func(r *wire.Request) (wire.Accept, error) { return s.decide(r, &req) }
	out, upgraded := wire.Handshake(s.replies[:0], head, decide)
	if !upgraded {
		reason := ReasonHandshakeRejected
		if req.plainHTTP {
			reason = ReasonHTTP
		} else {
			s.stats.Rejected.Add(1)
		}
		s.answerHTTP(c, slices.Clone(out), reason)
		return
	}
	s.replies = out[:0]
	s.countClients(1)
	c.deadline = 0
	c.variant = req.variant
	d := c.speaks()
	c.nativePing = req.native || d.ping == nil
	if req.deflate {
		s.stats.Compressed.Add(1)
		c.deflate = true
		c.reader.AllowDeflate()
	}
	if d.takesCommands {
		c.state = stateJoining
		c.deadline = s.tick + ticks(s.opts.Limits.StaleCloseDelay)
		s.wheel.rearm(c)
	} else {
		c.state = stateJoined
		for _, name := range req.channels {
			s.channels.subscribe(c, name)
		}
		s.schedulePings(c)
	}
	// Last: a client that has seen the answer misses nothing from then on.
	if v := s.sender.writeCopy(&c.out, &c.transport, out); v != verdictOK {
		c.reason = v.reason()
		s.abort(c)
		return
	}
	if !c.out.empty() {
		s.markDirty(c)
	}
}

// decide accepts or rejects a request.
func (s *Shard) decide(r *wire.Request, req *request) (wire.Accept, error) {
	if !r.Upgrade {
		req.plainHTTP = true
		return wire.Accept{}, plainAnswer(r, !s.accepting.stopped && s.opts.Serving.Load())
	}
	if s.accepting.stopped {
		return wire.Accept{}, &wire.Reject{Status: 503, Body: "The server is stopping."}
	}
	req.deflate = r.Deflate && s.opts.Deflate.Deflater != nil
	accept := wire.Accept{Deflate: req.deflate}
	if s.opts.ShardHeader {
		accept.Header = [][2]string{{"X-Wsd-Shard", fmt.Sprint(s.opts.ID)}}
	}
	query, err := url.ParseQuery(r.RawQuery)
	if err != nil {
		return accept, &wire.Reject{
			Status: 400, Body: "The query string is malformed: percent-encode special characters.",
		}
	}
	switch r.Path {
	case pathRaw:
		req.channels, err = rawChannels(query, &s.opts.Limits)
		return accept, err
	case pathProtocol:
		req.native = query.Get("cf_ws_frame_ping_pong") == "true"
		accept.Protocol, req.variant = chooseEncoding(r.Protocols, query)
		return accept, nil
	default:
		return accept, &wire.Reject{Status: 404, Body: "No such path. " + helpLine}
	}
}

// plainAnswer is the answer to a request that is not an upgrade.
func plainAnswer(r *wire.Request, serving bool) *wire.Reject {
	switch {
	case r.Path != pathHealth:
		return &wire.Reject{Status: 426, Body: helpLine, Header: [][2]string{{"Upgrade", "websocket"}}}
	case !serving:
		return &wire.Reject{Status: 503, Body: "not serving"}
	default:
		return &wire.Reject{Status: 200, Body: "ok"}
	}
}

// rawChannels reads and checks the channels of a raw client.
func rawChannels(query url.Values, limits *Limits) ([]string, error) {
	refuse := func(format string, args ...any) error {
		return &wire.Reject{Status: 400, Body: fmt.Sprintf(format, args...)}
	}
	channels := query["channel"]
	if len(channels) == 0 {
		return nil, refuse("Name at least one channel: /ws?channel=NAME.")
	}
	if len(channels) > limits.ChannelsMax {
		return nil, refuse("%d channels named, at most %d allowed.", len(channels), limits.ChannelsMax)
	}
	for i, name := range channels {
		switch {
		case name == "" || !utf8.ValidString(name):
			return nil, refuse("A channel name must be non-empty UTF-8.")
		case len(name) > limits.ChannelLengthMax:
			return nil, refuse("A channel name has %d bytes, at most %d allowed.", len(name), limits.ChannelLengthMax)
		case slices.Contains(channels[:i], name):
			return nil, refuse("A channel is named twice.")
		}
	}
	return channels, nil
}

// chooseEncoding picks the encoding of the client protocol: by the first subprotocol offered that names one, else by
// the query, else JSON. It also returns the subprotocol to answer with, empty if none was offered.
func chooseEncoding(offered []string, query url.Values) (subprotocol string, v bus.Variant) {
	v = bus.VariantJSON
	if query.Get("cf_protocol") == "protobuf" || query.Get("format") == "protobuf" {
		v = bus.VariantProtobuf
	}
	for _, name := range offered {
		for i := range dialects {
			if e := dialects[i].encoding; e != nil && e.Name == name {
				return name, bus.Variant(i)
			}
		}
	}
	return "", v
}

// refuseRequest answers a request that never became complete or is too long.
func (s *Shard) refuseRequest(c *conn, status int, text string, reason Reason) {
	s.stats.Rejected.Add(1)
	s.answerHTTP(c, wire.AppendReject(nil, &wire.Reject{Status: status, Body: text}), reason)
}

// answerHTTP sends a response that ends the connection.
func (s *Shard) answerHTTP(c *conn, response []byte, reason Reason) {
	s.beginClosing(c, reason)
	s.queue(c, chunk{bytes: response})
}
