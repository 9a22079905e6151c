package main

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"wsd/internal/config"
	"wsd/internal/dev"
	"wsd/internal/route"
	"wsd/internal/server"
)

type devCmd struct {
	options
}

// Run serves records from a Kafka inside the process until SIGTERM or SIGINT.
func (c *devCmd) Run(e env) error {
	loaded, err := c.load(e)
	if err != nil {
		return err
	}
	cfg := &loaded.Config
	logger := newLogger(cfg.Log, e)
	if loaded.Given("kafka.brokers") {
		logger.Warn("kafka.brokers is ignored: wsd dev reads its built-in Kafka; use wsd serve for another cluster",
			"origin", loaded.Origin("kafka.brokers"))
	}
	ctx, stop := signals(e.stderr)
	defer stop()
	var own []string // Topics that are created and not read.
	if cfg.Commands.Topic != "" {
		own = append(own, cfg.Commands.Topic)
	}
	// Topics named exactly are created. Patterns match topics that exist now or later.
	var names, patterns []string
	for _, t := range cfg.Kafka.Topics {
		if p, err := route.ParseTopic(t); err == nil && p.Exact() {
			names = append(names, t)
		} else {
			patterns = append(patterns, t)
		}
	}
	if cfg.Dev.TLS {
		remove, err := secureDev(cfg)
		if err != nil {
			return err
		}
		defer remove()
	}
	// The feeds stop with the cluster, after the server.
	cluster, err := dev.Start(ctx, dev.Options{
		Listen: cfg.Dev.KafkaListen, Topics: slices.Concat(names, cfg.Dev.Topics, own), Rate: cfg.Dev.Rate,
		Stdin: cfg.Dev.Stdin,
		In:    e.stdin, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer cluster.Stop()
	cfg.Kafka.Brokers, cfg.Kafka.Topics = cluster.Brokers(), append(cluster.Topics(), patterns...)
	cfg.Kafka.Topics = slices.DeleteFunc(cfg.Kafka.Topics, func(t string) bool { return slices.Contains(own, t) })
	if !loaded.Given("kafka.start") {
		cfg.Kafka.Start = "earliest" // This Kafka starts empty, so nothing in it is old.
	}
	return serve(ctx, loaded, logger, e.own, func(s *server.Server) {
		page := "http://" + s.AdminAddress() + "/"
		secret := cfg.Admin.Token != "" || cfg.Admin.TokenFile != ""
		switch address, err := netip.ParseAddrPort(s.AdminAddress()); {
		case cfg.Admin.Listen == "":
			page = "no demo page: admin.listen is empty"
		case !secret && (err != nil || !address.Addr().IsLoopback()):
			page = "no demo page: without admin.token_file it is served on loopback addresses only"
		case cfg.Admin.TLS.CertFile != "":
			page = "https://" + s.AdminAddress() + "/"
		}
		logger.Info("demo: open the page to see messages arrive; produce records with any Kafka client", "page", page,
			"kafka", cluster.Brokers())
	})
}

// devTLSListen is the address of wsd dev for TLS, unless client.tls_listen is set.
const devTLSListen = ":8443"

// secureDev has wsd dev serve TLS, by a certificate of its own if none is configured. remove deletes its file.
func secureDev(cfg *config.Config) (remove func(), err error) {
	remove = func() {}
	if len(cfg.Client.TLSListen) == 0 {
		cfg.Client.TLSListen = []string{devTLSListen}
	}
	if len(cfg.Client.TLS.Certificates) > 0 {
		return remove, nil
	}
	dir, err := os.MkdirTemp("", "wsd-dev-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the certificate: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path, err := dev.MakeCertificate(dir)
	if err != nil {
		remove()
		return nil, err
	}
	cfg.Client.TLS.Certificates = []string{path}
	return remove, nil
}
