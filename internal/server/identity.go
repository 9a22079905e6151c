package server

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"wsd/internal/auth"
	"wsd/internal/config"
	"wsd/internal/reload"
	"wsd/internal/rules"
	"wsd/internal/shard"
	"wsd/internal/stats"
)

// identity is how clients say who they are. It is the shards' Authority.
type identity struct {
	rules     *rules.Rules
	verifiers map[auth.Purpose]*auth.Verifier
	pool      *auth.Pool // Nil before start.
	sources   []*keySource
	log       *slog.Logger

	exceeded    stats.Seldom // A line about an address that has exceeded limits.address_token_failures.
	userChannel string       // auth.user_channel.
}

// keySource is where the keys of tokens of one purpose come from.
type keySource struct {
	store auth.KeyStore
	files *reload.Value[[]auth.Key] // Nil: no key is in a file.
	set   *keySet                   // Nil: there is no key set.
}

// keysInterval is the time between two looks at the key files.
const keysInterval = 2 * time.Second

// newIdentity returns nil if auth.mode is none. Load has checked the options. It verifies nothing before start.
func newIdentity(cfg *config.Config, log *slog.Logger) (*identity, error) {
	a := &cfg.Auth
	if !a.On() {
		return nil, nil //nolint:nilnil // Nil is no identity.
	}
	channelRules, err := a.ChannelRules()
	if err != nil {
		return nil, err
	}
	id := &identity{rules: channelRules, log: log, userChannel: a.UserChannel}
	connections, err := id.source(&a.Keys, "connection", log)
	if err != nil {
		return nil, err
	}
	subscriptions, subscriptionKeys := connections, &a.Keys
	if a.Subscription.Given() {
		subscriptionKeys = &a.Subscription.Keys
		if subscriptions, err = id.source(subscriptionKeys, "subscription", log); err != nil {
			return nil, err
		}
	}
	claims := channelRules.Claims()
	if cfg.Publish.On() {
		publishRules, err := cfg.Publish.ChannelRules()
		if err != nil {
			return nil, err
		}
		claims = append(claims, publishRules.Claims()...)
		slices.Sort(claims)
		claims = slices.Compact(claims)
	}
	verifier := func(purpose auth.Purpose, source *keySource, k *config.Keys) *auth.Verifier {
		return auth.New(auth.Options{
			Purpose: purpose, Keys: &source.store, Issuer: k.Issuer, Audience: k.Audience, Leeway: a.Leeway,
			BytesMax: int(a.TokenBytesMax), Lists: claims,
		})
	}
	id.verifiers = map[auth.Purpose]*auth.Verifier{
		auth.ForConnection:   verifier(auth.ForConnection, connections, &a.Keys),
		auth.ForSubscription: verifier(auth.ForSubscription, subscriptions, subscriptionKeys),
	}
	return id, nil
}

