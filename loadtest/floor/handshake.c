// SPDX-License-Identifier: MIT
//go:build ignore

/* The WebSocket upgrade: SHA-1 and base64 of one key, and a fixed answer around it. */
#define _GNU_SOURCE
#include "handshake.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define KEY_SIZE 24 /* 16 bytes in base64. */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define SHA_SIZE 20
#define BLOCK_SIZE 64
#define REQUEST "GET /ws?channel="
#define KEY_FIELD "\r\nSec-WebSocket-Key: "

static uint32_t rotate(uint32_t x, int bits)
{
	return x << bits | x >> (32 - bits);
}

/* Takes one block into the hash (RFC 3174, 6.1). */
static void sha1_block(uint32_t h[5], const uint8_t *block)
{
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
		       (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
	for (int i = 16; i < 80; i++)
		w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (int i = 0; i < 80; i++) {
		uint32_t f, k, t;

		if (i < 20) {
			f = (b & c) | (~b & d);
			k = 0x5a827999;
		} else if (i < 40) {
			f = b ^ c ^ d;
			k = 0x6ed9eba1;
		} else if (i < 60) {
			f = (b & c) | (b & d) | (c & d);
			k = 0x8f1bbcdc;
		} else {
			f = b ^ c ^ d;
			k = 0xca62c1d6;
		}
		t = rotate(a, 5) + f + e + w[i] + k;
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = t;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

/* The hash of the key with the GUID behind it: 60 bytes, so that padding makes two blocks. */
static void sha1_key(const char *key, uint8_t out[SHA_SIZE])
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	uint8_t text[2 * BLOCK_SIZE] = {0};
	unsigned bits = 8 * (KEY_SIZE + sizeof(GUID) - 1);

	memcpy(text, key, KEY_SIZE);
	memcpy(text + KEY_SIZE, GUID, sizeof(GUID) - 1);
	text[bits / 8] = 0x80;
	text[sizeof(text) - 2] = bits >> 8;
	text[sizeof(text) - 1] = bits & 0xff;
	sha1_block(h, text);
	sha1_block(h, text + BLOCK_SIZE);
	for (int i = 0; i < SHA_SIZE; i++)
		out[i] = h[i / 4] >> (24 - 8 * (i % 4));
}

/* The base64 of a hash: 28 characters with one '=', and a NUL. */
static void base64(const uint8_t hash[SHA_SIZE], char out[29])
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint8_t padded[SHA_SIZE + 1] = {0};

	memcpy(padded, hash, SHA_SIZE);
	for (int i = 0; i < 7; i++) {
		const uint8_t *b = padded + 3 * i;
		uint32_t bits = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];

		for (int j = 0; j < 4; j++)
			out[4 * i + j] = digits[bits >> (18 - 6 * j) & 63];
	}
	out[27] = '=';
	out[28] = 0;
}

size_t handshake(const char *head, char answer[ANSWER_SIZE], char channel[CHANNEL_SIZE])
{
	const char *key = strcasestr(head, KEY_FIELD);
	const char *name = head + sizeof(REQUEST) - 1;
	uint8_t hash[SHA_SIZE];
	char accept[29];
	size_t length;

	if (!key || strncmp(head, REQUEST, sizeof(REQUEST) - 1) != 0)
		return 0;
	key += sizeof(KEY_FIELD) - 1;
	length = strcspn(name, " &\r\n");
	if (strcspn(key, "\r\n") != KEY_SIZE || name[length] != ' ' || length >= CHANNEL_SIZE)
		return 0;
	memcpy(channel, name, length);
	channel[length] = 0;
	sha1_key(key, hash);
	base64(hash, accept);
	return snprintf(answer, ANSWER_SIZE,
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
			"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			accept);
}
