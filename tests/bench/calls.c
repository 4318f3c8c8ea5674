// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Times calls of /dev/tdxhost, where there is one, and sweeps over CPUs: NAME NS for each, NS being
 * of one call or of one CPU.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/tdxhost.h>

#define CALLS 2000
#define ROUNDS 40

static int device;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void call_getppid(void)
{
	syscall(SYS_getppid);
}

/* A number that the driver does not have: what a call costs before it gets there. */
static void call_unknown(void)
{
	if (ioctl(device, _IO(TDXHOST_IOCTL_TYPE, 0xff), 0) != -1)
		exit(1);
}

static void call_get_status(void)
{
	struct tdxhost_status status = { .size = sizeof(status) };

	if (ioctl(device, TDXHOST_GET_STATUS, &status))
		exit(1);
}

static void call_cpu_enable(void)
{
	struct tdxhost_cpu_result result;
	struct tdxhost_cpu_enable enable = {
		.size = sizeof(enable),
		.result = (uintptr_t)&result,
		.entry_size = sizeof(result),
	};

	if (ioctl(device, TDXHOST_CPU_ENABLE, &enable) || result.error)
		exit(1);
}

struct timed {
	const char *name;
	void (*call)(void);
	uint64_t least_ns;
};

static uint64_t took_ns(void (*call)(void))
{
	uint64_t begun = now_ns();

	for (int i = 0; i < CALLS; i++)
		call();
	return now_ns() - begun;
}

/* All of them in each round; of rounds the least counts: what else runs only adds. */
static void measure_calls(void)
{
	struct timed all[] = {
		{ "getppid", call_getppid, UINT64_MAX },
		{ "unknown", call_unknown, UINT64_MAX },
		{ "get_status", call_get_status, UINT64_MAX },
		{ "cpu_enable", call_cpu_enable, UINT64_MAX },
	};
	const int count = sizeof(all) / sizeof(all[0]);

	for (int round = 0; round < ROUNDS; round++)
		for (int i = 0; i < count; i++) {
			uint64_t took = took_ns(all[i].call);

			all[i].least_ns = took < all[i].least_ns ? took : all[i].least_ns;
		}
	for (int i = 0; i < count; i++)
		printf("%s %llu\n", all[i].name, (unsigned long long)(all[i].least_ns / CALLS));
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		exit(1);
}

static void pin_and_enable(int cpu)
{
	pin(cpu);
	call_cpu_enable();
}

static void measure_sweep(const char *name, void (*visit)(int cpu))
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t least = UINT64_MAX;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begun = now_ns(), took;

		for (int cpu = 0; cpu < cpus; cpu++)
			visit(cpu);
		took = now_ns() - begun;
		least = took < least ? took : least;
	}
	printf("%s %llu\n", name, (unsigned long long)(least / cpus));
}

int main(void)
{
	measure_sweep("pin", pin);
	device = open("/dev/tdxhost", O_RDWR | O_CLOEXEC);
	if (device < 0)
		return 0;
	measure_calls();
	measure_sweep("sweep", pin_and_enable);
	return 0;
}
