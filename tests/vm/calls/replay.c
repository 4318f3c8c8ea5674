// SPDX-License-Identifier: GPL-2.0-or-later
/* Makes the calls of a file, each on fresh memory; wire.py has the format. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena.h"
#include "calls.h"

/* arch/x86/entry/syscalls/syscall_32.tbl */
#define IA32_NR_IOCTL 54

#define NOBODY 65534

/* Equal bytes between two changes that are told as changed, to tell them as one. */
#define GAP 8

/**
 * struct call - one call, as the file has it
 * @number: second argument of ioctl()
 * @fd: which descriptor, as in open_modes
 * @compat: made as a 32-bit program would
 * @nobody: made without privilege
 * @writes: how many of struct write follow
 * @argument: third argument of ioctl()
 */
struct call {
	uint32_t number;
	uint8_t fd;
	uint8_t compat;
	uint8_t nobody;
	uint8_t writes;
	uint64_t argument;
};

/* Bytes that memory has before the call; they follow. Also: bytes that it changed. */
struct run {
	uint32_t address;
	uint32_t bytes;
};

struct reply {
	uint32_t error;
	uint32_t runs;
};

static const int open_modes[] = { O_RDWR, O_RDONLY, O_WRONLY };

/* A page of the arena: what it was when the call began, and whether that is not canaries. */
struct page {
	bool dirty;
	uint8_t before[ARENA_PAGE];
};

static struct page pages[(ARENA_END - ARENA_STRUCT) / ARENA_PAGE];

static struct page *page_at(unsigned long address)
{
	return &pages[(address - ARENA_STRUCT) / ARENA_PAGE];
}

static void get(FILE *file, void *to, size_t bytes)
{
	if (fread(to, 1, bytes, file) != bytes)
		errx(1, "the file of calls ends too early");
}

static void put(const void *from, size_t bytes)
{
	if (fwrite(from, 1, bytes, stdout) != bytes)
		err(1, "standard output");
}

static bool in_arena(const struct run *run)
{
	uint64_t end = (uint64_t)run->address + run->bytes;

	return (run->address >= ARENA_STRUCT && end <= ARENA_STRUCT + ARENA_STRUCT_BYTES) ||
	       (run->address >= ARENA_ARRAY && end <= ARENA_END);
}

/* Part of a write that lies in one page. */
static void write_in_page(unsigned long address, const uint8_t *data, size_t bytes)
{
	struct page *page = page_at(address);

	arena_write(address, data, bytes);
	memcpy(page->before + address % ARENA_PAGE, data, bytes);
	page->dirty = true;
}

static void take_write(FILE *file)
{
	uint8_t data[ARENA_END - ARENA_STRUCT];
	struct run run;

	get(file, &run, sizeof(run));
	if (!in_arena(&run))
		errx(1, "%#x+%#x is no memory of ours", run.address, run.bytes);
	get(file, data, run.bytes);
	for (size_t i = 0; i < run.bytes;) {
		size_t part = ARENA_PAGE - (run.address + i) % ARENA_PAGE;

		if (part > run.bytes - i)
			part = run.bytes - i;
		write_in_page(run.address + i, data + i, part);
		i += part;
	}
}

static long ioctl_compat(int fd, uint32_t number, uint32_t argument)
{
	long ret;

	/* The entry for 32-bit programs clears R8 to R11. */
	asm volatile("int $0x80"
		     : "=a"(ret)
		     : "a"(IA32_NR_IOCTL), "b"(fd), "c"(number), "d"(argument)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int32_t)ret;
}

static long ioctl_native(int fd, uint32_t number, uint64_t argument)
{
	return syscall(SYS_ioctl, fd, number, argument) ? -errno : 0;
}

static void become(uid_t uid)
{
	if (syscall(SYS_setresuid, -1, uid, -1))
		err(1, "setresuid");
}

static long make(const struct call *call, const int *fds)
{
	int fd = fds[call->fd];
	long ret;

	if (call->nobody)
		become(NOBODY);
	ret = call->compat ? ioctl_compat(fd, call->number, call->argument) :
			     ioctl_native(fd, call->number, call->argument);
	if (call->nobody)
		become(0);
	return ret;
}

/* Length of the change at @at, small gaps included. */
static size_t change_bytes(const uint8_t *at, const uint8_t *was, size_t left)
{
	size_t end = 1;

	for (size_t i = 1; i < left && i < end + GAP; i++)
		if (at[i] != was[i])
			end = i + 1;
	return end;
}

/* Tells the changes of a page, or only counts them. */
static uint32_t page_changes(unsigned long address, bool tell)
{
	const uint8_t *now = (const uint8_t *)address, *was = page_at(address)->before;
	uint32_t runs = 0;

	for (size_t i = 0; i < ARENA_PAGE; i++) {
		struct run run = { address + i, 0 };

		if (now[i] == was[i])
			continue;
		run.bytes = change_bytes(now + i, was + i, ARENA_PAGE - i);
		if (tell) {
			put(&run, sizeof(run));
			put(now + i, run.bytes);
		}
		i += run.bytes - 1;
		runs++;
	}
	return runs;
}

/* The page behind @address, the hole passed over. */
static unsigned long next_page(unsigned long address)
{
	address += ARENA_PAGE;
	return address == ARENA_STRUCT + ARENA_STRUCT_BYTES ? ARENA_ARRAY : address;
}

static uint32_t all_changes(bool tell)
{
	uint32_t runs = 0;

	for (unsigned long at = ARENA_STRUCT; at < ARENA_END; at = next_page(at))
		if (memcmp((void *)at, page_at(at)->before, ARENA_PAGE)) {
			runs += page_changes(at, tell);
			page_at(at)->dirty = true;
		}
	return runs;
}

/* Memory as it was before the call's own bytes were put there. */
static void restore(void)
{
	static uint8_t canaries[ARENA_PAGE];

	memset(canaries, CANARY, sizeof(canaries));
	for (unsigned long at = ARENA_STRUCT; at < ARENA_END; at = next_page(at))
		if (page_at(at)->dirty) {
			write_in_page(at, canaries, ARENA_PAGE);
			page_at(at)->dirty = false;
		}
}

static void serve(FILE *file, const struct call *call, const int *fds)
{
	struct reply reply;

	for (unsigned int i = 0; i < call->writes; i++)
		take_write(file);
	reply.error = -make(call, fds);
	reply.runs = all_changes(false);
	put(&reply, sizeof(reply));
	all_changes(true);
	restore();
}

int replay(const char *path)
{
	int fds[sizeof(open_modes) / sizeof(*open_modes)];
	FILE *file = fopen(path, "rb");
	struct call call;

	if (!file)
		err(1, "%s", path);
	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		fds[i] = device_open(open_modes[i]);
	arena_map();
	for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++)
		memset(pages[i].before, CANARY, ARENA_PAGE);
	while (fread(&call, sizeof(call), 1, file) == 1)
		serve(file, &call, fds);
	return 0;
}
