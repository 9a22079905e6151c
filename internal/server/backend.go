package server

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"wsd/internal/config"
	"wsd/internal/produce"
	"wsd/internal/proto"
	"wsd/internal/proxy"
	"wsd/internal/reload"
	"wsd/internal/route"
	"wsd/internal/rules"
	"wsd/internal/shard"
)

// backend is the application's backend. It is the shards' Backend.
type backend struct {
	pool  *proxy.Pool
	rules *rules.Rules // Nil if clients have no identities.
	meta  bool         // Calls have the meta of the client.
	who   *identity    // Nil if clients have no identities.

	topic    string // Where what clients send goes instead; empty: nowhere else.
	producer *produce.Producer
}

// newBackend returns nil if nothing is asked of the backend. Load has checked the options.
func newBackend(cfg *config.Config, log *slog.Logger) (*backend, error) {
	if !cfg.Calls() {
		return nil, nil //nolint:nilnil // Nil is no backend.
	}
	p := &cfg.Proxy
	b := &backend{meta: p.IncludeMeta, topic: cfg.Send.Topic}
	if cfg.Auth.On() {
		var err error
		if b.rules, err = cfg.Auth.ChannelRules(); err != nil {
			return nil, err
		}
	}
	o := proxy.Options{
		Timeout: p.Timeout, Concurrency: p.Concurrency, WaitingMax: p.WaitingMax, BytesMax: int64(p.BytesMax),
		AnswerBytesMax: int(p.AnswerBytesMax), JSONDepthMax: cfg.Kafka.JSONDepthMax, Binary: p.BinaryEncoding,
		Static: p.Static(), Logger: log,
	}
	for _, e := range []proxy.Endpoint{
		{Kind: proxy.KindConnect, URL: string(p.ConnectEndpoint)},
		{Kind: proxy.KindRefresh, URL: string(p.RefreshEndpoint)},
		{Kind: proxy.KindSubscribe, URL: string(p.SubscribeEndpoint)},
		{Kind: proxy.KindSubRefresh, URL: string(p.SubRefreshEndpoint)},
		{Kind: proxy.KindSend, URL: string(cfg.Send.Endpoint)},
	} {
		if e.URL != "" {
			o.Endpoints = append(o.Endpoints, e)
		}
	}
	for _, e := range cfg.RPC.Endpoints() {
		o.Endpoints = append(o.Endpoints, proxy.Endpoint{Kind: proxy.KindRPC, Pattern: e.Pattern, URL: e.URL})
	}
	if p.CAFile != "" {
		roots, err := backendRoots(p.CAFile, log)
		if err != nil {
			return nil, err
		}
		o.TLS = func() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots.Get()} }
	}
	b.pool = proxy.New(o)
	return b, nil
}

// backendRoots returns the authorities of a file, which is read again for each connection.
func backendRoots(file string, log *slog.Logger) (*reload.Value[*x509.CertPool], error) {
	pem, err := reload.ReadRegular(file)
	if err != nil {
		return nil, err
	}
	first, err := config.ParseAuthorities(pem)
	if err != nil {
		return nil, err
	}
	return reload.New(first, reload.Options[*x509.CertPool]{
		Name: "authorities for the backend", Paths: []string{file}, Logger: log,
		Parse: func(contents [][]byte) (*x509.CertPool, error) { return config.ParseAuthorities(contents[0]) },
	}), nil
}

// kinds are the kinds of package proxy for those of package shard.
var kinds = [shard.CallKinds]proxy.Kind{
	shard.CallConnect: proxy.KindConnect, shard.CallRefresh: proxy.KindRefresh,
	shard.CallSubscribe: proxy.KindSubscribe, shard.CallSubRefresh: proxy.KindSubRefresh,
	shard.CallRPC: proxy.KindRPC, shard.CallSend: proxy.KindSend,
}

// openBackend builds what asks the application's backend, if anything does.
func (s *Server) openBackend() (err error) {
	if s.backend, err = newBackend(s.cfg, s.log); err != nil || s.backend == nil {
		return err
	}
	if s.backend.who = s.identity; s.backend.topic == "" {
		return nil
	}
	if err = s.openProducer(); err == nil {
		s.backend.producer = s.producer
	}
	return err
}

// send writes what a client sent to the topic. Its id is the key, so that its messages stay in order.
func (b *backend) send(k *shard.Call, answer func(*shard.CallAnswer)) {
	record := produce.Record{
		Topic: b.topic, Partition: produce.AnyPartition, Key: []byte(k.Client), Value: k.Data,
		Headers: []produce.Header{
			{Name: route.HeaderClient, Value: []byte(k.Client)}, {Name: route.HeaderUser, Value: []byte(k.User)},
		},
	}
	failed := &shard.CallAnswer{Failed: true, Error: proto.ErrInternal}
	err := b.producer.Produce(record, func(_ produce.Ack, err error) {
		if err != nil {
			answer(failed)
			return
		}
		answer(&shard.CallAnswer{Given: true})
	})
	if err != nil {
		answer(failed)
	}
}

