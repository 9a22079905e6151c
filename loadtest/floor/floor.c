// SPDX-License-Identifier: MIT
//go:build ignore

/*
 * The least server that can be written for the wire work that wsd does: one loop over epoll, a
 * prebuilt frame, and one write for each client and message. It has no protocol, no Kafka, no
 * limits and no care for slow clients; what it costs is what the kernel costs.
 *
 * It answers GET /ws?channel=NAME, on a free port of 127.0.0.1 that it prints. Records it makes
 * itself, as lines on its standard input ask:
 *
 *     send GROUPS BATCH INTERVAL SIZE RUN OFFSET
 *         GROUPS times, INTERVAL nanoseconds apart (0: without a pause): BATCH records of SIZE
 *         bytes in one write to every client. OFFSET is added to CLOCK_MONOTONIC for the time in
 *         them, RUN tells them from those of other runs. Numbers go on from one send to the next.
 *     spread GROUPS BATCH INTERVAL SIZE RUN OFFSET CHANNELS
 *         The same, but each record goes to one client alone, that of the next of so many channels,
 *         whose names end in their number; records are numbered per channel.
 *
 * When all are written it prints "sent RECORDS LATE": how many it has made since its start, and by
 * how many nanoseconds a group was late at most. With the argument chain it also takes records by
 * TCP (chain.c). It ends when its standard input does.
 */
#define _GNU_SOURCE
#include "chain.h"
#include "handshake.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 4096
#define SEGMENT_MAX (16 << 10) /* As wsd has it: internal/listen/group.go says why. */
#define EVENTS_MAX 256
#define CHANNELS_MAX 65536
#define BATCH_MAX 1000
#define BUFFER_MAX (64 << 20)  /* Bytes of a batch. */
#define WRITABLE_MAX 5000      /* Milliseconds until a client that takes nothing is dropped. */
#define REQUEST_SIZE (8 << 10) /* What is read at once: a request must come whole. */

/* What is watched by epoll beside clients. */
static int epoll_fd, listener_fd, timer_fd, chain_fd = -1;

struct client {
	uint32_t place;	  /* In open_fds, from 1 on; 0: not upgraded. */
	uint32_t channel; /* The number that its channel's name ends in. */
};

static struct client *clients; /* By descriptor. */
static uint32_t files_max;
static int *open_fds; /* Of the clients that are upgraded. */
static uint32_t open_count;
static int by_channel[CHANNELS_MAX]; /* The client of a channel; 0: none. */

/* The work under way. */
static struct frames frames;
static uint64_t groups_left, interval, due, late_max, offset, records;
static uint32_t channels; /* 0: every record to every client. */

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void check(int ok, const char *what)
{
	if (!ok)
		die(what);
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void watch(int fd)
{
	struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};

	check(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) == 0, "watch a descriptor");
}

/* Writes all; a client that takes nothing is waited for, and shut down when it takes too long. */
static void send_all(int fd, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = write(fd, bytes, length);
		struct pollfd p = {.fd = fd, .events = POLLOUT};

		if (n >= 0) {
			bytes += n;
			length -= n;
		} else if (errno != EAGAIN || poll(&p, 1, WRITABLE_MAX) != 1) {
			shutdown(fd, SHUT_RDWR); /* The loop sees its end, and forgets it. */
			return;
		}
	}
}

static void forget(int fd)
{
	struct client *c = &clients[fd];

	if (c->place) {
		int last = open_fds[--open_count];

		open_fds[c->place - 1] = last;
		clients[last].place = c->place;
		c->place = 0;
		if (by_channel[c->channel] == fd)
			by_channel[c->channel] = 0;
	}
	close(fd);
}

static int upgrade(int fd, const char *head)
{
	char answer[ANSWER_SIZE], channel[CHANNEL_SIZE];
	size_t length = handshake(head, answer, channel);
	const char *last = channel + strlen(channel);
	unsigned long number;

	if (!length || write(fd, answer, length) != (ssize_t)length)
		return 0;
	while (last > channel && last[-1] >= '0' && last[-1] <= '9')
		last--;
	number = strtoul(last, NULL, 10);
	if (number >= CHANNELS_MAX)
		return 0;
	by_channel[number] = fd; /* Where the name has no number, nothing asks for it. */
	open_fds[open_count] = fd;
	clients[fd] = (struct client){.place = ++open_count, .channel = number};
	return 1;
}

