package shard

import (
	"unicode/utf8"

	"wsd/internal/proto"
	"wsd/internal/wire"
)

// A raw client may name one channel in its request, to which each of its messages is published. There is no reply: it
// sees its message in the channel, or is closed with the reason for which it was not written.

// authorizeRawPublish sets the channel that a raw client publishes to, or returns the response to its request.
func (s *Shard) authorizeRawPublish(channels []string, req *request) error {
	who := req.who
	if who == nil {
		who = &nobody
	}
	switch {
	case len(channels) == 0:
		return nil
	case len(channels) > 1:
		return &wire.Reject{Cause: causeChannel, Status: 400, Body: "More than one channel to publish to is named."}
	case !s.opts.Limits.allowName(channels[0]) || !utf8.ValidString(channels[0]):
		return &wire.Reject{Cause: causeChannel, Status: 400, Body: "The channel to publish to must be UTF-8 of 1 to " +
			"client.channel_length_max bytes."}
	case !s.opts.Publish.Publisher.Allows(who, channels[0]):
		return &wire.Reject{Cause: causeForbidden, Status: 403, Body: "This client may not publish to the channel."}
	}
	req.publish = channels[0]
	return nil
}

// beginPublishing notes the channel that a raw client publishes to; empty: it does not.
func (s *Shard) beginPublishing(c *conn, channel string) {
	if channel == "" {
		return
	}
	if s.publishers == nil {
		s.publishers = make(publishers)
	}
	s.publishers[c.slot] = publisher{channel: channel}
}

// publishesRaw reports whether messages of c, a raw client, are published.
func (s *Shard) publishesRaw(c *conn) bool { return s.publishers[c.slot].channel != "" }

// publishRaw publishes a message of a raw client, if it has named a channel for that.
func (s *Shard) publishRaw(c *conn, payload []byte) {
	one := s.publishers[c.slot]
	if one.channel == "" || len(payload) == 0 {
		return
	}
	if e := s.publish(c, one.channel, payload, (*Shard).rawAnswered); e != nil {
		s.stats.PublishRefused.Add(1)
		s.rawAnswered(c, e)
	}
}

// rawAnswered ends a raw client one of whose messages was not written.
func (s *Shard) rawAnswered(c *conn, e *proto.Error) {
	switch {
	case e == nil || !c.isClient():
	case e.Code == proto.ErrTooManyRequests.Code:
		s.endSaying(c, ReasonTooManyRequests, "publications (limits.publish_rate, limits.publish_under_way)")
	case e.Temporary:
		s.endSaying(c, ReasonPublish, e.Message)
	default:
		s.endSaying(c, ReasonBadRequest, e.Message)
	}
}
