# Run `make` for the list of targets. `make run` and `make test` need Go and make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO      ?= go
ARGS    ?=
RUN     ?= .
BENCH   ?= .
PKG     ?= ./...
FUZZTIME  ?= 3s
BENCHTIME ?= 1s
# The short comparison that make bench ends with: under a minute.
SHORT     ?= --rounds 3 --clients 3000 --channels 1000 --shards 1,7 --duration 400ms --cases single,batch,connect,memory,chain

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)

# One version of each tool: lint must judge alike everywhere, and the bytes of
# the committed eBPF object depend on the compiler. hadolint and shellcheck are
# used where they are installed.
GOLANGCI_VERSION := v2.15.0
CLANG_VERSION    := 14
CLANG_FORMAT     := clang-format-$(CLANG_VERSION)
TOOLS            := $(CURDIR)/bin/tools
GOLANGCI         := $(TOOLS)/golangci-lint
# Apache Kafka, beside whatever else this user keeps: a clone has no copy of its own.
WSD_KAFKA_CACHE  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/wsd
KAFKA_VERSION    := $(shell sed -n 's|^  <version>\(.*\)</version>|\1|p' internal/kafkabroker/pom.xml)
KAFKA_HOME       := $(WSD_KAFKA_CACHE)/kafka-$(KAFKA_VERSION)
# The client libraries that test-clients uses.
CLIENTS_HOME     := $(WSD_KAFKA_CACHE)/clients
BROKERS ?= 1
# The programs of this repository in Go; the image has the first two.
PROGRAMS ?= ./cmd/wsd ./loadtest ./loadtest/baseline ./loadtest/plantable
# What make image builds, and for which platforms; empty: this machine's.
IMAGE    ?= wsd
PLATFORM ?=
SOAK    ?= -soak.duration 5m
export GOLANGCI_VERSION CLANG_VERSION TOOLS GO FUZZTIME KAFKA_HOME VERSION COMMIT IMAGE
# Where Debian has bpftool and ip, which a user's PATH does not name.
export PATH := $(PATH):/usr/sbin:/sbin

.NOTPARALLEL:
.PHONY: help setup deps generate generate-check build programs run test unit test-root test-race test-kernel test-kafka test-cent test-clients test-alerts soak-kafka kafka kafka-fetch fuzz fmt lint bench compare plan-table shapes test-docs test-page image test-image packages test-packages release manifests test-kubernetes test-compose test-examples sizing clean

help: ## Show this list
	@echo 'make run serves a demo on :8000 (clients), 127.0.0.1:9000 (page) and 127.0.0.1:9092 (Kafka); make test tests.'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: deps ## Install what generate, lint, root tests and Kafka need (by apt when root, golangci-lint into bin/tools)
	@.ci/setup

deps:
	@command -v $(GO) >/dev/null || { echo "Go is missing: install the version that go.mod names ($$(awk '$$1 == "go" { print $$2 }' go.mod)) or a newer one"; exit 1; }
	@$(GO) mod download

generate: ## Compile bpf/ and write internal/steering's generated files (needs clang-14)
	@command -v clang-$(CLANG_VERSION) >/dev/null || { echo 'clang-$(CLANG_VERSION) is missing: run make setup'; exit 1; }
	$(GO) generate ./...

generate-check: ## Generate again and fail when a file changes
	@.ci/generate-check

build: programs ## Build bin/wsd, bin/loadtest, bin/baseline and bin/plantable, static, and bin/floor where there is gcc
	@if command -v gcc >/dev/null; then $(MAKE) bin/floor; else echo 'bin/floor, which only `loadtest compare` needs, is not built: gcc is missing'; fi

programs: deps
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ $(PROGRAMS)

