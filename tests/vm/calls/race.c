// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls while other threads change the struct, its array and its pages under the
 * driver's hands. What lies beyond anything that they ever name must stay.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include <linux/tdxhost.h>

#include "arena.h"
#include "calls.h"

#define NR_COMMANDS 9

/* No caller's: the kernel's map of all memory begins here. */
#define KERNEL 0xffff888000000000ull

/* No struct that is served is longer than this. */
#define LARGEST_STRUCT 40

/* Refused for the canaries in it, but written over where this size is read later. */
#define WHOLE_PAGE ARENA_STRUCT_BYTES

/* Nor more of the array, whichever of its numbers the driver takes for which. */
#define LARGEST_ENTRY 64
#define MOST_ENTRIES 64
#define LARGEST_ARRAY (ARENA_PAGE + LARGEST_ENTRY * MOST_ENTRIES)

static atomic_bool over;

static uint32_t next_random(uint32_t *state)
{
	/* xorshift32: Marsaglia, "Xorshift RNGs", 2003. */
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

#define PICK(values, state) ((values)[next_random(state) % (sizeof(values) / sizeof(*(values)))])

/*
 * A number can be read half changed. So that what then comes out stays within the
 * bounds above, those beyond them differ from the others in their highest bytes alone.
 */
static const uint32_t sizes[] = { 8, 16, 24, 32, LARGEST_STRUCT, LARGEST_STRUCT, WHOLE_PAGE };
static const uint32_t flags[] = { 0, 0, 0, 1 };
static const uint64_t addresses[] = { ARENA_ARRAY, ARENA_ARRAY + ARENA_PAGE - 64, 0, KERNEL };
static const uint32_t counts[] = { 0, 1, 10, MOST_ENTRIES, 1u << 31 };
static const uint32_t entry_sizes[] = { 0, 1, 8, 40, LARGEST_ENTRY };
static const uint32_t masks[] = { 0, 0, 1, 8 };

/* GET_MEMORY and SYS_RD have the same fields at the same places. */
static void change_steps(uint32_t *state)
{
	volatile struct tdxhost_steps *steps = (void *)ARENA_STRUCT;

	steps->size = PICK(sizes, state);
	steps->flags = PICK(flags, state);
	steps->results = PICK(addresses, state);
	steps->count = PICK(counts, state);
	steps->entry_size = PICK(entry_sizes, state);
	memset((void *)(steps + 1), 0, LARGEST_STRUCT - sizeof(*steps));
}

static void change_cpus(uint32_t *state)
{
	volatile struct tdxhost_cpus *cpus = (void *)ARENA_STRUCT;

	cpus->size = PICK(sizes, state);
	cpus->flags = PICK(flags, state);
	cpus->mask_bytes = PICK(masks, state);
	cpus->mask = cpus->mask_bytes ? PICK(addresses, state) : 0;
	cpus->count = PICK(counts, state);
	cpus->results = PICK(addresses, state);
	cpus->entry_size = PICK(entry_sizes, state);
	cpus->__reserved = 0;
}

static void *change_values(void *seed)
{
	uint32_t state = (uintptr_t)seed;
	volatile uint8_t *array = (void *)ARENA_ARRAY;

	while (!over) {
		if (next_random(&state) % 2)
			change_steps(&state);
		else
			change_cpus(&state);
		array[next_random(&state) % ARENA_PAGE] = next_random(&state) & 0xf;
	}
	return NULL;
}

/* The array's second page goes and comes back; change_values() writes to the first. */
static void *change_page(void *seed)
{
	static const int protections[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	uint32_t state = (uintptr_t)seed;

	while (!over)
		if (mprotect((void *)(ARENA_ARRAY + ARENA_PAGE), ARENA_PAGE,
			     PICK(protections, &state)))
			err(1, "mprotect");
	return NULL;
}

static void call_until(int fd, time_t end)
{
	static const int allowed[] = { 0, EINVAL, EFAULT, EMSGSIZE, E2BIG };
	unsigned int made = 0, served = 0;

	while (time(NULL) < end) {
		int number = _IO(TDXHOST_IOCTL_TYPE, made++ % NR_COMMANDS);
		int error = ioctl(fd, number, (void *)ARENA_STRUCT) ? errno : 0;
		bool known = false;

		for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++)
			known |= error == allowed[i];
		if (!known)
			errx(1, "call %#x: errno %d", number, error);
		served += !error;
	}
	printf("%u %u\n", made, served);
}

/* The threads that change things are free to run beside the caller. */
static void unpin(pthread_attr_t *attributes)
{
	cpu_set_t cpus;

	memset(&cpus, 0xff, sizeof(cpus));
	CPU_CLR(0, &cpus);
	pthread_attr_init(attributes);
	if (pthread_attr_setaffinity_np(attributes, sizeof(cpus), &cpus))
		errx(1, "no affinity for threads");
}

static void check(unsigned long from, unsigned long to)
{
	for (; from < to; from++)
		if (*(uint8_t *)from != CANARY)
			errx(1, "the byte at %#lx was written", from);
}

int race(long seconds)
{
	void *(*const changers[])(void *) = { change_values, change_values, change_page };
	pthread_t threads[sizeof(changers) / sizeof(*changers)];
	int fd = device_open(O_RDWR);
	pthread_attr_t attributes;

	arena_map();
	unpin(&attributes);
	for (size_t i = 0; i < sizeof(threads) / sizeof(*threads); i++)
		if (pthread_create(&threads[i], &attributes, changers[i], (void *)(i + 1)))
			errx(1, "no thread");
	call_until(fd, time(NULL) + seconds);
	over = true;
	for (size_t i = 0; i < sizeof(threads) / sizeof(*threads); i++)
		pthread_join(threads[i], NULL);
	check(ARENA_STRUCT + LARGEST_STRUCT, ARENA_STRUCT + ARENA_STRUCT_BYTES);
	check(ARENA_ARRAY + LARGEST_ARRAY, ARENA_END);
	return 0;
}
