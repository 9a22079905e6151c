package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"wsd/internal/api"
	"wsd/internal/commands"
	"wsd/internal/control"
	"wsd/internal/produce"
	"wsd/internal/proto"
	"wsd/internal/routing"
	"wsd/internal/shard"
	"wsd/internal/throttle"
)

// commandsLateAfter is how long commands.topic may not have been read before /health says so. A broker answers twice a
// second.
const commandsLateAfter = 5 * time.Second

// missedInterval is the time between two lines of the log about commands that a shard has missed.
const missedInterval = 10 * time.Second

// openCommands builds the topic of commands, if there is one.
func (s *Server) openCommands() (err error) {
	if s.cfg.Commands.Topic == "" {
		return nil
	}
	if err := s.openProducer(); err != nil {
		return err
	}
	o := s.connection()
	s.handOver.full = make(map[*shard.Shard]bool)
	s.handOver.missed.Interval = missedInterval
	s.commands, err = commands.New(commands.Options{
		Topic: s.cfg.Commands.Topic, Origin: s.nodeName(), Connect: o.Connection(), Producer: s.producer,
		AgeMax: s.cfg.Commands.AgeMax, LateAfter: commandsLateAfter, Apply: s.applyCommand, Logger: s.log,
	})
	return err
}

// stopAPI ends requests of the server API, and reading commands. It may be called twice.
func (s *Server) stopAPI() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.api.close(ctx); err != nil {
		s.log.Warn("the server API was not closed in order", "error", err)
	}
	if s.commands != nil {
		s.commands.Stop()
	}
}

// connection returns how to connect and log in to Kafka.
func (s *Server) connection() *produce.Options {
	k := &s.cfg.Kafka
	return &produce.Options{
		Brokers: k.Brokers, ClientID: k.ClientID, TLS: s.login.tls, SASL: s.login.sasl, DialTimeout: k.DialTimeout,
	}
}

// command carries out a command of the server API, and returns how far it reaches. A command for a client of this
// process needs no topic. It returns when Kafka has the command, or without a topic when the shards have carried it
// out.
func (s *Server) command(ctx context.Context, c *commands.Command) (scope string, err error) {
	_, here := s.connOf(c.Client)
	if s.commands == nil || here {
		return api.ScopeNode, s.carryOut(ctx, c)
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Commands.Timeout)
	defer cancel()
	done := make(chan error, 1)
	s.commands.Send(c, func(err error) { done <- err })
	select {
	case err = <-done:
	case <-ctx.Done():
		return "", api.NewError(proto.ErrInternal, "Kafka has not acknowledged the command in time; it may be "+
			"carried out later")
	}
	if err != nil {
		return "", api.NewError(proto.ErrInternal, "the command cannot be written to commands.topic: "+err.Error())
	}
	return api.ScopeCluster, nil
}

// Disconnect closes connections for `wsd disconnect`. Any goroutine may call it.
func (s *Server) Disconnect(ctx context.Context, r control.DisconnectRequest) (control.DisconnectResult, error) {
	c := &commands.Command{
		Do: commands.Disconnect, User: r.User, Client: r.Client, Code: r.Code, Reason: r.Reason,
	}
	err := c.Check()
	if _, here := s.connOf(r.Client); err == nil && r.Client != "" && !here && s.commands == nil {
		err = fmt.Errorf("client %q: not the id of a client of this process", r.Client)
	}
	if err != nil {
		return control.DisconnectResult{}, &control.Refusal{Status: http.StatusBadRequest, Text: err.Error()}
	}
	scope, err := s.command(ctx, c)
	return control.DisconnectResult{Scope: scope}, err
}

// connOf returns the connection of a client of this process.
func (s *Server) connOf(client string) (conn routing.ConnID, ok bool) {
	id, ok := routing.ParseClientID([]byte(client))
	if !ok {
		return 0, false
	}
	conn, ok = s.clientIDs.Conn(id)
	return conn, ok && int(conn.Shard()) < len(s.shards)
}

// orderFor returns what shards are to do for a command; nil: the client is not of this process.
func (s *Server) orderFor(c *commands.Command) *shard.Order {
	o := &shard.Order{
		User: c.User, Channel: c.Channel, Keep: c.Keep, Text: c.Reason,
		Code:    uint16(c.Code), //nolint:gosec // Check has limited it.
		Expired: c.Expired,
	}
	o.Data, o.DataJSON = oneLine(c.Data)
	switch c.Do {
	case commands.Disconnect:
		o.Kind = shard.OrderDisconnect
	case commands.Subscribe:
		o.Kind = shard.OrderSubscribe
	case commands.Unsubscribe:
		o.Kind = shard.OrderUnsubscribe
	case commands.Refresh:
		o.Kind = shard.OrderRefresh
	}
	if c.Since != nil {
		o.Recover, o.Offset, o.Epoch = true, c.Since.Offset, c.Since.Epoch
	}
	if c.ExpireAt != 0 {
		o.ExpireAt = time.Now().Add(time.Until(time.Unix(c.ExpireAt, 0)))
	}
	if c.Client != "" {
		if o.Conn, o.HasConn = s.connOf(c.Client); !o.HasConn {
			return nil
		}
	}
	return o
}

