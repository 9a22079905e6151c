# A machine to install wsd's packages on: Debian with systemd, and rpm beside dpkg. Used by make test-packages alone.
FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends systemd systemd-sysv dbus bpftool procps rpm bash-completion zsh fish man-db \
    && rm -rf /var/lib/apt/lists/* \
    && systemctl mask systemd-udevd.service systemd-logind.service getty.target console-getty.service systemd-resolved.service
STOPSIGNAL SIGRTMIN+3
ENTRYPOINT ["/sbin/init"]
