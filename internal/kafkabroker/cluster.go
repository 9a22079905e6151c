package kafkabroker

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	formatMax = time.Minute      // For the tool that prepares a broker's directory.
	stopGrace = 20 * time.Second // Between SIGTERM and SIGKILL.
	startsMax = 3                // If another process takes a chosen port first, Start tries again with other ports.
)

// Cluster is a cluster of Apache Kafka. Its brokers are numbered from 1.
type Cluster struct {
	o        Options
	brokers  []*broker
	identity *identity // Nil means no TLS.
}

// broker is one broker. Its process is nil while it is down.
type broker struct {
	id                                int
	dir                               string
	port, controller, sasl, tls, both int
	process                           *process
}

func (b *broker) log() string { return filepath.Join(b.dir, "log") }

// Start prepares the brokers' directories and starts all brokers. It returns when each broker's metadata has all
// others. The caller must call Close.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		c := &Cluster{o: o}
		if err = c.start(ctx); err == nil {
			return c, nil
		}
		_ = c.Close() // The first error says what is wrong.
		if !errors.Is(err, errPort) || try == startsMax || o.Port != 0 {
			return nil, err
		}
		if err := os.RemoveAll(o.Dir); err != nil {
			return nil, fmt.Errorf("start over: %w", err)
		}
	}
}

func (c *Cluster) start(ctx context.Context) error {
	if c.o.TLS {
		var err error
		if c.identity, err = newIdentity(); err != nil {
			return err
		}
	}
	if err := c.choosePorts(); err != nil {
		return err
	}
	if err := c.format(ctx); err != nil {
		return err
	}
	return c.StartAll(ctx)
}

// StartAll starts every broker that does not run. It starts them at the same time, because a cluster without a majority
// has no controller.
func (c *Cluster) StartAll(ctx context.Context) error {
	for _, b := range c.brokers {
		if b.process == nil {
			if err := c.launch(b); err != nil {
				return err
			}
		}
	}
	for _, b := range c.brokers {
		if err := c.await(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) choosePorts() error {
	const each = 5
	ports, err := freePorts(each * c.o.Brokers)
	if err != nil {
		return err
	}
	for i := range c.o.Brokers {
		p := ports[each*i : each*i+each]
		b := &broker{id: i + 1, dir: filepath.Join(c.o.Dir, strconv.Itoa(i+1)), port: p[0], controller: p[1],
			sasl: p[2], tls: p[3], both: p[4]}
		if c.o.Port != 0 {
			b.port = c.o.Port + i
			if err := free(b.port); err != nil {
				return err
			}
		}
		c.brokers = append(c.brokers, b)
	}
	return nil
}

// format writes all settings and prepares all directories at the same time.
func (c *Cluster) format(ctx context.Context) error {
	var id [16]byte
	_, _ = rand.Read(id[:]) // It never fails.
	id[0] &= 0x7f           // Then its text cannot begin with a dash, which the tool would take for an option.
	cluster := base64.RawURLEncoding.EncodeToString(id[:])
	if err := writeLogging(filepath.Join(c.o.Dir, "log4j2.properties")); err != nil {
		return fmt.Errorf("write Kafka's settings: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.o.Dir, "jwks.json"), []byte(c.o.JWKS), 0o600); err != nil {
		return fmt.Errorf("write the keys for OAUTHBEARER: %w", err)
	}
	deadline, cancel := context.WithTimeout(ctx, formatMax)
	defer cancel()
	var running []*process
	for _, b := range c.brokers {
		if err := os.MkdirAll(b.dir, 0o755); err != nil {
			return fmt.Errorf("make a broker's directory: %w", err)
		}
		settings := filepath.Join(b.dir, "server.properties")
		if err := writeProperties(settings, c.properties(b)); err != nil {
			return fmt.Errorf("write Kafka's settings: %w", err)
		}
		args := c.java("kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", settings)
		for name, password := range c.o.Users {
			for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
				args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, name, password))
			}
		}
		p, err := startProcess(b.log(), args)
		if err != nil {
			return err
		}
		running = append(running, p)
	}
	var errs []error
	for i, p := range running {
		select {
		case <-p.done:
			if p.err != nil {
				errs = append(errs, fmt.Errorf("prepare broker %d's directory: %w\n%s", i+1, p.err,
					tail(c.brokers[i].log(), 10)))
			}
		case <-deadline.Done():
			_ = p.end(syscall.SIGKILL, stopGrace)
			errs = append(errs, fmt.Errorf("prepare broker %d's directory: %w", i+1, deadline.Err()))
		}
	}
	return errors.Join(errs...)
}

// java returns the command line of one of Kafka's programs. Only the quick compiler runs, because a test waits for the
// start most of all.
func (c *Cluster) java(main string, args ...string) []string {
	line := []string{
		"java", fmt.Sprintf("-Xmx%dm", c.o.HeapMB), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
		"-Xlog:disable", "-Xlog:all=error:stderr",
		"-Dlog4j2.configurationFile=" + filepath.Join(c.o.Dir, "log4j2.properties"), "-Djava.awt.headless=true",
		"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=" + c.keysURL(),
		"-cp", filepath.Join(c.o.Home, "lib", "*"),
	}
	switch archive := filepath.Join(c.o.Home, archiveName); {
	case c.o.archive != "" && main == brokerMain:
		line = append(line, "-XX:ArchiveClassesAtExit="+c.o.archive)
	case c.o.archive == "":
		if _, err := os.Stat(archive); err == nil {
			line = append(line, "-XX:SharedArchiveFile="+archive)
		}
	}
	return append(append(line, main), args...)
}

