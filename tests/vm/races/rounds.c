// SPDX-License-Identifier: GPL-2.0-or-later
/* Rounds: all callers start at once, make some calls each, and wait for each other. */
#include <pthread.h>
#include <unistd.h>

#include "races.h"

static pthread_barrier_t barrier;

/* One caller looks at the answers while the others wait for the next round. */
static void end_round(struct race *race, uint64_t *floor)
{
	if (race->numbered)
		check_answers(race, floor);
	for (unsigned int i = 0; i < race->nr_callers; i++)
		race->callers[i].nr_answers = 0;
	race->counts.rounds++;
	if (race->counts.rounds == race->rounds || (race->until_up && race->facts.initialized))
		race->over = true;
}

static void *call_in_rounds(void *arg)
{
	struct caller *caller = arg;
	struct race *race = caller->race;
	uint64_t floor = 0;

	do {
		pthread_barrier_wait(&barrier);
		for (uint64_t i = 0; i < race->each; i++)
			call_random(caller);
		pthread_barrier_wait(&barrier);
		if (!caller->number)
			end_round(race, &floor);
		pthread_barrier_wait(&barrier);
	} while (!race->over);
	close(caller->fd);
	return NULL;
}

/* races rounds: many threads, in rounds */
void rounds(struct race *race)
{
	pthread_t threads[MOST_CALLERS];

	pthread_barrier_init(&barrier, NULL, race->nr_callers);
	for (unsigned int i = 0; i < race->nr_callers; i++) {
		caller_init(race, i);
		race->callers[i].fd = device_open();
	}
	hotplug_start(race);
	for (unsigned int i = 0; i < race->nr_callers; i++) {
		if (pthread_create(&threads[i], NULL, call_in_rounds, &race->callers[i]))
			fail(NULL, "no thread");
	}
	for (unsigned int i = 0; i < race->nr_callers; i++)
		pthread_join(threads[i], NULL);
	hotplug_stop(race);
}
