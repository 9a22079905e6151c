// SPDX-License-Identifier: MIT
//go:build ignore

#ifndef RECORD_H
#define RECORD_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the largest head of a frame that a server sends (RFC 6455, 5.2). */
#define HEAD_MAX 10

/* Bytes of the smallest record and of the largest: loadtest/client/payload.go has the layout. */
#define RECORD_MIN 73
#define RECORD_MAX (1 << 20)

/* Frames of one size in one buffer, one behind the other, whose number and time can be replaced. */
struct frames {
	uint8_t *bytes;
	size_t frame; /* Bytes of one, head included. */
	size_t head;  /* Bytes of its head. */
	unsigned count;
};

/* Writes the head of a final text or control frame of length bytes; gives the head's length. */
size_t frame_head(uint8_t *to, uint8_t opcode, size_t length);

/* Makes count frames with records of size bytes of a run; 0 when there is no memory. */
int frames_make(struct frames *f, unsigned count, size_t size, uint32_t run);

/* Sets the record's number and time, in nanoseconds since 1970, in frame i. */
void frames_set(struct frames *f, unsigned i, uint64_t seq, uint64_t time);

#endif