// Call implements shard.Backend.
func (b *backend) Call(k *shard.Call, answer func(*shard.CallAnswer)) (cancel func()) {
	if k.Kind == shard.CallSend && b.topic != "" {
		b.send(k, answer)
		return func() {} // What is written stays written.
	}
	r := &proxy.Request{
		Kind: kinds[k.Kind], Client: k.Client, Binary: k.Binary, User: k.User, Method: k.Method, Channel: k.Channel,
		Token: k.Token, Name: k.Name, Version: k.Version, Channels: k.Channels, Data: k.Data, Header: k.Header,
		Ahead: k.Ahead,
	}
	if b.meta {
		r.Meta = k.Meta
	}
	return b.pool.Call(r, func(a *proxy.Answer, f *proxy.Failure) {
		got := callAnswer(a, f)
		if k.Kind == shard.CallConnect && got.Given && b.who != nil {
			b.who.addUserChannel(got.Identity)
		}
		answer(got)
	})
}

// Decides implements shard.Backend.
func (b *backend) Decides(channel string) bool { return b.rules != nil && b.rules.AsksProxy(channel) }

// callAnswer returns what shards are to know of an answer.
func callAnswer(a *proxy.Answer, f *proxy.Failure) *shard.CallAnswer {
	switch {
	case f != nil:
		return &shard.CallAnswer{Failed: true, Error: failures[f.Result]}
	case a.Disconnect != nil:
		return &shard.CallAnswer{
			Disconnect: &proto.Disconnect{Code: a.Disconnect.Code, Reason: a.Disconnect.Reason},
		}
	case a.Error != nil:
		return &shard.CallAnswer{Error: &proto.Error{
			Code: proto.ErrorCode(a.Error.Code), Message: a.Error.Message, Temporary: a.Error.Temporary,
		}}
	}
	got := &shard.CallAnswer{Given: a.Given, Data: a.Data, ExpireAt: a.ExpireAt, Expired: a.Expired}
	if a.Given {
		got.Identity = &shard.Identity{
			User: a.User, Channels: a.Channels, ExpireAt: a.ExpireAt, Info: a.Info, Meta: a.Meta, Data: a.Data,
			SubData: a.SubData, Asked: true, Bytes: a.Memory(),
		}
	}
	return got
}

// failures are the errors that clients get for calls without an answer.
var failures = map[proxy.Result]*proto.Error{
	proxy.ResultUnreachable: proto.ErrInternal, proxy.ResultBroken: proto.ErrInternal,
	proxy.ResultTimeout: proto.ErrInternal, proxy.ResultStatus: proto.ErrInternal,
	proxy.ResultTooLarge: proto.ErrInternal, proxy.ResultMalformed: proto.ErrInternal,
	proxy.ResultCanceled: proto.ErrInternal, proxy.ResultBusy: proto.ErrInternal,
	proxy.ResultBadData: proto.ErrBadRequest, proxy.ResultNoEndpoint: proto.ErrMethodNotFound,
}

// connections returns how many connections to the backend there may be.
func (b *backend) connections() int64 {
	if b == nil {
		return 0
	}
	return int64(b.pool.Connections())
}

// close ends all calls. Shards must have ended.
func (b *backend) close() {
	if b != nil {
		b.pool.Close()
	}
}

// stats returns the counters of calls, nil if there are none.
func (b *backend) stats() *proxy.Stats {
	if b == nil {
		return nil
	}
	return b.pool.Stats()
}

// shardCalls returns the options of shards for calls of the backend. Without one it must be a nil interface, not an
// interface that contains a nil pointer.
func (s *Server) shardCalls() shard.CallOptions {
	o := shard.CallOptions{IgnoreSend: s.cfg.Client.IgnoreSend}
	if s.backend == nil {
		return o
	}
	p := &s.cfg.Proxy
	o.Backend, o.Max = s.backend, p.ClientCallsMax
	o.Headers, o.Emulated = lowered(p.Headers), lowered(p.EmulatedHeaders)
	for kind, of := range kinds {
		o.Serves[kind] = s.backend.pool.Serves(of)
	}
	o.Serves[shard.CallSend] = o.Serves[shard.CallSend] || s.backend.topic != ""
	return o
}

// lowered returns names in lower case, each once.
func lowered(names []string) []string {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[strings.ToLower(name)] = true
	}
	return slices.Sorted(maps.Keys(set))
}