// shardsOf returns the shards that an order is for.
func (s *Server) shardsOf(o *shard.Order) []*shard.Shard {
	if o.HasConn {
		return s.shards[o.Conn.Shard() : o.Conn.Shard()+1]
	}
	interested, known := s.interest.Lookup(routing.AppendUser(nil, []byte(o.User)))
	var list []*shard.Shard
	for i, sh := range s.shards {
		// A client whose connect command waits is not in the table yet.
		waits := o.Kind == shard.OrderDisconnect && sh.Joining()
		if waits || known && interested.Shards.Has(routing.ShardID(i)) {
			list = append(list, sh)
		}
	}
	return list
}

// carryOut has shards carry out a command, and returns when they have.
func (s *Server) carryOut(ctx context.Context, c *commands.Command) error {
	o := s.orderFor(c)
	if o == nil {
		return nil // As for any other client that has gone.
	}
	shards := s.shardsOf(o)
	done := make(chan struct{}, len(shards))
	for _, sh := range shards {
		if !sh.PostOrder(o, func(int) { done <- struct{}{} }) {
			return errOrdersFull
		}
	}
	for range shards {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// orderWait is how long a shard that has too many orders holds up the commands for all others.
const orderWait = time.Second

// handOver gives commands that were read from the topic to shards. Its fields are of the goroutine that reads.
type handOver struct {
	full   map[*shard.Shard]bool // Shards that have missed the last one for them.
	missed throttle.Log
}

// applyCommand acts on a command that was read from the topic, and reports whether all shards that it is for have it.
// One that has had no room for an order for orderWait misses it, and so what comes until it has: others must not wait
// for it.
func (s *Server) applyCommand(ctx context.Context, c *commands.Command) bool {
	o := s.orderFor(c)
	if o == nil {
		return true
	}
	var full []*shard.Shard
	for _, sh := range s.shardsOf(o) {
		if !sh.PostOrder(o, nil) {
			full = append(full, sh)
		} else if s.handOver.full[sh] {
			delete(s.handOver.full, sh)
		}
	}
	late := time.Now().Add(orderWait)
	missed := false
	for _, sh := range full {
		missed = !s.handOver.wait(ctx, sh, o, late) || missed
	}
	switch {
	case missed && ctx.Err() == nil:
		s.handOver.missed.Fail(s.log, "shards have too many orders to take commands of other machines: their clients "+
			"do not get them", "shards", s.handOver.shards(), "do", c.Do, "origin", c.Origin, "metric",
			"wsd_cluster_commands_total{result=\"missed\"}")
	case len(s.handOver.full) == 0:
		s.handOver.missed.OK(s.log, "all shards take commands of other machines again")
	}
	return !missed
}

// shards returns the ids of the shards that miss commands.
func (h *handOver) shards() (ids []int) {
	for sh := range h.full {
		ids = append(ids, int(sh.ID()))
	}
	slices.Sort(ids)
	return ids
}

// wait gives a shard an order as soon as there is room for it, until a deadline.
func (h *handOver) wait(ctx context.Context, sh *shard.Shard, o *shard.Order, late time.Time) bool {
	const pause = 5 * time.Millisecond
	for !sh.PostOrder(o, nil) {
		if h.full[sh] || !time.Now().Before(late) {
			h.full[sh] = true
			return false
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// commandsStats returns the counters of the topic, nil if there is none.
func (s *Server) commandsStats() *commands.Stats {
	if s.commands == nil {
		return nil
	}
	return s.commands.Stats()
}

// commandsLate returns what tells whether commands of other machines come late, nil without a topic.
func (s *Server) commandsLate() func() bool {
	if s.commands == nil {
		return nil
	}
	return func() bool { return s.commands.Late() != "" }
}

// oneLine returns data as JSON clients get them, without line breaks, or reports that they are not JSON.
func oneLine(data []byte) (out []byte, isJSON bool) {
	var compact bytes.Buffer
	if json.Compact(&compact, data) != nil {
		return data, false
	}
	return compact.Bytes(), true
}
