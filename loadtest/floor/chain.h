// SPDX-License-Identifier: MIT
//go:build ignore

#ifndef CHAIN_H
#define CHAIN_H

#include <stddef.h>
#include <stdint.h>

#include "record.h"

/* Bytes of the largest record that comes by the chain. */
#define CHAIN_RECORD_MAX 4096

/* Bytes of a request: about what a Fetch of one partition has. */
#define CHAIN_REQUEST 100

/* A record that has come, as a frame. */
struct chained {
	uint32_t channel;
	uint32_t length; /* Of frame. */
	uint8_t frame[HEAD_MAX + CHAIN_RECORD_MAX];
};

/*
 * Starts the thread that fetches records over the one connection to listener, a listening socket,
 * and adds to the eventfd wake for each read that brought some. 0 if it cannot be started.
 */
int chain_start(int listener, int wake);

/* The oldest record that has come and was not dropped; NULL if there is none. */
const struct chained *chain_first(void);

/* Drops the record that chain_first has given. */
void chain_drop(void);

#endif
