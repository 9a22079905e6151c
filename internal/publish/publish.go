package publish

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"wsd/internal/produce"
	"wsd/internal/proto"
	"wsd/internal/route"
)

// Producer is what writes records, a *produce.Producer.
type Producer interface {
	Produce(r produce.Record, done func(produce.Ack, error)) error
}

// Options are the options of a Publisher.
type Options struct {
	Producer  Producer
	Routes    *route.Inverter
	BytesMax  int // Size of the data of one publication.
	JSONDepth int // How deep arrays and objects may be nested in data that has to be JSON.
	// How long the outcome for an idempotency key is kept, and for how many keys.
	KeysTTL time.Duration
	KeysMax int
}

// Request is something to publish.
type Request struct {
	Channel string
	Data    []byte // The Publisher keeps it.
	JSON    bool   // Refuse data that JSON clients would not get.
	// Who publishes. The record has both in headers, and subscribers get them as the publication's info. An empty
	// Client means that no client does: the publication then has no info.
	Client, User string
	// What subscribers may know of the client, and of it in this channel, as JSON on one line. What is longer than
	// route.InfoBytesMax is left out.
	ConnInfo, ChanInfo []byte
	// At most route.TagsMax, with names and values of at most route.TagBytesMax bytes.
	Tags map[string]string
	// If it is not empty, a second request with it and the same channel, within Options.KeysTTL, writes nothing and
	// gets the outcome of the first. At most KeyBytesMax bytes.
	Key string
}

// KeyBytesMax bounds an idempotency key.
const KeyBytesMax = 128

// Publisher publishes to channels.
type Publisher struct {
	o    Options
	keys *keys
}

// New returns a Publisher.
func New(o Options) *Publisher {
	return &Publisher{o: o, keys: newKeys(o.KeysTTL, o.KeysMax)}
}

// Errors of Publish, beside those of package produce.
var (
	errTooLarge = errors.New("the data is larger than publish.bytes_max allows")
	errNotJSON  = errors.New("the data is not JSON that clients can read")
	errEmpty    = errors.New("there is no data")
	errKey      = fmt.Errorf("the idempotency key has more than %d bytes", KeyBytesMax)
	errTags     = fmt.Errorf("more than %d tags, or one with a name or value that is not UTF-8 or has more than %d "+
		"bytes", route.TagsMax, route.TagBytesMax)
	errNotRouted = errors.New("no route says where records of the channel are written (wsd config check names those " +
		"that cannot)")
	errSameKey = errors.New("the outcome of the first request with this idempotency key is not known yet")
	errKeys    = errors.New("too many requests with an idempotency key are under way (publish.keys_max)")
)

// Publish writes r. It never blocks. An error means that nothing is written and that done is never called; otherwise
// done is called once, from another goroutine, and must not block. ErrorOf has the client protocol's error for either.
func (p *Publisher) Publish(r Request, done func(produce.Ack, error)) error {
	switch {
	case len(r.Data) == 0:
		return errEmpty
	case len(r.Data) > p.o.BytesMax:
		return errTooLarge
	case len(r.Key) > KeyBytesMax:
		return errKey
	case !validTags(r.Tags):
		return errTags
	}
	record := produce.Record{
		Partition: produce.AnyPartition, Value: r.Data, Order: []byte(r.Channel), Headers: headers(&r),
		Prepare: func(record *produce.Record) error { return p.prepare(&r, record) },
	}
	if r.Key == "" {
		return p.o.Producer.Produce(record, done)
	}
	mine, known := p.keys.begin(keyOf(r.Channel, r.Key), done)
	switch {
	case mine != nil:
	case known == nil:
		return nil // The outcome of the first is awaited, and is that of this one.
	case known.full:
		return errKeys
	case known.late:
		return errSameKey
	default:
		go done(known.ack, nil) // Not before Publish returns.
		return nil
	}
	record.Late = func(ack produce.Ack, err error) { p.keys.settle(mine, ack, err) }
	err := p.o.Producer.Produce(record, func(ack produce.Ack, err error) { p.keys.answer(mine, ack, err) })
	if err != nil {
		p.keys.abandon(mine, err)
	}
	return err
}

