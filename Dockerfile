# The server's image: two static binaries, bpftool with the libraries that it needs, and a busybox to look around with. Nothing
# else of Debian is in it. docs/deploy.md says how it runs.
#
# Nothing is run on the target's processor, so any machine builds for any other:
#
#   make image                       for this machine
#   make image PLATFORM=linux/arm64  for another one
#
# The same sources and the same Debian packages give the same layers: SOURCE_DATE_EPOCH stands for every time.

# BuildKit sets it; .ci/image gives it to Podman.
ARG BUILDPLATFORM
FROM --platform=$BUILDPLATFORM debian:bookworm-slim AS debian
ARG TARGETARCH
# Debian keeps one version of a package in a release, so there is none to pin.
# hadolint ignore=DL3008
RUN dpkg --add-architecture "$TARGETARCH" \
    && apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates busybox-static
WORKDIR /packages
# hadolint ignore=DL3008
RUN for package in base-files bpftool busybox-static libc6 libcap2 libelf1 zlib1g; do \
        apt-get download -o APT::Sandbox::User=root "$package:$TARGETARCH"; \
    done \
    && apt-get download -o APT::Sandbox::User=root ca-certificates
COPY deploy/image-root /usr/local/bin/
RUN image-root /packages /root-of-image

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
ARG TARGETARCH
# What was downloaded and compiled before is used again; it is no part of the image.
ENV GOCACHE=/cache/build GOMODCACHE=/cache/modules
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache go mod download
COPY --from=debian /root-of-image/var/lib/dpkg/status.d /packages
ARG VERSION=unknown
ARG COMMIT=unknown
COPY . .
RUN --mount=type=cache,target=/cache \
    GOARCH="$TARGETARCH" make programs PROGRAMS='./cmd/wsd ./loadtest' VERSION="$VERSION" COMMIT="$COMMIT" \
    && mkdir -p /out/usr/local/bin /out/usr/share/doc/wsd \
    && mv bin/wsd bin/loadtest /out/usr/local/bin/ \
    && go run ./deploy/sbom -name wsd -version "$VERSION" -packages /packages /out/usr/local/bin/wsd /out/usr/local/bin/loadtest \
        > /out/usr/share/doc/wsd/sbom.cdx.json

# What changes least comes first, because an engine makes everything after the first change anew.
FROM scratch
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# 8000: clients. 9000: admin; it listens on loopback by default.
EXPOSE 8000 9000

# wsd drains for 8 s after it (shutdown.drain); docker run --stop-timeout 15.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 CMD ["wsd", "health"]
ENTRYPOINT ["wsd"]
CMD ["serve"]
COPY --from=debian /root-of-image /
COPY --from=build /out /

ARG VERSION=unknown
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="wsd" \
      org.opencontainers.image.description="Kafka records to WebSocket clients, through shards that the kernel chooses" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
