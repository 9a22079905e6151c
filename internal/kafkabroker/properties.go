package kafkabroker

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// quick are the settings of every broker that make tests take seconds.
var quick = map[string]string{
	"auto.create.topics.enable":                    "false",
	"background.threads":                           "2",
	"broker.heartbeat.interval.ms":                 "500",
	"broker.session.timeout.ms":                    "4000",
	"group.initial.rebalance.delay.ms":             "0",
	"log.cleaner.backoff.ms":                       "200",
	"log.cleaner.dedupe.buffer.size":               "4194304",
	"log.initial.task.delay.ms":                    "200",
	"log.retention.check.interval.ms":              "200",
	"log.segment.delete.delay.ms":                  "500",
	"num.io.threads":                               "4",
	"num.network.threads":                          "2",
	"offsets.topic.num.partitions":                 "1",
	"replica.selector.class":                       "org.apache.kafka.common.replica.RackAwareReplicaSelector",
	"offsets.topic.segment.bytes":                  "1048576",
	"share.coordinator.state.topic.min.isr":        "1",
	"transaction.state.log.min.isr":                "1",
	"transaction.state.log.num.partitions":         "1",
	"transaction.state.log.segment.bytes":          "1048576",
	"share.coordinator.state.topic.num.partitions": "1",
}

// properties returns the settings of a broker.
func (c *Cluster) properties(b *broker) map[string]string {
	n := len(c.brokers)
	listeners := []string{"PLAINTEXT://" + address(b.port), "CONTROLLER://" + address(b.controller)}
	protocols := "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,BOTH:SASL_SSL,LISTEN:PLAINTEXT"
	voters := make([]string, n)
	for i, v := range c.brokers {
		voters[i] = fmt.Sprintf("%d@%s", v.id, address(v.controller))
	}
	p := maps.Clone(quick)
	set := func(value string, keys ...string) {
		for _, k := range keys {
			p[k] = value
		}
	}
	set(strconv.Itoa(n), "default.replication.factor", "offsets.topic.replication.factor",
		"transaction.state.log.replication.factor",
		"share.coordinator.state.topic.replication.factor")
	set(strconv.Itoa(min(n, 2)), "min.insync.replicas")
	if len(c.o.Users) > 0 {
		listeners = append(listeners, "SASL://"+address(b.sasl))
		c.setLogins("listener.name.sasl.", set)
	}
	if c.o.Listen != "" {
		listeners = append(listeners, "LISTEN://"+c.o.Listen)
	}
	if c.identity != nil {
		listeners = append(listeners, "TLS://"+address(b.tls))
		c.setIdentity("listener.name.tls.", set)
	}
	if c.identity != nil && len(c.o.Users) > 0 {
		listeners = append(listeners, "BOTH://"+address(b.both))
		c.setLogins("listener.name.both.", set)
		c.setIdentity("listener.name.both.", set)
	}
	set("broker,controller", "process.roles")
	set(strconv.Itoa(b.id), "node.id")
	set(fmt.Sprintf("rack-%d", b.id), "broker.rack")
	set(strings.Join(voters, ","), "controller.quorum.voters")
	set("CONTROLLER", "controller.listener.names")
	set("PLAINTEXT", "inter.broker.listener.name")
	set(strings.Join(listeners, ","), "listeners")
	set(protocols, "listener.security.protocol.map")
	set(filepath.Join(b.dir, "data"), "log.dirs")
	maps.Copy(p, c.o.Properties)
	return p
}

// setLogins sets how clients of a listener log in.
func (c *Cluster) setLogins(listener string, set func(value string, keys ...string)) {
	set("PLAIN,SCRAM-SHA-256,SCRAM-SHA-512", "sasl.enabled.mechanisms")
	plain := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, name := range slices.Sorted(maps.Keys(c.o.Users)) {
		plain += fmt.Sprintf(` user_%s="%s"`, name, c.o.Users[name])
	}
	set(plain+";", listener+"plain.sasl.jaas.config")
	set("org.apache.kafka.common.security.scram.ScramLoginModule required;",
		listener+"scram-sha-256.sasl.jaas.config", listener+"scram-sha-512.sasl.jaas.config")
	// One mechanism whose logins last for two seconds only.
	set("2000", listener+"scram-sha-512.connections.max.reauth.ms")
	if c.o.JWKS == "" {
		return
	}
	bearer := listener + "oauthbearer."
	set("PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER", "sasl.enabled.mechanisms")
	set("org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;", bearer+"sasl.jaas.config")
	set("org.apache.kafka.common.security.oauthbearer.OAuthBearerValidatorCallbackHandler",
		bearer+"sasl.server.callback.handler.class")
	set(c.keysURL(), bearer+"sasl.oauthbearer.jwks.endpoint.url")
	set("3600000", bearer+"connections.max.reauth.ms") // Without it, the life of a token would not end a login.
}

// setIdentity sets the certificate that clients of a listener get.
func (c *Cluster) setIdentity(listener string, set func(value string, keys ...string)) {
	set("PEM", listener+"ssl.keystore.type")
	set(string(c.identity.certPEM), listener+"ssl.keystore.certificate.chain")
	set(string(c.identity.keyPEM), listener+"ssl.keystore.key")
}

// keysURL returns the URL of the file with Options.JWKS.
func (c *Cluster) keysURL() string { return "file://" + filepath.Join(c.o.Dir, "jwks.json") }

// writeProperties writes settings as a Java properties file.
func writeProperties(path string, p map[string]string) error {
	var b strings.Builder
	escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	for _, k := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, "%s=%s\n", k, escape.Replace(p[k]))
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// writeLogging writes the settings of log4j. It logs to standard output, which is kept beside the data.
func writeLogging(path string) error {
	return writeProperties(path, map[string]string{
		"rootLogger.level": "info", "rootLogger.appenderRef.out.ref": "out",
		"appender.out.type": "Console", "appender.out.name": "out", "appender.out.layout.type": "PatternLayout",
		"appender.out.layout.pattern": "%d %p %m (%c)%n",
	})
}
