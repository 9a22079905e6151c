package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// How large TestDeepRecovery is.
var (
	deepClients  = flag.Int("deep.clients", 120, "clients of TestDeepRecovery")
	deepBytes    = flag.Int("deep.bytes", 2<<20, "what each of them missed")
	deepChannels = flag.Int("deep.channels", 8, "channels that they share")
	deepRate     = flag.Int("deep.slow-rate", 500<<10, "bytes a second that a slow client reads")
)

const deepRecord = 4 << 10

// deepClient recovers all of a channel, and checks that it gets each record once and in order.
type deepClient struct {
	number  int
	channel int
	epoch   string
	next    int // The number of the record that comes next,
	offset  int // and the offset of the one before.
	records int
	cuts    []int // Numbers at which it breaks off.
	rate    int   // Bytes a second; 0: as fast as it can.

	refused int // Subscriptions that are to be tried again.

	conn net.Conn
	in   *bufio.Reader
	buf  []byte
}

// kind spreads slow clients, and such that break off, over the clients.
func (d *deepClient) kind() {
	switch d.number % 10 {
	case 3, 7:
		d.rate = *deepRate
	case 5:
		d.cuts = []int{d.records / 5, d.records / 2, d.records - 2}
	case 8:
		d.rate, d.cuts = *deepRate, []int{d.records / 3}
	}
}

func (d *deepClient) open(address string) error {
	conn, br, _, err := ws.Dialer{Timeout: waitMax}.Dial(context.Background(), "ws://"+address+"/connection/websocket")
	if err != nil {
		return err
	}
	if d.rate > 0 { // What is not read must not lie in the kernel.
		if err := conn.(*net.TCPConn).SetReadBuffer(32 << 10); err != nil {
			return err
		}
	}
	d.conn, d.in = conn, bufio.NewReaderSize(conn, 32<<10)
	if br != nil {
		d.in = br
	}
	if err := d.send(`{"id":1,"connect":{}}`); err != nil {
		return err
	}
	return d.subscribe()
}

func (d *deepClient) subscribe() error {
	return d.send(fmt.Sprintf(`{"id":2,"subscribe":{"channel":"d.%d"%s}}`, d.channel, recoverFrom(uint64(d.offset), d.epoch)))
}

func (d *deepClient) send(text string) error { return wsutil.WriteClientText(d.conn, []byte(text)) }

// run reads until all records are there. It comes back as often as it breaks off.
func (d *deepClient) run(address string) error {
	for {
		until := d.records
		if len(d.cuts) > 0 {
			until, d.cuts = d.cuts[0], d.cuts[1:]
		}
		if d.conn == nil {
			if err := d.open(address); err != nil {
				return err
			}
		}
		for d.next < until {
			if err := d.message(); err != nil {
				d.conn.Close()
				return fmt.Errorf("client %d at record %d of %d: %w", d.number, d.next, d.records, err)
			}
		}
		d.conn.Close()
		d.conn = nil
		if until == d.records {
			return nil
		}
	}
}

func (d *deepClient) message() error {
	if err := d.conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return err
	}
	h, err := ws.ReadHeader(d.in)
	if err != nil {
		return err
	}
	d.buf = slices.Grow(d.buf[:0], int(h.Length))[:h.Length]
	if _, err := io.ReadFull(d.in, d.buf); err != nil {
		return err
	}
	if h.OpCode == ws.OpClose {
		return fmt.Errorf("closed: %q", d.buf)
	}
	if d.rate > 0 {
		time.Sleep(time.Duration(len(d.buf)) * time.Second / time.Duration(d.rate))
	}
	for line := range bytes.Lines(d.buf) {
		if err := d.line(bytes.TrimSuffix(line, []byte("\n"))); err != nil {
			return err
		}
	}
	return nil
}

func (d *deepClient) line(line []byte) error {
	switch {
	case string(line) == "{}":
		return d.send("{}")
	case bytes.HasPrefix(line, []byte(`{"push"`)): // encoding/json would take more time than all else together.
		n, err := between(line, `"n":`, `,`)
		if err != nil {
			return err
		}
		at := bytes.LastIndex(line, []byte(`"offset":`))
		offset, err := between(line[max(0, at):], `"offset":`, `}`)
		if err != nil {
			return err
		}
		return d.take(n, offset)
	case bytes.HasPrefix(line, []byte(`{"id":1,`)):
		return nil
	}
	var r recovered
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("%.200s: %w", line, err)
	}
	if r.Error.Temporary { // As the SDKs do.
		d.refused++
		time.Sleep(time.Duration(500+rand.IntN(1000)) * time.Millisecond)
		return d.subscribe()
	}
	if !r.Subscribe.Recovered {
		return fmt.Errorf("not recovered: %.200s", line)
	}
	for _, p := range r.Subscribe.Publications {
		n, err := between(p.Data, `"n":`, `,`)
		if err != nil {
			return err
		}
		if err := d.take(n, int(p.Offset)); err != nil {
			return err
		}
	}
	return nil
}

