// SPDX-License-Identifier: MIT
//go:build ignore

/*
 * The first half of a chain of fetch, wake and write: a thread that fetches records over a local
 * TCP connection, as a server of Kafka's records does, and hands them to the thread that writes, by
 * a ring with one writer and one reader.
 *
 * A fetch is a request of CHAIN_REQUEST bytes, what is in it does not matter, and its answer, a
 * record: its channel's number and its length, four bytes each in network order, and its bytes.
 */
#include "chain.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RING_SIZE 1024 /* Records; a power of two. */
#define INTRO_SIZE 8
#define BUFFER_SIZE (64 << 10)

static struct chained ring[RING_SIZE];
static atomic_uint written, read_up_to;
static int listener_fd, wake_fd;

static void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

const struct chained *chain_first(void)
{
	unsigned at = atomic_load_explicit(&read_up_to, memory_order_relaxed);

	if (at == atomic_load_explicit(&written, memory_order_acquire))
		return NULL;
	return &ring[at % RING_SIZE];
}

void chain_drop(void)
{
	atomic_fetch_add_explicit(&read_up_to, 1, memory_order_release);
}

static void wake(void)
{
	uint64_t one = 1;

	if (write(wake_fd, &one, sizeof(one)) != sizeof(one))
		die("wake the writer");
}

static void put(uint32_t channel, const uint8_t *record, uint32_t length)
{
	unsigned at = atomic_load_explicit(&written, memory_order_relaxed);
	struct chained *c = &ring[at % RING_SIZE];
	size_t head;

	/* The reader runs on the same CPU: it is woken, and let run. */
	while (at - atomic_load_explicit(&read_up_to, memory_order_acquire) == RING_SIZE) {
		wake();
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
	head = frame_head(c->frame, 0x1, length);
	memcpy(c->frame + head, record, length);
	c->channel = channel;
	c->length = head + length;
	atomic_store_explicit(&written, at + 1, memory_order_release);
}

static uint32_t number(const uint8_t *b)
{
	uint32_t n;

	memcpy(&n, b, sizeof(n));
	return ntohl(n);
}

/* Takes the complete records at the start of b; gives their bytes. */
static size_t take(const uint8_t *b, size_t have)
{
	size_t used = 0;

	while (have - used >= INTRO_SIZE) {
		uint32_t length = number(b + used + 4);

		if (length > CHAIN_RECORD_MAX) {
			errno = EMSGSIZE;
			die("take a record");
		}
		if (have - used < INTRO_SIZE + length)
			break;
		put(number(b + used), b + used + INTRO_SIZE, length);
		used += INTRO_SIZE + length;
	}
	return used;
}

/* Asks for a record. What cannot be sent is noticed by the next read. */
static void ask(int fd)
{
	static const uint8_t request[CHAIN_REQUEST];

	(void)!send(fd, request, sizeof(request), MSG_NOSIGNAL);
}

static void *receive(void *unused)
{
	static uint8_t buffer[BUFFER_SIZE];
	size_t have = 0;
	int fd = accept(listener_fd, NULL, NULL);

	(void)unused;
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)))
		die("accept the feed");
	ask(fd);
	for (;;) {
		ssize_t n = read(fd, buffer + have, sizeof(buffer) - have);
		size_t used;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return NULL; /* The feed has ended; the process goes on until it is told to
					end. */
		have += n;
		used = take(buffer, have);
		if (used) {
			have -= used;
			memmove(buffer, buffer + used, have);
			wake();
			ask(fd);
		}
	}
}

int chain_start(int listener, int wake)
{
	pthread_t thread;

	listener_fd = listener;
	wake_fd = wake;
	return pthread_create(&thread, NULL, receive, NULL) == 0;
}
