# The server's image: two static binaries on Debian, with bpftool to look at and
# to set what steers. `make image` builds it; docs/deploy.md says how it runs.

FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=unknown
ARG COMMIT=unknown
RUN make build VERSION="$VERSION" COMMIT="$COMMIT"

FROM debian:bookworm-slim
# Debian keeps one version of a package in a release, so there is none to pin.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends bpftool ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /src/bin/wsd /src/bin/loadtest /usr/local/bin/

ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="wsd" \
      org.opencontainers.image.description="Kafka records to WebSocket clients, through shards that the kernel chooses" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"

# 8000: clients. 9000: admin; it listens on loopback by default.
EXPOSE 8000 9000

# wsd drains for 8 s after it (shutdown.drain); docker run --stop-timeout 15.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["wsd", "health"]
ENTRYPOINT ["wsd"]
CMD ["serve"]