/*
 * Answers the control frames at the start of what a client has sent; what is not whole, and every
 * message, is dropped. 0 if the client is to be closed.
 */
static int answer_frames(int fd, uint8_t *b, size_t n)
{
	while (n >= 6) {
		uint8_t opcode = b[0] & 0x0f, length = b[1] & 0x7f;
		uint8_t *payload = b + 6, reply[2 + 125];

		if (length > 125 || n < 6U + length)
			return 1;
		for (int i = 0; i < length; i++)
			payload[i] ^= b[2 + i % 4];
		if (opcode == 0x8 || opcode == 0x9) {
			/* Close by close, ping by pong, with the same payload (RFC 6455, 5.5). */
			size_t head = frame_head(reply, opcode == 0x9 ? 0xa : 0x8, length);

			memcpy(reply + head, payload, length);
			send_all(fd, reply, head + length);
		}
		if (opcode == 0x8)
			return 0;
		b += 6 + length;
		n -= 6 + length;
	}
	return 1;
}

/* 0: the client is forgotten. */
static int client_event(int fd)
{
	static uint8_t buffer[REQUEST_SIZE + 1];
	ssize_t n = read(fd, buffer, REQUEST_SIZE);
	int keep = 0;

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n > 0) {
		buffer[n] = 0;
		keep = clients[fd].place ? answer_frames(fd, buffer, n)
					 : upgrade(fd, (const char *)buffer);
	}
	if (!keep)
		forget(fd);
	return keep;
}

/*
 * Takes one: to be told that nobody waits costs half an accept, as a file is made for it first. Its
 * request came with it, mostly, and is read before it is watched, so that it makes no event.
 */
static void accept_one(void)
{
	int fd = accept4(listener_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED))
		return;
	check(fd >= 0 && (uint32_t)fd < files_max, "accept a client");
	if (client_event(fd))
		watch(fd);
}

/* Takes a line of standard input. */
static void begin(const char *line)
{
	struct itimerspec timer = {.it_interval.tv_nsec = 0};
	unsigned batch, size, run;
	char verb[8];
	int fields = sscanf(line, "%7s %" SCNu64 " %u %" SCNu64 " %u %x %" SCNu64 " %u", verb,
			    &groups_left, &batch, &interval, &size, &run, &offset, &channels);

	if (fields == 7 && strcmp(verb, "send") == 0)
		channels = 0;
	else if (fields != 8 || strcmp(verb, "spread") != 0 || !channels || channels > CHANNELS_MAX)
		goto bad;
	if (!groups_left || !batch || batch > BATCH_MAX || size < RECORD_MIN || size > RECORD_MAX ||
	    (size_t)batch * size > BUFFER_MAX)
		goto bad;
	check(frames_make(&frames, batch, size, run), "make the frames");
	due = now();
	late_max = 0;
	if (interval) {
		timer.it_interval.tv_sec = interval / 1000000000;
		timer.it_interval.tv_nsec = interval % 1000000000;
		timer.it_value = timer.it_interval;
	}
	check(timerfd_settime(timer_fd, 0, &timer, NULL) == 0, "set the timer");
	return;
bad:
	errno = EINVAL;
	die(line);
}

static void control_event(void)
{
	static char line[256];
	static size_t have;
	ssize_t n = read(STDIN_FILENO, line + have, sizeof(line) - 1 - have);

	if (n <= 0)
		exit(0);
	have += n;
	line[have] = 0;
	if (line[have - 1] == '\n') {
		have = 0;
		begin(line);
	} else {
		check(have < sizeof(line) - 1, "read a line that ends");
	}
}

