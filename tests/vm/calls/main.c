// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls /dev/tdxhost as no sane program does.
 *
 * calls replay FILE    make the calls of FILE, tell what each came to
 * calls drain LIMIT    enable this CPU again and again until that succeeds
 * calls race SECONDS   call while other threads change what is being read
 */
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/tdxhost.h>

#include "calls.h"

/* All calls come from CPU 0: memory.py says so too. */
static void pin(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "sched_setaffinity");
}

static unsigned int cpu_enable(int fd)
{
	struct tdxhost_cpu_result result;
	struct tdxhost_cpu_enable enable = {
		.size = sizeof(enable),
		.result = (unsigned long)&result,
		.entry_size = sizeof(result),
	};

	if (ioctl(fd, TDXHOST_CPU_ENABLE, &enable))
		err(1, "CPU_ENABLE");
	return result.error;
}

/* Uses up the faults that are left. */
static int drain(long limit)
{
	int fd = device_open(O_RDWR);
	long tries = 1;

	while (cpu_enable(fd))
		if (tries++ == limit)
			errx(1, "still failing after %ld tries", limit);
	printf("%ld\n", tries);
	return 0;
}

int device_open(int flags)
{
	int fd = open("/dev/tdxhost", flags);

	if (fd < 0)
		err(1, "/dev/tdxhost");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 3)
		errx(2, "usage: calls replay FILE | drain LIMIT | race SECONDS");
	pin();
	if (!strcmp(argv[1], "replay"))
		return replay(argv[2]);
	if (!strcmp(argv[1], "drain"))
		return drain(atol(argv[2]));
	if (!strcmp(argv[1], "race"))
		return race(atol(argv[2]));
	errx(2, "no such command: %s", argv[1]);
}