const brokerMain = "kafka.Kafka"

func (c *Cluster) launch(b *broker) (err error) {
	b.process, err = startProcess(b.log(), c.java(brokerMain, filepath.Join(b.dir, "server.properties")))
	return err
}

// StartBroker starts a broker that was stopped or killed. It returns when the broker is a member of the cluster again.
// Its replicas may not be in sync yet, see CaughtUp.
func (c *Cluster) StartBroker(ctx context.Context, id int) error {
	b := c.brokers[id-1]
	if b.process != nil {
		return fmt.Errorf("BUG: broker %d runs already", id)
	}
	if err := c.launch(b); err != nil {
		return err
	}
	return c.await(ctx, b)
}

// Stop stops a broker cleanly: the broker hands over its leaderships, if others run.
func (c *Cluster) Stop(id int) error { return c.end(id, syscall.SIGTERM) }

// Kill kills a broker with SIGKILL.
func (c *Cluster) Kill(id int) error { return c.end(id, syscall.SIGKILL) }

// Freeze stops a broker's process with SIGSTOP: it accepts connections, but never answers. Thaw or Close must follow.
func (c *Cluster) Freeze(id int) error { return c.signal(id, syscall.SIGSTOP) }

// Thaw lets a broker that was frozen go on.
func (c *Cluster) Thaw(id int) error { return c.signal(id, syscall.SIGCONT) }

func (c *Cluster) signal(id int, signal syscall.Signal) error {
	b := c.brokers[id-1]
	if b.process == nil {
		return fmt.Errorf("BUG: broker %d does not run", id)
	}
	return b.process.cmd.Process.Signal(signal)
}

func (c *Cluster) end(id int, signal syscall.Signal) error {
	b := c.brokers[id-1]
	if b.process == nil {
		return fmt.Errorf("BUG: broker %d does not run", id)
	}
	p := b.process
	b.process = nil
	if !p.running() {
		return fmt.Errorf("broker %d has already ended: %w\n%s", id, p.err, tail(b.log(), 20))
	}
	return p.end(signal, stopGrace)
}

// Close kills every running broker. The directories stay, so StartAll can start the brokers again.
func (c *Cluster) Close() error {
	var errs []error
	for _, b := range c.brokers {
		if b.process != nil {
			errs = append(errs, c.Kill(b.id))
		}
	}
	return errors.Join(errs...)
}

// Brokers returns the number of brokers, running or not.
func (c *Cluster) Brokers() int { return len(c.brokers) }

// Addrs returns the plain-text addresses of all brokers in order, including those that are down.
func (c *Cluster) Addrs() []string { return c.addrs(func(b *broker) int { return b.port }) }

// SASLAddrs returns the addresses for SASL in plain text.
func (c *Cluster) SASLAddrs() []string { return c.addrs(func(b *broker) int { return b.sasl }) }

// TLSAddrs returns the addresses for TLS.
func (c *Cluster) TLSAddrs() []string { return c.addrs(func(b *broker) int { return b.tls }) }

// SASLTLSAddrs returns the addresses for SASL over TLS.
func (c *Cluster) SASLTLSAddrs() []string { return c.addrs(func(b *broker) int { return b.both }) }

func (c *Cluster) addrs(port func(*broker) int) []string {
	var out []string
	for _, b := range c.brokers {
		out = append(out, address(port(b)))
	}
	return out
}

// RootCAs returns the certificates to verify the brokers with. It returns nil without TLS.
func (c *Cluster) RootCAs() *x509.CertPool {
	if c.identity == nil {
		return nil
	}
	pool := x509.NewCertPool()
	pool.AddCert(c.identity.certificate)
	return pool
}

// Logs returns the last lines of each broker's log.
func (c *Cluster) Logs(lines int) string {
	var out string
	for _, b := range c.brokers {
		out += fmt.Sprintf("broker %d, the end of %s:\n%s\n", b.id, b.log(), tail(b.log(), lines))
	}
	return out
}

// archiveName is the file in Home with Kafka's classes as this machine's Java has them in memory. Another Java ignores
// it.
var archiveName = "classes-" + runtime.GOARCH + ".jsa"

// Prepare halves the time that brokers from home take to start. It starts one broker and makes Java write its classes
// to a file in home. If the file exists, Prepare does nothing. Dir is an empty directory for the broker.
func Prepare(ctx context.Context, home, dir string) error {
	archive := filepath.Join(home, archiveName)
	if _, err := os.Stat(archive); err == nil {
		return nil
	}
	part := archive + ".part"
	c, err := Start(ctx, Options{Home: home, Dir: dir, archive: part})
	if err != nil {
		return err
	}
	if err := c.Stop(1); err != nil {
		_ = c.Close()
		return fmt.Errorf("write the class archive: %w", err)
	}
	if err := os.Rename(part, archive); err != nil {
		return fmt.Errorf("keep the class archive: %w", err)
	}
	return nil
}
