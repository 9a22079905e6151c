package client

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"wsd/internal/epoll"
	"wsd/internal/wire"
)

// fill begins attempts: first for clients that were refused and have waited, then for new clients.
func (l *loop) fill() {
	budget := fillMax
	if rate := l.e.o.ConnectRate; rate > 0 {
		allowed := int64(rate / float64(len(l.e.loops)) * time.Duration(l.now-l.begun).Seconds())
		budget = int(min(int64(budget), allowed-l.n.Attempts))
	}
	for i := 0; i < len(l.retries) && budget > 0 && l.dialing < l.dialsMax; {
		r := l.retries[i]
		if r.due > l.now {
			i++
			continue
		}
		l.retries[i] = l.retries[len(l.retries)-1]
		l.retries = l.retries[:len(l.retries)-1]
		l.dial(r.who)
		budget--
	}
	for ; l.fresh < l.good && budget > 0 && l.dialing < l.dialsMax; budget-- {
		l.dial(int32(l.fresh))
		l.fresh++
	}
	if l.churn.rate > 0 {
		l.leave()
	}
}

// leave lets as many clients leave as the churn prescribes by now.
func (l *loop) leave() {
	ch := &l.churn
	due := int64(ch.rate * time.Duration(l.now-ch.since).Seconds())
	for tried := 0; ch.done < due && tried < min(l.good, fillMax); tried++ {
		who := ch.next
		ch.next = (ch.next + 1) % l.good
		if l.conns[who].state == stateHeld {
			l.move(int32(who), false)
			ch.done++
		}
	}
}

// dial begins an attempt.
func (l *loop) dial(who int32) {
	c := &l.conns[who]
	l.n.Attempts++
	l.dialing++
	c.state, c.started = stateConnecting, l.e.o.Now()
	if err := l.open(who, 0); err != nil {
		l.attemptFailed(who, err.Error())
	}
}

// open begins to connect a client's socket, with a receive buffer of the given size unless that is 0.
func (l *loop) open(who int32, buffer int) error {
	c, o := &l.conns[who], &l.e.o
	var source netip.Addr
	if len(o.Sources) > 0 {
		source = o.Sources[(int(who)+int(c.tries))%len(o.Sources)]
	}
	fd, err := connect(o.Server, source, buffer)
	if err != nil {
		return err
	}
	l.sockets++
	c.fd = int32(fd)
	if err := l.poller.Add(fd, epoll.Writable, who, c.fd); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	return nil
}