func (d *deepClient) take(n, offset int) error {
	if n != d.next || offset <= d.offset {
		return fmt.Errorf("record %d at offset %d where %d was to come, after offset %d", n, offset, d.next, d.offset)
	}
	d.next, d.offset = n+1, offset
	return nil
}

// between returns the number between two texts.
func between(b []byte, before, after string) (int, error) {
	_, rest, ok := strings.Cut(string(b[:min(len(b), 200)]), before)
	number, _, ok2 := strings.Cut(rest, after)
	if !ok || !ok2 {
		return 0, fmt.Errorf("no %s in %.200s", before, b)
	}
	return strconv.Atoi(number)
}

// Many clients are back after long, each with much to recover; some are slow, some break off on the way and come
// again. All get every record once and in order, what waits for them in memory does not depend on what they missed,
// and the log is read for all of them together.
func TestDeepRecovery(t *testing.T) {
	const partitions = 4
	records := *deepBytes / deepRecord
	r := newRig(t, map[string]any{
		"routes": []string{"k=d.{key}", "live=live"}, "kafka.topics": []string{"k", "live"}, "kafka.partitioner": "murmur2",
		"shards": "2", "recovery.max_publications": fmt.Sprint(2 * records),
	}, kfake.SeedTopics(partitions, "k"), kfake.SeedTopics(1, "live"))
	r.ready()
	address := r.server.Addresses()[0].String()

	epochs := make([]string, *deepChannels)
	for i := range epochs {
		c := r.join()
		epochs[i] = c.comeBack(fmt.Sprint("d.", i), "").Subscribe.Epoch
		c.conn.Close()
	}
	pad := strings.Repeat("x", deepRecord-40)
	for n := range records {
		var batch []*kgo.Record
		for i := range epochs {
			batch = append(batch, &kgo.Record{Topic: "k", Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, `{"n":%d,"pad":%q}`, n, pad)})
		}
		require.NoError(t, r.producer.ProduceSync(t.Context(), batch...).FirstErr())
	}
	r.eventually("all records are routed", func() bool {
		n := int64(0)
		for _, p := range r.server.source.Stats().Partitions() {
			n += p.Position
		}
		return n >= int64(records**deepChannels)
	})

	live := r.dial("/ws?channel=live")
	ended := make(chan struct{})
	var watching sync.WaitGroup
	var latencies []time.Duration
	watching.Go(func() {
		for {
			m, err := live.raw()
			if err != nil {
				return
			}
			at, err := strconv.ParseInt(m, 10, 64)
			if err != nil {
				t.Errorf("live: %v", err)
				return
			}
			latencies = append(latencies, time.Since(time.Unix(0, at)))
		}
	})
	watching.Go(func() {
		defer live.conn.Close()
		for {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
			}
			r.produce("live", "", fmt.Sprint(time.Now().UnixNano()))
		}
	})
	outboundMost := int64(0)
	watching.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
			}
			n := int64(0)
			for _, s := range r.server.shards {
				n += s.Stats().OutboundBytes.Load()
			}
			outboundMost = max(outboundMost, n)
		}
	})

	began := time.Now()
	var running sync.WaitGroup
	var failed, refused atomic.Int64
	for i := range *deepClients {
		channel := i % *deepChannels
		d := &deepClient{number: i, channel: channel, epoch: epochs[channel], records: records}
		d.kind()
		require.NoError(t, d.open(address))
		running.Go(func() {
			if err := d.run(address); err != nil && failed.Add(1) < 10 {
				t.Error(err)
			}
			refused.Add(int64(d.refused))
		})
	}
	running.Wait()
	took := time.Since(began)
	close(ended)
	watching.Wait()
	require.False(t, t.Failed())

	st := r.server.recovery.Stats()
	slices.Sort(latencies)
	quantile := func(q float64) time.Duration { return latencies[int(q*float64(len(latencies)-1))] }
	t.Logf("%d clients recovered %d MiB each in %v, %.0f MiB/s, and came again %d times for a temporary error; at most %d KiB waited in outboxes, %.1f KiB a client; "+
		"%d portions, %d blocks, %d MiB, read again by %d fetches; %d live records meanwhile, p50 %v, p99 %v, max %v",
		*deepClients, *deepBytes>>20, took.Round(time.Millisecond), float64(*deepClients)*float64(*deepBytes>>20)/took.Seconds(), refused.Load(),
		outboundMost>>10, float64(outboundMost>>10)/float64(*deepClients), st.Portions.Load(), st.Reads.Load(), st.ReadBytes.Load()>>20,
		st.Fetches.Load(), len(latencies), quantile(0.5), quantile(0.99), quantile(1))
	require.Less(t, outboundMost, int64(*deepClients)*(256<<10), "more waits than the windows of all flows")
}
