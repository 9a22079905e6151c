package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"wsd/internal/auth"
	"wsd/internal/kafkatest"
)

const (
	commandsKey    = "0123456789abcdef0123456789abcdef"
	commandsSecret = "hush-hush-0123456789-0123456789-x"
)

// driver gives commands for one member by the server API of another machine, each one when the member has seen what the
// last one did.
type driver struct {
	t    *testing.T
	m    *member
	apis []string // Addresses of servers that are not the member's home come first.
	at   int      // Index into apis.
	by   http.Client

	answered, failed map[string]bool // Of events: what has been asked for.
	excused          map[string]bool // Answered, but the machine with the client was killed before it was seen.
	fences           int
	cycles, errors   atomic.Int64
	killed           bool // The member's home is killed.
}

// run makes cycles until ctx ends: subscribe, publish, unsubscribe, disconnect.
func (d *driver) run(ctx context.Context) {
	for n := 0; ctx.Err() == nil && !d.t.Failed(); n++ {
		id := fmt.Sprintf("%s-%d", d.m.user, n)
		channel := "chat." + id
		connection, ok := d.m.arrived(ctx)
		if !ok {
			return
		}
		complete := true
		for _, step := range []struct {
			method, of string
			params     map[string]any
		}{
			{"subscribe", channel, map[string]any{"user": d.m.user, "channel": channel}},
			{"publish", id, map[string]any{"channel": channel, "data": id}},
			{"unsubscribe", channel, map[string]any{"user": d.m.user, "channel": channel}},
			{"disconnect", id, map[string]any{
				"user": d.m.user, "disconnect": map[string]any{"code": orderedCode, "reason": id},
			}},
		} {
			if complete = d.command(ctx, step.method, step.of, step.params, connection); !complete {
				break
			}
		}
		if complete {
			d.cycles.Add(1)
		} else {
			d.fence(ctx)
		}
	}
}

// command gives one command. It reports whether it was answered and seen.
func (d *driver) command(ctx context.Context, method, of string, params map[string]any, connection int) bool {
	event := method + " " + of
	if !d.call(ctx, method, params) {
		d.failed[event] = true
		return false
	}
	d.answered[event] = true
	waiting, cancel := context.WithTimeout(ctx, 2*kafkatest.WaitMax)
	defer cancel()
	seen, lost := d.m.sees(waiting, event, connection)
	switch {
	case lost:
		d.excuse(event)
	case !seen && ctx.Err() == nil:
		d.fault("%s was answered, but not seen", event)
	case !seen:
		d.excused[event] = true // The test ends.
	}
	return seen
}

// excuse notes a command that found no client, because another one took effect late or the client's machine was killed.
func (d *driver) excuse(event string) {
	losses := d.m.lossesOf()
	if why := losses[len(losses)-1]; why != "" && !d.failed["disconnect "+why] {
		d.fault("%s was answered, but the client was disconnected by %s", event, why)
		return
	}
	d.excused[event] = true
}

// fence waits until commands that got an error have taken effect or never will: a user's commands are in order, so
// they have when a later one is seen.
func (d *driver) fence(ctx context.Context) {
	for ctx.Err() == nil && !d.t.Failed() {
		connection, ok := d.m.arrived(ctx)
		if !ok {
			return
		}
		channel := fmt.Sprintf("chat.%s-fence-%d", d.m.user, d.fences)
		d.fences++
		if d.command(ctx, "subscribe", channel, map[string]any{"user": d.m.user, "channel": channel}, connection) {
			return
		}
	}
}

// call makes a request, and reports whether it was answered without an error. A server that is gone is replaced.
func (d *driver) call(ctx context.Context, method string, params map[string]any) bool {
	body, _ := json.Marshal(params)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), kafkatest.WaitMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.apis[d.at]+"/api/"+method,
		bytes.NewReader(body))
	if err != nil {
		d.fault("%v", err)
		return false
	}
	req.Header.Set("X-API-Key", commandsKey)
	res, err := d.by.Do(req)
	if err != nil {
		d.at = (d.at + 1) % len(d.apis)
		return false
	}
	defer res.Body.Close()
	var answer struct {
		Error  *struct{ Code int }
		Result *struct{ Scope string }
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return false // It was killed meanwhile; otherwise there is a status below.
	}
	switch {
	case res.StatusCode != http.StatusOK, answer.Error != nil && answer.Error.Code != 100:
		d.fault("%s: status %d, %+v", method, res.StatusCode, answer.Error)
	case answer.Error != nil:
		d.errors.Add(1)
	case method != "publish" && answer.Result.Scope != "cluster":
		d.fault("%s: scope %q", method, answer.Result.Scope)
	default:
		return true
	}
	return false
}

func (d *driver) fault(format string, values ...any) {
	d.t.Errorf(d.m.user+": "+format, values...)
}

