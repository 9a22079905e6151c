package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// lookPause is the least time between two looks at the metadata, however often it is asked for.
const lookPause = 10 * time.Millisecond

// watch looks at the cluster's metadata at every interval, and at once when asked to. It owns topics, partitions' places and the
// fetchers.
func (s *Source) watch(ctx context.Context) {
	var c *conn
	defer func() {
		if c != nil {
			c.close()
		}
		for _, f := range s.fetchers {
			f.cancel()
		}
	}()
	tries := backoff{min: s.o.BackoffMin, max: s.o.BackoffMax}
	unsettled := tries
	for {
		var err error
		var settled bool
		if c, settled, err = s.look(ctx, c); ctx.Err() != nil {
			return
		}
		if err != nil {
			s.stats.MetadataErrors.Add(1)
			s.stats.FetchErrors[kindOf(err)].Add(1)
			s.stats.Reconnects.Add(1)
			s.setViewError(err.Error())
			s.metaProblem.fail(s.log, "the Kafka cluster cannot be read, retrying", "kind", kindOf(err), "err", err)
			sleep(ctx, tries.next(), nil)
			continue
		}
		tries.reset()
		s.stats.MetadataRefreshes.Add(1)
		s.setViewError("")
		s.metaProblem.ok(s.log, "the Kafka cluster can be read again")
		s.flushLosses()
		sleep(ctx, lookPause, nil)
		if settled {
			unsettled.reset()
			sleep(ctx, s.o.MetadataInterval, s.kick)
		} else { // A leader is being chosen; nothing else would tell us when there is one.
			sleep(ctx, min(unsettled.next(), s.o.MetadataInterval), s.kick)
		}
	}
}

func (s *Source) setViewError(text string) {
	s.view.mu.Lock()
	s.view.err = text
	s.view.mu.Unlock()
}

// look asks for the metadata over c, or over a new connection when c is nil, and applies the answer. It returns the connection to use
// next time, nil after an error, and whether every partition has a leader.
func (s *Source) look(ctx context.Context, c *conn) (_ *conn, settled bool, err error) {
	if c == nil {
		if c, err = s.dialAny(ctx); err != nil {
			return nil, false, err
		}
	}
	if err := s.discover(c); err != nil {
		c.close()
		return nil, false, clearer("ask "+c.RemoteAddr().String()+" for all topics", err)
	}
	req := s.metadataRequest(c)
	req.Topics = []kmsg.MetadataRequestTopic{} // Nil would ask for all.
	for _, t := range s.topics {
		rt := kmsg.NewMetadataRequestTopic()
		rt.Topic = kmsg.StringPtr(t.name)
		req.Topics = append(req.Topics, rt)
	}
	look := s.looksBegin()
	var resp kmsg.MetadataResponse
	if _, err := c.exchange(req, &resp, 0); err != nil {
		c.close()
		err = clearer("ask "+c.RemoteAddr().String()+" for metadata", err)
		if s.o.SASL == nil && kindOf(err) == ErrorDisconnect && !s.everLooked() {
			err = fmt.Errorf("%w (does it expect a login? kafka.sasl.mechanism is empty)", err)
		}
		return nil, false, err
	}
	if resp.ErrorCode != 0 {
		c.close()
		return nil, false, codeError(resp.ErrorCode)
	}
	if err := s.askCleanup(c, &resp); err != nil {
		c.close()
		return nil, false, err
	}
	if err := s.askCommitted(ctx, &resp); err != nil {
		return c, false, err
	}
	if settled, err = s.apply(&resp); err != nil {
		c.close()
		return nil, false, err
	}
	s.looksEnd(look)
	return c, settled, nil
}

// metadataRequest returns a request for all topics, as the broker takes it.
func (s *Source) metadataRequest(c *conn) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = min(12, c.versions[int16(protocol.Metadata)])
	req.AllowAutoTopicCreation = false
	return req
}

// dialAny connects to the first broker that can be reached.
func (s *Source) dialAny(ctx context.Context) (*conn, error) {
	c, err := s.dialFirst(ctx, s.seeds)
	// Begin with another one next time, in case the first ones are gone for good.
	if n := min(seedsTriedMax, len(s.seeds)-1); err != nil && n > 0 {
		s.seeds = append(slices.Clone(s.seeds[n:]), s.seeds[:n]...)
	}
	return c, err
}

// dialFirst connects to the first of the addresses that can be reached; not all are tried. Any goroutine.
func (s *Source) dialFirst(ctx context.Context, addrs []string) (*conn, error) {
	var errs []error
	for _, addr := range addrs[:min(len(addrs), seedsTriedMax)] {
		c, err := s.dial(ctx, addr)
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		errs = append(errs, err)
	}
	return nil, joinErrors(errs)
}

// seedsSeen returns the addresses to ask, the brokers last seen first. Any goroutine.
func (s *Source) seedsSeen() []string {
	s.view.mu.Lock()
	defer s.view.mu.Unlock()
	return s.view.seeds
}

// seedsTriedMax bounds the brokers tried in one look, and with them the length of its error.
const seedsTriedMax = 4

// joinErrors makes one line of several errors.
func joinErrors(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	kind, text := kindOf(errs[0]), ""
	for i, err := range errs {
		if i > 0 {
			text += "; "
		}
		text += err.Error()
		if kindOf(err) == ErrorAuth {
			kind = ErrorAuth
		}
	}
	return &kindError{kind, errors.New(text)}
}

// brokerAddrs returns where the brokers of an answer listen, and makes them the ones to ask next.
func (s *Source) brokerAddrs(resp *kmsg.MetadataResponse) map[int32]string {
	addrs := make(map[int32]string, len(resp.Brokers))
	seeds := make([]string, 0, len(resp.Brokers)+len(s.o.Brokers))
	for i := range resp.Brokers {
		b := &resp.Brokers[i]
		addr := net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port)))
		addrs[b.NodeID] = addr
		if len(seeds) < seedsKept {
			seeds = append(seeds, addr)
		}
	}
	for _, b := range s.o.Brokers {
		if !slices.Contains(seeds, b) {
			seeds = append(seeds, b)
		}
	}
	s.seeds = seeds
	s.view.mu.Lock()
	s.view.seeds = seeds
	s.view.mu.Unlock()
	return addrs
}

// seedsKept bounds how many of a cluster's brokers are remembered for asking.
const seedsKept = 8

// topicError describes an error code of a topic or partition in the metadata.
func topicError(code int16) string {
	if code == 0 {
		return ""
	}
	return fmt.Sprint(codeError(code))
}