// connect begins a TCP connection and returns its non-blocking descriptor.
func connect(server netip.AddrPort, source netip.Addr, buffer int) (int, error) {
	family := unix.AF_INET
	if !server.Addr().Unmap().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	if buffer > 0 {
		// Before connecting, because the window that the kernel announces depends on it. If it fails, more is buffered.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer)
	}
	if source.IsValid() {
		// Without a port, which the kernel then chooses when it knows the server, so that two servers can share it.
		err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err == nil {
			err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(source, 0)))
		}
		if err != nil {
			epoll.Close(fd)
			return -1, fmt.Errorf("bind to %s: %w", source, err)
		}
	}
	// Commands and pongs are small and must not wait for each other. If this fails, they only arrive late.
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, sockaddr(server)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		epoll.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if ip := a.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connected handles the result of connecting.
func (l *loop) connected(who int32) {
	c := &l.conns[who]
	errno, err := unix.GetsockoptInt(int(c.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	switch {
	case errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET):
		l.refused(who, "connect: "+err.Error(), 0)
	case err != nil:
		l.attemptFailed(who, "connect: "+err.Error())
	default:
		if c.bad == nil {
			l.n.Connected++
		} else {
			l.bad.Connected++
		}
		if l.e.o.TLS != nil {
			l.secure(who)
		} else {
			l.upgrade(who)
		}
	}
}

// upgrade sends the upgrade request.
func (l *loop) upgrade(who int32) {
	c := &l.conns[who]
	c.state = stateHandshake
	if (c.bad == nil || l.badUpgrade(who)) && l.send(who, l.request(who)) {
		if err := l.poller.Modify(int(c.fd), epoll.Readable, who, c.fd); err != nil {
			l.attemptFailed(who, fmt.Sprintf("watch socket: %v", err))
		}
	}
}

// handshake reads the response to the upgrade request from the start of b, and returns the number of bytes it used.
func (l *loop) handshake(who int32, b []byte) (used int) {
	c := &l.conns[who]
	if used = wire.HeadLen(b, 0); used == 0 {
		return 0
	}
	status, header, err := wire.ParseClientResponse(b[:used], l.key, l.e.o.Deflate)
	if err != nil {
		l.attemptFailed(who, "upgrade: "+err.Error())
		return used
	}
	if status != http.StatusSwitchingProtocols {
		l.notUpgraded(who, status, header)
		return used
	}
	if l.e.o.Deflate {
		c.reader.AllowDeflate()
	}
	if c.bad != nil {
		l.bad.Upgraded++
	}
	if l.e.o.Protocol == Raw {
		l.held(who, false)
		return used
	}
	c.state = stateCommands
	l.send(who, l.commands(who))
	return used
}

// notUpgraded ends an attempt whose response had another status than 101.
func (l *loop) notUpgraded(who int32, status int, header http.Header) {
	reason := fmt.Sprintf("HTTP %d %s", status, http.StatusText(status))
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		seconds, _ := strconv.Atoi(header.Get("Retry-After")) // 0 if absent or not a number.
		l.refused(who, reason, min(time.Duration(max(seconds, 0))*time.Second, 10*time.Second))
		return
	}
	l.giveUp(who, reason)
}

// held marks a client as subscribed. recovered says that the server will send all that a client that comes back has
// missed.
func (l *loop) held(who int32, recovered bool) {
	c := &l.conns[who]
	c.state = stateHeld
	produced := l.e.o.Channels[c.channel].Produced()
	if c.bad != nil {
		l.badHeld(who, produced)
		return
	}
	l.dialing--
	l.n.Open++
	if c.rejoins {
		l.n.Rejoined++
		if recovered {
			l.n.Recovered++
		}
		record(l.recent.Rejoin, l.now-c.started)
	} else {
		l.n.Held++
		record(l.recent.Connect, l.now-c.started)
	}
	if !c.rejoins || c.position == nil {
		c.order.begin(produced)
	}
	if l.e.o.Recover && c.position == nil {
		c.position = &position{}
	}
}

// refused ends an attempt that the server has refused temporarily. The client tries again later.
func (l *loop) refused(who int32, reason string, after time.Duration) {
	if l.conns[who].bad != nil {
		l.badRefused(who, reason)
		return
	}
	l.n.Refused++
	count(&l.n.Refusals, reason)
	l.again(who, after)
}

// giveUp ends an attempt that would be refused again. The client does not try again.
func (l *loop) giveUp(who int32, reason string) {
	if l.conns[who].bad != nil {
		l.badRefused(who, reason)
		return
	}
	l.n.Refused++
	l.n.GivenUp++
	count(&l.n.Refusals, reason)
	l.endAttempt(&l.conns[who])
}

// attemptFailed ends an attempt that failed for another reason. The client tries again later.
func (l *loop) attemptFailed(who int32, reason string) {
	if l.conns[who].bad != nil {
		l.badRefused(who, reason)
		return
	}
	l.n.Failed++
	count(&l.n.Failures, reason)
	l.again(who, 0)
}

func (l *loop) again(who int32, after time.Duration) {
	c := &l.conns[who]
	wait := max(after, backoff(c.tries, rand.Float64()))
	c.tries = min(c.tries+1, 255)
	l.retries = append(l.retries, retry{who: who, due: l.now + int64(wait)})
	l.endAttempt(c)
}

func (l *loop) endAttempt(c *conn) {
	if c.fd >= 0 {
		l.drop(c, epoll.Close)
	}
	l.dialing--
	c.state = stateIdle
}