// check checks what was seen when all is over.
func (d *driver) check(log map[string]int) {
	t := d.t
	t.Helper()
	require.Empty(t, d.m.faults, d.m.user)
	for _, why := range d.m.losses {
		require.True(t, why != "" || d.killed, "%s was closed without a command", d.m.user)
	}
	for event, times := range d.m.seen {
		require.Equal(t, 1, times, "%s was carried out once", event)
		require.True(t, d.answered[event] || d.failed[event], "%s was asked for", event)
	}
	for event := range d.answered {
		require.True(t, d.m.seen[event] == 1 || d.excused[event], "%s was answered, and carried out", event)
		if value, ok := strings.CutPrefix(event, "publish "); ok {
			require.Equal(t, 1, log[value], "%s was answered, and is in the log once", value)
		}
	}
	for event := range d.failed {
		if value, ok := strings.CutPrefix(event, "publish "); ok {
			require.LessOrEqual(t, log[value], 1, value)
		}
	}
}

// TestApacheKafkaCommands: three wsd on one Kafka. Backends subscribe, unsubscribe and disconnect users, and publish to
// them, by the server API of a machine that the users are not connected to. One wsd is killed under load, and Kafka is
// away for 20 seconds. Each command that was answered takes effect, each at most once, and in order.
func TestApacheKafkaCommands(t *testing.T) {
	k := kafkatest.Apache(t, 1)
	topic, commands := k.Topic(t, 4), k.Topic(t, 3)
	var nodes []*process
	for range 3 {
		nodes = append(nodes, start(t, "serve", "--kafka.brokers", strings.Join(k.Addrs(), ","), "--kafka.topics", topic, "--routes",
			topic+"=chat.{key}", "--kafka.partitioner", "murmur2", "--client.listen", "127.0.0.1:0", "--admin.listen", "127.0.0.1:0",
			"--steering.mode", "off", "--publish.timeout", "2s", "--commands.timeout", "2s", "--commands.topic", commands,
			"--api.keys", commandsKey, "--auth.mode", "token", "--auth.hmac-secret", commandsSecret, "--auth.rules", "chat.*=user"))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var drivers []*driver
	var driving, living sync.WaitGroup
	for i := range 6 {
		at := func(of func(*process) string, from int) (list []string) {
			for j := range nodes {
				list = append(list, of(nodes[(from+j)%len(nodes)]))
			}
			return list
		}
		user := fmt.Sprint("user", i)
		token, err := auth.SignSecret(commandsSecret, map[string]any{"sub": user, "exp": time.Now().Add(time.Hour).Unix()})
		require.NoError(t, err)
		d := &driver{
			t: t, killed: i%len(nodes) == 2, m: newMember(user, token, at(func(p *process) string { return p.clients }, i)),
			apis: at(func(p *process) string { return p.admin }, i+1)[:2],
			by:   http.Client{Transport: &http.Transport{}}, answered: map[string]bool{}, failed: map[string]bool{}, excused: map[string]bool{},
		}
		drivers = append(drivers, d)
		living.Go(func() { d.m.live(ctx) })
		driving.Go(func() { d.run(ctx) })
	}
	more := func(what string) {
		t.Helper()
		before := make([]int64, len(drivers))
		for i, d := range drivers {
			before[i] = d.cycles.Load()
		}
		require.Eventually(t, func() bool {
			return t.Failed() || !slices.ContainsFunc(drivers, func(d *driver) bool {
				return d.cycles.Load() < before[slices.Index(drivers, d)]+25
			})
		}, 3*kafkatest.WaitMax, 20*time.Millisecond, what)
		require.False(t, t.Failed(), what)
	}
	more("commands for users of all machines")
	require.NoError(t, nodes[2].cmd.Process.Kill())
	more("commands after one was killed")
	k.Down(t)
	// Drivers may wait for what was answered, so somebody else asks.
	probe := &driver{t: t, m: newMember("nobody", "", nil), apis: []string{nodes[0].admin, nodes[1].admin}}
	require.Eventually(t, func() bool {
		probe.call(t.Context(), "disconnect", map[string]any{"user": "nobody"})
		return probe.errors.Load() >= 3
	}, kafkatest.WaitMax, 20*time.Millisecond, "temporary errors")
	time.Sleep(20 * time.Second) // Kafka is away for that long; nothing is decided by it.
	k.Up(t)
	more("commands after Kafka is back")
	cancel()
	driving.Wait()
	living.Wait()

	log := map[string]int{}
	for _, value := range readAll(t, k, topic, 4) {
		log[value]++
	}
	answered, failed, excused := 0, 0, 0
	for _, d := range drivers {
		d.check(log)
		answered, failed, excused = answered+len(d.answered), failed+len(d.failed), excused+len(d.excused)
	}
	t.Logf("%d commands answered, all but %d seen once by their client; %d without an answer or with error 100", answered,
		excused, failed)
}
