/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that calls are made on: what may be read, what written, holes around. */
#ifndef CALLS_ARENA_H
#define CALLS_ARENA_H

#include <stddef.h>
#include <stdint.h>

/* Below 2 GiB, so that a 32-bit caller can name it. memory.py has the same map. */
#define ARENA_BASE 0x20000000ul
#define ARENA_PAGE 4096ul
#define ARENA_STRUCT (ARENA_BASE + ARENA_PAGE)
#define ARENA_STRUCT_BYTES ARENA_PAGE
#define ARENA_ARRAY (ARENA_STRUCT + ARENA_STRUCT_BYTES + ARENA_PAGE)
#define ARENA_ARRAY_BYTES (16 * ARENA_PAGE)
#define ARENA_READ_ONLY (ARENA_ARRAY + ARENA_ARRAY_BYTES)
#define ARENA_END (ARENA_READ_ONLY + ARENA_PAGE)

/* What every byte is before a call. */
#define CANARY 0xcc

void arena_map(void);
void arena_write(unsigned long address, const void *data, size_t bytes);

#endif /* CALLS_ARENA_H */
