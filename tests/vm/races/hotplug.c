// SPDX-License-Identifier: GPL-2.0-or-later
/* A thread that takes CPUs offline and brings them back. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "races.h"

static pthread_t thread;

/* 0 or an errno. */
static int set_online(unsigned int cpu, bool online)
{
	char path[64];
	int fd, error;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online", cpu);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		fail(NULL, "%s can't be opened", path);
	error = write(fd, online ? "1" : "0", 1) == 1 ? 0 : errno;
	close(fd);
	return error;
}

static void change(struct race *race, unsigned int cpu, bool online)
{
	int error;

	race->facts.hotplug++;
	error = set_online(cpu, online);
	race->facts.hotplug++;
	/* A package that has no key yet keeps its last CPU. */
	if (error == EBUSY && !online)
		race->counts.held++;
	else if (error)
		fail(NULL, "CPU %u does not go %s: errno %d", cpu, online ? "online" : "offline",
		     error);
	else if (online)
		race->counts.online++;
	else
		race->counts.offline++;
}

/* One CPU or more are away all the time, and none for long. */
static void *come_and_go(void *arg)
{
	struct race *race = arg;
	uint64_t random = race->seed + 1, away = 0;

	while (!race->over) {
		unsigned int cpu = 1 + pick(&random, race->cpus - 1);
		uint64_t held = race->counts.held;

		change(race, cpu, away >> cpu & 1);
		if (race->counts.held == held)
			away ^= 1ull << cpu;
		pause_us(pick(&random, 2 * race->hotplug_us));
	}
	for (unsigned int cpu = 1; cpu < race->cpus; cpu++)
		if (away >> cpu & 1)
			change(race, cpu, true);
	return NULL;
}

void hotplug_start(struct race *race)
{
	if (race->hotplug_us && pthread_create(&thread, NULL, come_and_go, race))
		fail(NULL, "no thread");
}

void hotplug_stop(struct race *race)
{
	race->over = true;
	if (race->hotplug_us)
		pthread_join(thread, NULL);
}
