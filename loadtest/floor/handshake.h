// SPDX-License-Identifier: MIT
//go:build ignore

#ifndef HANDSHAKE_H
#define HANDSHAKE_H

#include <stddef.h>

/* Bytes of the longest channel name, and of the answer, with their ends. */
#define CHANNEL_SIZE 256
#define ANSWER_SIZE 256

/*
 * Answers the upgrade request in head, which ends with a NUL: a 101 with the key's hash (RFC 6455,
 * 4.2.2). Gives the answer's length, and the name after /ws?channel= in channel; 0 if the request
 * is none that it understands.
 */
size_t handshake(const char *head, char answer[ANSWER_SIZE], char channel[CHANNEL_SIZE]);

#endif
