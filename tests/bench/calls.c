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
#define ROUNDS 15

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

/* The least of some rounds: what else runs only adds. */
static void measure(const char *name, void (*call)(void))
{
	uint64_t least = UINT64_MAX;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t begun = now_ns(), took;

		for (int i = 0; i < CALLS; i++)
			call();
		took = now_ns() - begun;
		least = took < least ? took : least;
	}
	printf("%s %llu\n", name, (unsigned long long)(least / CALLS));
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
	measure("getppid", call_getppid);
	measure("unknown", call_unknown);
	measure("get_status", call_get_status);
	measure("cpu_enable", call_cpu_enable);
	measure_sweep("sweep", pin_and_enable);
	return 0;
}