// validTags reports whether tags are within their limits.
func validTags(tags map[string]string) bool {
	if len(tags) > route.TagsMax {
		return false
	}
	for name, value := range tags {
		if name == "" || max(len(name), len(value)) > route.TagBytesMax || !utf8.ValidString(name) ||
			!utf8.ValidString(value) {
			return false
		}
	}
	return true
}

// headers are those of the record: who published, and the tags by name.
func headers(r *Request) (list []produce.Header) {
	if r.Client != "" {
		list = append(list, produce.Header{Name: route.HeaderClient, Value: []byte(r.Client)},
			produce.Header{Name: route.HeaderUser, Value: []byte(r.User)})
		if len(r.ConnInfo) > 0 && len(r.ConnInfo) <= route.InfoBytesMax {
			list = append(list, produce.Header{Name: route.HeaderConnInfo, Value: r.ConnInfo})
		}
		if len(r.ChanInfo) > 0 && len(r.ChanInfo) <= route.InfoBytesMax {
			list = append(list, produce.Header{Name: route.HeaderChanInfo, Value: r.ChanInfo})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tags)) {
		list = append(list, produce.Header{Name: route.HeaderTagPrefix + name, Value: []byte(r.Tags[name])})
	}
	return list
}

// prepare finds where the record is written. It runs in the Producer's goroutine.
func (p *Publisher) prepare(r *Request, record *produce.Record) error {
	if r.JSON {
		if _, err := proto.CompactJSON(nil, r.Data, p.o.JSONDepth); err != nil {
			return errNotJSON
		}
	}
	w, ok := p.o.Routes.Find(r.Channel)
	if !ok {
		return errNotRouted
	}
	pairs := make([][2]string, len(record.Headers))
	for i, h := range record.Headers {
		pairs[i] = [2]string{h.Name, string(h.Value)}
	}
	placed := route.Record{Key: w.Key, Value: r.Data, Headers: route.AppendHeaders(nil, pairs...)}
	if !p.o.Routes.Goes(&w, &placed, r.Channel, &route.Placement{}) {
		return errNotRouted
	}
	record.Topic, record.Partition, record.Key = w.Topic, w.Partition, w.Key
	return nil
}

// ErrorOf returns the client protocol's error for an error of Publish or of its callback.
func ErrorOf(err error) *proto.Error {
	refused := func(e *proto.Error, text string) *proto.Error {
		return &proto.Error{Code: e.Code, Message: text, Temporary: e.Temporary}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLarge):
		return refused(proto.ErrLimitExceeded, err.Error())
	case errors.Is(err, errNotJSON), errors.Is(err, errEmpty), errors.Is(err, errKey), errors.Is(err, errTags):
		return refused(proto.ErrBadRequest, err.Error())
	case errors.Is(err, errNotRouted):
		return refused(proto.ErrNotAvailable, "publishing is not available in this channel")
	case errors.Is(err, errSameKey), errors.Is(err, errKeys):
		return refused(proto.ErrInternal, err.Error())
	}
	var e *produce.Error
	if !errors.As(err, &e) {
		return proto.ErrInternal
	}
	switch e.Kind {
	case produce.TooLarge:
		return refused(proto.ErrLimitExceeded, "the publication is too large")
	case produce.UnknownTopic:
		return proto.ErrUnknownChannel
	case produce.Denied:
		return &proto.Error{Code: proto.ErrInternal.Code, Message: "the server may not write to the channel's topic"}
	case produce.Full, produce.Timeout, produce.Closed, produce.Failed:
		return refused(proto.ErrInternal, "Kafka cannot take the publication now")
	default:
		return proto.ErrInternal
	}
}
