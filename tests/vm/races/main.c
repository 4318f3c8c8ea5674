// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Calls /dev/tdxhost from many threads or processes at once.
 *
 * races rounds NAME=VALUE...    threads, in rounds
 * races kill NAME=VALUE...      processes, which are killed
 * races unload NAME=VALUE...    threads, while the driver goes and comes back
 *
 * The report is one line of JSON; what is wrong ends the program.
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "races.h"

/* No call takes so long. */
#define MOST_SILENCE_SECONDS 60

void fail(const struct caller *caller, const char *format, ...)
{
	char text[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	if (caller)
		dprintf(2, "races: caller %u, %s: %s\n", caller->number, kind_names[caller->kind],
			text);
	else
		dprintf(2, "races: %s\n", text);
	_exit(1);
}

uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014. */
uint64_t pick(uint64_t *random, uint64_t below)
{
	uint64_t mixed = *random += 0x9e3779b97f4a7c15ull;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ull;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebull;
	return below ? (mixed ^ mixed >> 31) % below : 0;
}

void pause_us(uint64_t us)
{
	struct timespec time = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };

	nanosleep(&time, NULL);
}

int device_open(void)
{
	int fd = open("/dev/tdxhost", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		err(1, "/dev/tdxhost");
	return fd;
}

void caller_init(struct race *race, unsigned int number)
{
	struct caller *caller = &race->callers[number];

	caller->race = race;
	caller->number = number;
	caller->random = race->seed + (uint64_t)(number + 1) * 0x100000001ull;
}

/* Ends a program that hangs, and says where. */
static void *watch(void *arg)
{
	struct race *race = arg;
	uint64_t before = 0;

	for (;;) {
		uint64_t made = race->counts.loads + race->counts.killed;

		sleep(MOST_SILENCE_SECONDS);
		for (unsigned int i = 0; i < MOST_CALLERS; i++) {
			made += race->callers[i].made;
			if (race->callers[i].kind)
				dprintf(2, "races: caller %u in %s\n", i,
					kind_names[race->callers[i].kind]);
		}
		if (made == before)
			fail(NULL, "nothing moves");
		before = made;
	}
}

static void set_mix(struct race *race, char *names)
{
	char *rest = NULL;

	for (char *name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
		enum kind kind = KIND_NONE + 1;

		while (kind < NR_KINDS && strcmp(kind_names[kind], name))
			kind++;
		if (kind == NR_KINDS || race->nr_mix == sizeof(race->mix) / sizeof(*race->mix))
			errx(2, "mix: %s", name);
		race->mix[race->nr_mix++] = kind;
	}
}

static bool set_number(struct race *race, const char *name, const char *value)
{
	const struct {
		const char *name;
		uint64_t *number;
	} numbers[] = {
		{ "seed", &race->seed },	     { "rounds", &race->rounds },
		{ "each", &race->each },	     { "callers", &race->nr_callers },
		{ "hotplug_us", &race->hotplug_us }, { "most_us", &race->most_us },
	};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		if (strcmp(numbers[i].name, name))
			continue;
		*numbers[i].number = strtoull(value, NULL, 0);
		return true;
	}
	return false;
}

static void set(struct race *race, char *word)
{
	char *value = strchr(word, '=');

	if (!value)
		errx(2, "%s has no value", word);
	*value++ = '\0';
	if (!strcmp(word, "mix"))
		set_mix(race, value);
	else if (!strcmp(word, "module"))
		race->module = value;
	else if (!strcmp(word, "numbered"))
		race->numbered = atoi(value);
	else if (!strcmp(word, "until_up"))
		race->until_up = atoi(value);
	else if (!set_number(race, word, value))
		errx(2, "%s is not known", word);
}

static void check_arguments(const struct race *race)
{
	if (!race->nr_mix || !race->rounds || !race->each || race->each > MOST_ANSWERS ||
	    !race->nr_callers || race->nr_callers >= MOST_CALLERS)
		errx(2, "mix, rounds, each and callers are needed");
	if (race->cpus > MOST_CPUS)
		errx(2, "more than %d CPUs", MOST_CPUS);
}

static void print_sums(struct race *race, const char *name, size_t offset, unsigned int nr,
		       const char *const *names)
{
	const char *comma = "";

	printf("\"%s\": {", name);
	for (unsigned int i = 0; i < nr; i++) {
		uint64_t sum = 0;

		for (unsigned int k = 0; k < MOST_CALLERS; k++)
			sum += *(uint64_t *)((char *)&race->callers[k] + offset + i * sizeof(sum));
		if (!sum)
			continue;
		if (names)
			printf("%s\"%s\": %lu", comma, names[i], sum);
		else
			printf("%s\"%u\": %lu", comma, i, sum);
		comma = ", ";
	}
	printf("}, ");
}

static void report(struct race *race)
{
	printf("{");
	print_sums(race, "calls", offsetof(struct caller, calls), NR_KINDS, kind_names);
	print_sums(race, "errnos", offsetof(struct caller, errnos), NR_ERRNOS, NULL);
	print_sums(race, "codes", offsetof(struct caller, codes), NR_CODES, NULL);
	printf("\"seed\": %lu, \"rounds\": %lu, ", race->seed, race->counts.rounds);
	printf("\"attempts\": %lu, \"shared\": %lu, ", race->counts.attempts, race->counts.shared);
	printf("\"offline\": %lu, \"online\": %lu, \"held\": %lu, ", race->counts.offline,
	       race->counts.online, race->counts.held);
	printf("\"killed\": %lu, \"inside\": %lu, ", race->counts.killed, race->counts.inside);
	printf("\"loads\": %lu, \"refused\": %lu, ", race->counts.loads, race->counts.refused);
	printf("\"opens\": %lu, \"gone\": %lu, ", race->counts.opens, race->counts.gone);
	printf("\"generation\": %lu, \"initialized\": %lu}\n", race->facts.generation,
	       race->facts.initialized);
}

/* Children have a share in it, so memory of the heap won't do. */
static struct race *make_race(void)
{
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (race == MAP_FAILED)
		err(1, "mmap");
	race->cpus = sysconf(_SC_NPROCESSORS_CONF);
	race->each = 1;
	return race;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(struct race *race);
	} commands[] = { { "rounds", rounds }, { "kill", kills }, { "unload", unload } };
	struct race *race = make_race();
	pthread_t watchdog;

	for (int i = 2; i < argc; i++)
		set(race, argv[i]);
	check_arguments(race);
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (argc < 2 || strcmp(argv[1], commands[i].name))
			continue;
		pthread_create(&watchdog, NULL, watch, race);
		commands[i].run(race);
		report(race);
		return 0;
	}
	errx(2, "usage: races rounds|kill|unload NAME=VALUE...");
}
