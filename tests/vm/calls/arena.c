// SPDX-License-Identifier: GPL-2.0-or-later
#include "arena.h"

#include <err.h>
#include <string.h>
#include <sys/mman.h>

static void map(unsigned long address, size_t bytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE;

	if (mmap((void *)address, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
		err(1, "mmap at %#lx", address);
}

static void protect_read_only(int protection)
{
	if (mprotect((void *)ARENA_READ_ONLY, ARENA_PAGE, protection))
		err(1, "mprotect");
}

/* Also where callers can't. */
void arena_write(unsigned long address, const void *data, size_t bytes)
{
	/* Opened only where needed: it costs more than a call. */
	if (address + bytes > ARENA_READ_ONLY)
		protect_read_only(PROT_READ | PROT_WRITE);
	memcpy((void *)address, data, bytes);
	if (address + bytes > ARENA_READ_ONLY)
		protect_read_only(PROT_READ);
}

/* The whole map, filled; what is not mapped here is a hole. */
void arena_map(void)
{
	map(ARENA_STRUCT, ARENA_STRUCT_BYTES);
	map(ARENA_ARRAY, ARENA_ARRAY_BYTES + ARENA_PAGE);
	memset((void *)ARENA_STRUCT, CANARY, ARENA_STRUCT_BYTES);
	memset((void *)ARENA_ARRAY, CANARY, ARENA_ARRAY_BYTES + ARENA_PAGE);
	protect_read_only(PROT_READ);
}