bin/floor: $(wildcard loadtest/floor/*.[ch])
	@command -v gcc >/dev/null || { echo 'gcc is missing: run make setup'; exit 1; }
	@mkdir -p bin
	gcc -std=c11 -O2 -Wall -Wextra -Werror -static -pthread -o $@ $(filter %.c,$^)

run: deps ## Build wsd and start `wsd dev`; ARGS='--shards 4' passes options
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/wsd
	@exec bin/wsd dev $(ARGS)

test: fuzz unit ## Run every test: fuzz targets for a few seconds each, then all others (root tests when root)

unit: deps
	@.ci/test $(GO) test -run '$(RUN)' $(PKG)

test-root: deps ## Run every test as root; a root test that skips fails
	@[ "$$(id -u)" = 0 ] || { echo 'root tests need root: sudo make test-root'; exit 1; }
	@WSD_REQUIRE_ROOT=1 .ci/test $(GO) test -count=1 -run '$(RUN)' $(PKG)

test-race: deps ## Run every test with the race detector (needs a C compiler)
	@CGO_ENABLED=1 .ci/test $(GO) test -race -run '$(RUN)' $(PKG)

test-kernel: deps ## Run the root tests on Debian's kernel in qemu, or on KERNEL=vmlinuz with MODULES=dir
	@KERNEL='$(KERNEL)' MODULES='$(MODULES)' RUN='$(RUN)' .ci/test-kernel

test-kafka: kafka-fetch ## Run the tests of the Kafka source on Apache Kafka, three brokers on loopback; RUN='leader' chooses
	@WSD_TEST_KAFKA='$(KAFKA_HOME)' .ci/test $(GO) test -count=1 -p 1 -run '^TestApacheKafka(Sessions|Commands)?$$/$(RUN)' ./internal/kafkabroker ./internal/source ./internal/produce ./internal/commands ./cmd/wsd

test-cent: deps ## Run the server API's test with PyPI's package cent, which it installs into build/cent (needs Python 3)
	@test -x build/cent/bin/python || { python3 -m venv build/cent && build/cent/bin/pip install -q 'cent==5.2.0'; }
	@WSD_CENT='$(CURDIR)/build/cent/bin/python' .ci/test $(GO) test -count=1 -run '^TestCent$$' ./internal/api

test-alerts: kafka-fetch ## Try the rules and dashboards with Prometheus and Apache Kafka: no query is empty, alerts fire and clear, latencies agree with the load generator
	@command -v promtool >/dev/null || { echo 'Prometheus is missing: run make setup (on Debian: apt-get install prometheus)'; exit 1; }
	@WSD_TEST_KAFKA='$(KAFKA_HOME)' $(GO) test -count=1 -timeout 15m -run '^(TestApacheKafkaAlerts|TestApacheKafkaAlertsMore|TestApacheKafkaLatency|TestPromtool|TestRulesAndDashboards)$$' -v ./internal/server | grep -v -E '^(time|=== )'
test-clients: deps ## Run the published clients (npm and PyPI SDKs, Chromium, Java) against wsd with TLS and tokens; RUN='Chromium' chooses
	@WSD_TEST_CLIENTS='$(CLIENTS_HOME)' .ci/clients-fetch
	@WSD_TEST_CLIENTS='$(CLIENTS_HOME)' .ci/test $(GO) test -count=1 -run '^TestClients.*$(RUN)' ./internal/server

soak-kafka: kafka-fetch ## Kill Kafka's brokers in turn under 20,000 records/s to 2,000 clients, for 5 minutes; SOAK='-soak.duration 90s' for less
	@WSD_TEST_KAFKA='$(KAFKA_HOME)' $(GO) test -count=1 -timeout 1h -run '^TestApacheKafkaSoak$$' ./internal/server -v -args $(SOAK) | grep -v -E ' level=(INFO|WARN) '

kafka: kafka-fetch ## Run Apache Kafka on 127.0.0.1:9092 until Ctrl-C; BROKERS=3 for three, ARGS='-port 19092' for another port
	@$(GO) build -o bin/kafka ./internal/kafkabroker/run
	@exec bin/kafka -home '$(KAFKA_HOME)' -brokers $(BROKERS) $(ARGS)

kafka-fetch: deps ## Fetch Apache Kafka's jars with Maven into WSD_KAFKA_CACHE, once (needs Java 17)
	@.ci/kafka-fetch

fuzz: deps ## Run every fuzz target for FUZZTIME (3s)
	@.ci/fuzz

fmt: ## Format Go and C
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')
	$(CLANG_FORMAT) -i bpf/*.[ch] loadtest/floor/*.[ch]

lint: deps ## golangci-lint, gofmt, clang-format, shellcheck, a build for arm64
	@.ci/lint

bench: deps ## Run the benchmarks; BENCH, PKG and BENCHTIME choose. Without a choice also a short form of compare
	$(GO) test -p 1 -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) $(PKG)
	@[ '$(BENCH) $(PKG)' != '. ./...' ] || SHORT='$(SHORT)' .ci/compare-short

compare: programs bin/floor ## Compare wsd with the least server that can be written (half an hour); ARGS='--cases single --rounds 3' chooses
	@exec bin/loadtest compare $(ARGS)

plan-table: programs ## Measure the plan's old system with each of its optimisations, and wsd, and write docs/results.md (root, 40 minutes, 20 with ARGS='--rounds 1'); ARGS=--short tries it
	@exec bin/plantable $(ARGS)

test-docs: programs ## Run the commands and programs of README.md, getting-started, operations, steering, routing, security, publish and api as they stand there (root, node, npm, kcat, prometheus)
	@.ci/test-docs

test-page: deps ## Look at the admin page in headless Chromium, with axe-core, and open for HOURS (8) in minutes; SCREENSHOTS=dir keeps pictures (chromium, npm)
	@SCREENSHOTS='$(SCREENSHOTS)' HOURS='$(HOURS)' .ci/test-page

shapes: programs ## Run the loads of published measurements, scaled to this machine (3 minutes); ARGS='kafkorama --profile DIR' chooses
	@exec bin/loadtest shapes $(ARGS)

image: ## Build the container image `wsd` with docker or podman; PLATFORM=linux/amd64,linux/arm64 for both, as an archive
	@PLATFORM='$(PLATFORM)' .ci/image

test-image: programs kafka-fetch ## Build the image and try it in every form of docs/deploy.md with 1,000 clients (root); FORMS='bpf' chooses
	@.ci/test-image

packages: deps ## Build the packages for Debian and Red Hat into build/packages; ARCHS='amd64 arm64' for both
	@ARCHS='$(ARCHS)' .ci/packages

test-packages: programs kafka-fetch ## Install, start, upgrade and remove the packages in a container with systemd (root); KINDS='deb' chooses
	@.ci/test-packages

release: deps ## Build archives, packages and checksums for amd64 and arm64 into build/release
	@.ci/packages release

manifests: ## Write deploy/kubernetes from the Helm chart
	@.ci/manifests

test-kubernetes: programs kafka-fetch ## Judge the chart with helm and kubeconform, and play its pods with podman and 1,000 clients (root)
	@.ci/test-kubernetes

test-compose: programs kafka-fetch ## Judge deploy/compose.yaml, and try wsd with Kafka, Prometheus and the dashboard's queries (root)
	@.ci/test-compose

sizing: programs ## Measure the figures of docs/deploy.md with 10,000 and 18,000 clients (3 minutes, a quiet machine); SIZES=10000 chooses
	@.ci/sizing
test-examples: ## Run the programs in docs/publish.md and docs/backend.md with the published SDKs, which this fetches
	@mkdir -p build/examples/go
	@npm --prefix build/examples --no-fund --no-audit --silent install centrifuge@5.7.4 ws@8.18.3
	@test -x build/examples/venv/bin/python || python3 -m venv build/examples/venv
	@build/examples/venv/bin/pip --quiet --disable-pip-version-check install centrifuge-python==0.7.0
	@cd build/examples/go && (test -f go.mod || $(GO) mod init examples) && $(GO) get github.com/centrifugal/centrifuge-go@v0.12.1
	@WSD_EXAMPLES='$(CURDIR)/build/examples' $(GO) test -count=1 -run '^TestExample' ./internal/server

clean: ## Remove what was built here
	rm -rf bin build
