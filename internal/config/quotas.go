package config

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// checkQuotas checks the limits of what clients take together and of how long they stay.
func (l *loader) checkQuotas(lim *ClientLimits) {
	number(l, "limits.connections", lim.Connections, 0, math.MaxInt32)
	number(l, "limits.address_connections", lim.AddressConnections, 0, math.MaxInt32)
	number(l, "limits.user_connections", lim.UserConnections, 0, math.MaxInt32)
	number(l, "limits.address_token_failures", lim.AddressFailures, 0, math.MaxInt32)
	number(l, "limits.handshakes", lim.Handshakes, 0, math.MaxInt32)
	number(l, "limits.address_handshakes", lim.AddressHandshakes, 0, math.MaxInt32)
	number(l, "limits.channels", lim.Channels, 0, math.MaxInt32)
	number(l, "limits.channels_rate", lim.ChannelsRate, 0, math.MaxInt32)
	l.lifetime("limits.age", lim.Age)
	l.lifetime("limits.idle", lim.Idle)
}

// lifetime checks a time after which connections are closed.
func (l *loader) lifetime(key string, value time.Duration) {
	const most = 365 * 24 * time.Hour
	if value != 0 && (value < time.Second || value > most) {
		l.complain(key, value.String(), fmt.Sprintf("must be 0, or from 1s to %v", most), "")
	}
}

// compareQuotas warns of limits that have no effect beside another, or that a client cannot keep to which keeps to
// another.
func (l *loader) compareQuotas(c *Config) {
	lim, cl := &c.Limits, &c.Client
	within := func(partKey string, part int, wholeKey string, whole int) {
		if part > 0 && whole > 0 && part > whole {
			l.warn(partKey, strconv.Itoa(part), fmt.Sprintf("it has no effect, as %s allows %d to all addresses "+
				"together", wholeKey, whole), "lower it, or raise "+wholeKey)
		}
	}
	within("limits.address_connections", lim.AddressConnections, "limits.connections", lim.Connections)
	within("limits.user_connections", lim.UserConnections, "limits.connections", lim.Connections)
	within("limits.address_handshakes", lim.AddressHandshakes, "limits.handshakes", lim.Handshakes)
	if most := lim.Channels; most > 0 && most < cl.ChannelsMax {
		l.warn("limits.channels", strconv.Itoa(most), fmt.Sprintf("one client may subscribe to %d channels "+
			"(client.channels_max); further subscriptions get error 106", cl.ChannelsMax),
			"raise it, or lower client.channels_max")
	}
	if most := lim.ChannelsRate; most > 0 && most < cl.ChannelsMax {
		l.warn("limits.channels_rate", strconv.Itoa(most), fmt.Sprintf("one client may subscribe to %d channels "+
			"at once (client.channels_max); what is over gets error 111", cl.ChannelsMax),
			"raise it, or lower client.channels_max")
	}
	if have := rateWindow * lim.RecoveriesRate; c.Recovery.Enabled && have < cl.ChannelsMax {
		l.warn("limits.recoveries_rate", strconv.Itoa(lim.RecoveriesRate), fmt.Sprintf("a client may save up %d "+
			"recoveries, and needs %d when it subscribes again to as many channels (client.channels_max); it is "+
			"closed with 3013", have, cl.ChannelsMax), "raise it, or set it to 0 to let it follow the others")
	}
	if lim.UserConnections > 0 && !c.Auth.On() {
		l.warn("limits.user_connections", strconv.Itoa(lim.UserConnections), "it has no effect, as clients have no "+
			"users (auth.mode is none)", "set auth.mode to token, or remove it")
	}
	if lim.Idle > 0 && lim.Age > 0 && lim.Idle > lim.Age {
		l.warn("limits.idle", lim.Idle.String(), fmt.Sprintf("it has no effect, as limits.age (%v) closes clients "+
			"earlier", lim.Age), "lower it, or raise limits.age")
	}
	if lim.Age > 0 && lim.Age < cl.PingInterval {
		l.warn("limits.age", lim.Age.String(), fmt.Sprintf("clients are closed before their first ping "+
			"(client.ping_interval is %v), and spend their time connecting", cl.PingInterval), "raise it to minutes")
	}
	if lim.Connections > 0 && lim.Connections <= lim.Handshakes && l.loaded.Given("limits.handshakes") {
		l.warn("limits.handshakes", strconv.Itoa(lim.Handshakes), fmt.Sprintf("more connections may be without a "+
			"request than clients are allowed (limits.connections is %d)", lim.Connections),
			"lower it, or raise limits.connections")
	}
}
