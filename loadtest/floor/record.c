// SPDX-License-Identifier: MIT
//go:build ignore

/* The frames that are sent, with the records that the load generator expects in them. */
#include "record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEQ_KEY "{\"seq\":\""
#define SEQ_DIGITS 12
#define TIME_KEY "\",\"ts\":"
#define TIME_DIGITS 19
#define RUN_KEY ",\"run\":\""
#define PAD_KEY "\",\"pad\":\""
#define END "\"}"

#define SEQ_AT (sizeof(SEQ_KEY) - 1)
#define TIME_AT (SEQ_AT + SEQ_DIGITS + sizeof(TIME_KEY) - 1)
#define TAIL_AT (TIME_AT + TIME_DIGITS)

_Static_assert(TAIL_AT + sizeof(RUN_KEY PAD_KEY END) - 1 + 8 == RECORD_MIN,
	       "the layout has changed");

size_t frame_head(uint8_t *to, uint8_t opcode, size_t length)
{
	to[0] = 0x80 | opcode;
	if (length < 126) {
		to[1] = length;
		return 2;
	}
	if (length < 1 << 16) {
		to[1] = 126;
		to[2] = length >> 8;
		to[3] = length & 0xff;
		return 4;
	}
	to[1] = 127;
	for (int i = 0; i < 8; i++)
		to[2 + i] = (uint64_t)length >> (56 - 8 * i);
	return 10;
}

static void digits(uint8_t *to, int width, uint64_t n)
{
	while (width--) {
		to[width] = '0' + n % 10;
		n /= 10;
	}
}

int frames_make(struct frames *f, unsigned count, size_t size, uint32_t run)
{
	uint8_t *all = realloc(f->bytes, count * (HEAD_MAX + size));
	size_t head;
	char tail[64];
	int length;

	if (!all)
		return 0;
	head = frame_head(all, 0x1, size);
	length = snprintf(tail, sizeof(tail), RUN_KEY "%08x" PAD_KEY, run);
	*f = (struct frames){.bytes = all, .frame = head + size, .head = head, .count = count};
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = all + i * f->frame;
		uint8_t *record = at + head;

		frame_head(at, 0x1, size);
		memset(record, '.', size);
		memcpy(record, SEQ_KEY, sizeof(SEQ_KEY) - 1);
		memcpy(record + SEQ_AT + SEQ_DIGITS, TIME_KEY, sizeof(TIME_KEY) - 1);
		memcpy(record + TAIL_AT, tail, length);
		memcpy(record + size - (sizeof(END) - 1), END, sizeof(END) - 1);
	}
	return 1;
}

void frames_set(struct frames *f, unsigned i, uint64_t seq, uint64_t time)
{
	uint8_t *record = f->bytes + i * f->frame + f->head;

	digits(record + SEQ_AT, SEQ_DIGITS, seq);
	digits(record + TIME_AT, TIME_DIGITS, time);
}
