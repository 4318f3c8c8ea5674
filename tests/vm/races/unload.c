// SPDX-License-Identifier: GPL-2.0-or-later
/* The driver goes and comes back while others open its device. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "races.h"

#define DRIVER "tdxhost"

/* How long openers leave the device alone, and the driver stays, so that both get their turn. */
#define PAUSE_US 30000

static pthread_mutex_t count_lock = PTHREAD_MUTEX_INITIALIZER;

static int try_open(void)
{
	int fd = open("/dev/" DRIVER, O_RDWR | O_CLOEXEC);

	if (fd < 0 && errno != ENOENT && errno != ENODEV && errno != ENXIO)
		fail(NULL, "open: %s", strerror(errno));
	return fd;
}

/* Each open is a driver of its own: what it knows is forgotten when it goes. */
static void *open_and_call(void *arg)
{
	struct caller *caller = arg;
	struct race *race = caller->race;

	while (!race->over) {
		caller->fd = try_open();
		pthread_mutex_lock(&count_lock);
		if (caller->fd < 0)
			race->counts.gone++;
		else
			race->counts.opens++;
		pthread_mutex_unlock(&count_lock);
		if (caller->fd >= 0) {
			call_random(caller);
			close(caller->fd);
		}
		pause_us(pick(&caller->random, PAUSE_US));
	}
	return NULL;
}

/* 0 or an errno. */
static int remove_driver(void)
{
	return syscall(SYS_delete_module, DRIVER, O_NONBLOCK) ? errno : 0;
}

static void load_driver(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		fail(NULL, "%s can't be loaded: %s", path, strerror(errno));
	close(fd);
}

static void unload_once(struct race *race, uint64_t *random)
{
	int fd = device_open(), error;

	if (remove_driver() != EWOULDBLOCK)
		fail(NULL, "removed while the device is open");
	close(fd);
	while ((error = remove_driver())) {
		if (error != EWOULDBLOCK)
			fail(NULL, "not removed: %s", strerror(error));
		race->counts.refused++;
		pause_us(100);
	}
	memset(&race->facts, 0, sizeof(race->facts));
	load_driver(race->module);
	race->counts.loads++;
	pause_us(pick(random, PAUSE_US));
}

/* races unload: threads open, call and close, while the driver is removed and loaded */
void unload(struct race *race)
{
	pthread_t threads[MOST_CALLERS];
	uint64_t random = race->seed;

	for (unsigned int i = 0; i < race->nr_callers; i++) {
		caller_init(race, i);
		if (pthread_create(&threads[i], NULL, open_and_call, &race->callers[i]))
			fail(NULL, "no thread");
	}
	for (; race->counts.rounds < race->rounds; race->counts.rounds++)
		unload_once(race, &random);
	race->over = true;
	for (unsigned int i = 0; i < race->nr_callers; i++)
		pthread_join(threads[i], NULL);
}