// start starts the goroutines that verify tokens.
func (id *identity) start(cfg *config.Config) {
	workers := cfg.Auth.Workers
	if workers == 0 {
		workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	id.pool = auth.NewPool(auth.PoolOptions{
		Verifiers: id.verifiers, Workers: workers, Queue: cfg.Auth.WaitingMax,
		FailuresMax: cfg.Limits.AddressFailures, FailuresDryRun: cfg.Limits.DryRuns("address_token_failures"),
		Exceeded: func(address netip.Addr) {
			id.noteExceeded(address, cfg.Limits.AddressFailures, cfg.Limits.DryRuns("address_token_failures"))
		},
	})
}

// noteExceeded logs that an address has sent too many bad tokens, once a minute at most. Any goroutine may call it.
func (id *identity) noteExceeded(address netip.Addr, limit int, dryRun bool) {
	if !id.exceeded.Allows() {
		return
	}
	id.log.Warn("a limit is exceeded", "limit", "limits.address_token_failures", "value", limit, "dry_run", dryRun,
		"client", address, "metric", "wsd_tokens_address_exceeded_total counts each time; this line comes once a "+
			"minute at most")
}

// source builds a source of keys. The keys of files and options are in use when it returns.
func (id *identity) source(k *config.Keys, purpose string, log *slog.Logger) (*keySource, error) {
	source := &keySource{}
	files := k.Files()
	parse := func(contents [][]byte) ([]auth.Key, error) {
		keys, err := k.Parse(contents)
		if err == nil {
			source.store.Configure(keys)
		}
		return keys, err
	}
	var contents [][]byte
	for _, file := range files {
		content, err := reload.Read(file)
		if err != nil {
			return nil, err
		}
		contents = append(contents, content)
	}
	first, err := parse(contents)
	if err != nil {
		return nil, err
	}
	if len(files) > 0 {
		source.files = reload.New(first, reload.Options[[]auth.Key]{
			Name: "keys for " + purpose + " tokens", Paths: files, Parse: parse, Logger: log,
		})
	}
	if k.JWKSURL != "" {
		if source.set, err = newKeySet(k, &source.store, log); err != nil {
			return nil, err
		}
	}
	id.sources = append(id.sources, source)
	return source, nil
}

// watch follows key files and key sets until the returned function is called, which returns when that has ended.
func (id *identity) watch(ctx context.Context) (stop func()) {
	if id == nil {
		return func() {}
	}
	var stops []func()
	for _, source := range id.sources {
		if source.files != nil {
			stops = append(stops, watchFiles(ctx, "auth", "keys", keysInterval, source.files))
		}
		if source.set != nil {
			stops = append(stops, beside(ctx, "auth", "keys", source.set.follow))
		}
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// Verify implements shard.Authority.
func (id *identity) Verify(
	purpose shard.TokenPurpose, token string, address netip.Addr, answer func(shard.TokenAnswer),
) {
	want, source := auth.ForConnection, id.sources[0]
	if purpose == shard.TokenForSubscription {
		want, source = auth.ForSubscription, id.sources[len(id.sources)-1]
	}
	id.pool.Verify(want, token, address, func(c *auth.Claims, err error) {
		if err == nil {
			who := identityOf(c)
			if purpose == shard.TokenForConnection {
				id.addUserChannel(who)
			}
			answer(shard.TokenAnswer{Result: shard.TokenOK, Identity: who})
			return
		}
		id.log.Debug("token refused", "client", address, "reason", err.Error())
		answer(shard.TokenAnswer{Result: source.result(err)})
	})
}

// result returns what a client whose token failed is to do.
func (source *keySource) result(err error) shard.TokenResult {
	e, ok := errors.AsType[*auth.Error](err)
	if !ok {
		return shard.TokenInvalid
	}
	switch f := e.Fault; {
	case f == auth.FaultExpired, e.Expired:
		return shard.TokenExpired
	case f == auth.FaultBusy, f == auth.FaultAddress, f == auth.FaultNotYet:
		return shard.TokenLater
	case f == auth.FaultKey && source.set != nil: // The key may be in the set when it is fetched again.
		return shard.TokenLater
	}
	return shard.TokenInvalid
}

// identityOf returns what shards are to know of a token.
func identityOf(c *auth.Claims) *shard.Identity {
	const text, entry = 16, 48 // Bytes of a string, and of an entry of a map.
	who := &shard.Identity{
		User: c.User, Channel: c.Channel, Channels: c.Channels, ExpireAt: c.ExpireAt, Lists: c.Lists, Info: c.Info,
		Meta: c.Meta,
	}
	who.Bytes = len(c.User) + len(c.Channel) + len(c.Info) + len(c.Meta)
	for _, name := range c.Channels {
		who.Bytes += text + len(name)
	}
	for name, list := range c.Lists {
		who.Bytes += entry + len(name)
		for _, element := range list {
			who.Bytes += text + len(element)
		}
	}
	return who
}

// addUserChannel adds auth.user_channel to the channels that the server subscribes a client to.
func (id *identity) addUserChannel(who *shard.Identity) {
	if id.userChannel == "" || who.User == "" {
		return
	}
	name := strings.Replace(id.userChannel, "{sub}", who.User, 1)
	if slices.Contains(who.Channels, name) {
		return
	}
	who.Channels = append(slices.Clip(who.Channels), name)
	who.Bytes += len(name) + 16
}

// Allows implements shard.Authority.
func (id *identity) Allows(who *shard.Identity, channel string, token bool) bool {
	return id.rules.Allows(&rules.Client{User: who.User, Lists: who.Lists, Token: token}, channel)
}

// close ends the goroutines of the pool. Shards must have ended.
func (id *identity) close() {
	if id != nil {
		id.pool.Close()
	}
}

// shardAuth returns the options of shards. Without identity the Authority must be a nil interface, not an interface
// that contains a nil pointer.
func (s *Server) shardAuth() shard.AuthOptions {
	if s.identity == nil {
		return shard.AuthOptions{}
	}
	a := &s.cfg.Auth
	return shard.AuthOptions{Authority: s.identity, Anonymous: a.Anonymous, Grace: a.ExpiryGrace}
}