/* Makes and writes a group that is due. */
static void send_group(void)
{
	uint64_t at = now();
	size_t length = frames.frame;

	if (interval && at - due > late_max)
		late_max = at - due;
	/* A group is as old as it should have been sent: waiting for the one before is latency. */
	at = (interval ? due : at) + offset;
	due += interval;
	groups_left--;
	for (unsigned i = 0; i < frames.count; i++) {
		uint32_t channel = channels ? records % channels : 0;

		frames_set(&frames, i, channels ? records / channels + 1 : records + 1, at);
		records++;
		if (channels && by_channel[channel])
			send_all(by_channel[channel], frames.bytes + i * length, length);
	}
	for (uint32_t i = 0; !channels && i < open_count; i++)
		send_all(open_fds[i], frames.bytes, frames.count * length);
	if (!groups_left) {
		printf("sent %" PRIu64 " %" PRIu64 "\n", records, late_max);
		fflush(stdout);
		check(timerfd_settime(timer_fd, 0, &(struct itimerspec){0}, NULL) == 0,
		      "stop the timer");
	}
}

static void write_chained(void)
{
	const struct chained *c;

	while ((c = chain_first())) {
		if (c->channel < CHANNELS_MAX && by_channel[c->channel])
			send_all(by_channel[c->channel], c->frame, c->length);
		chain_drop();
	}
}

/* Adds to a counter's descriptor are of no interest, only that there were some. */
static void clear(int fd)
{
	uint64_t count;

	check(read(fd, &count, sizeof(count)) > 0 || errno == EAGAIN, "read a counter");
}

static void event(int fd)
{
	if (fd == listener_fd) {
		accept_one();
	} else if (fd == timer_fd) {
		clear(fd);
	} else if (fd == chain_fd) {
		clear(fd);
		write_chained();
	} else if (fd == STDIN_FILENO) {
		control_event();
	} else {
		client_event(fd);
	}
}

/* Listens on a free port of 127.0.0.1 with the options that accepted sockets take over. */
static int listen_any(int send_buffer, int flags, uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(a);
	int segment = SEGMENT_MAX, on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	check(fd >= 0, "open a socket");
	check(send_buffer == 0 ||
		      setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof(send_buffer)) == 0,
	      "set SO_SNDBUF");
	check(setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)) == 0,
	      "set TCP_MAXSEG");
	check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0, "set TCP_NODELAY");
	check(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, BACKLOG) == 0,
	      "listen");
	check(getsockname(fd, (struct sockaddr *)&a, &length) == 0, "read the port");
	*port = ntohs(a.sin_port);
	return fd;
}

static void prepare(int send_buffer, int chained)
{
	struct rlimit files;
	uint16_t port, feed = 0;
	int defer = 1; /* Seconds, as wsd has it. */

	signal(SIGPIPE, SIG_IGN);
	check(getrlimit(RLIMIT_NOFILE, &files) == 0, "read the limit on open files");
	files.rlim_cur = files.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &files) == 0, "raise the limit on open files");
	files_max = files.rlim_max < 1 << 24 ? files.rlim_max : 1 << 24;
	/* Pages that no client needs are never touched. */
	clients = calloc(files_max, sizeof(*clients));
	open_fds = calloc(files_max, sizeof(*open_fds));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	check(clients && open_fds && epoll_fd >= 0 && timer_fd >= 0, "make the loop");
	listener_fd = listen_any(send_buffer, SOCK_NONBLOCK, &port);
	check(setsockopt(listener_fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &defer, sizeof(defer)) == 0,
	      "set TCP_DEFER_ACCEPT");
	watch(listener_fd);
	watch(timer_fd);
	watch(STDIN_FILENO);
	if (chained) {
		chain_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		check(chain_fd >= 0, "make an eventfd");
		watch(chain_fd);
		check(chain_start(listen_any(0, 0, &feed), chain_fd), "start the chain's thread");
	}
	printf("listening %u %u\n", port, feed);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct epoll_event events[EVENTS_MAX];
	int chained = argc == 3 && strcmp(argv[2], "chain") == 0;

	if (argc < 2 || argc > 3 || (argc == 3 && !chained)) {
		fprintf(stderr, "usage: floor SEND_BUFFER [chain]; 0: the kernel's own size\n");
		return 2;
	}
	prepare(atoi(argv[1]), chained);
	for (;;) {
		int ready = groups_left && now() >= due;
		int n = epoll_wait(epoll_fd, events, EVENTS_MAX, ready ? 0 : -1);

		check(n >= 0 || errno == EINTR, "wait for events");
		for (int i = 0; i < n; i++)
			event(events[i].data.fd);
		if (groups_left && now() >= due)
			send_group();
	}
}
