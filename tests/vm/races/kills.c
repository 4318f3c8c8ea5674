// SPDX-License-Identifier: GPL-2.0-or-later
/* Processes that are killed while they are inside the driver. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "races.h"

/* Nothing that a killed process waits for takes so long. */
#define MOST_END_US 60000000

static void ignore(int number)
{
	(void)number;
}

/* Half of them die of SIGINT, the others are told EINTR and go on. */
static void handle_sigint(struct caller *caller)
{
	struct sigaction action = { .sa_handler = caller->number % 2 ? ignore : SIG_DFL };

	sigaction(SIGINT, &action, NULL);
}

static void call_for_ever(struct caller *caller)
{
	caller->interruptible = true;
	caller->fd = device_open();
	handle_sigint(caller);
	for (;;)
		call_random(caller);
}

static pid_t start(struct caller *caller)
{
	pid_t pid = fork();

	if (pid < 0)
		fail(NULL, "fork: %s", strerror(errno));
	if (!pid)
		call_for_ever(caller);
	return pid;
}

/* How the process ends, which has to be soon. */
static int await(struct caller *caller, pid_t pid)
{
	uint64_t until = now_ns() + MOST_END_US * 1000ull;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (now_ns() > until)
			fail(caller, "killed, and still there");
		pause_us(500);
	}
	return status;
}

static void end(struct race *race, struct caller *caller, pid_t pid)
{
	bool inside = caller->kind != KIND_NONE;
	int status;

	if (pick(&race->callers[MOST_CALLERS - 1].random, 2))
		kill(pid, SIGINT);
	pause_us(pick(&race->callers[MOST_CALLERS - 1].random, 500));
	kill(pid, SIGKILL);
	status = await(caller, pid);
	if (!WIFSIGNALED(status))
		fail(NULL, "a caller ended by itself: %#x", status);
	race->counts.killed++;
	race->counts.inside += inside;
}

/* races kill: in each round processes are started, and killed some time later */
void kills(struct race *race)
{
	uint64_t *random = &race->callers[MOST_CALLERS - 1].random;
	pid_t pids[MOST_CALLERS];

	for (unsigned int i = 0; i < race->nr_callers; i++)
		caller_init(race, i);
	caller_init(race, MOST_CALLERS - 1);
	hotplug_start(race);
	for (; race->counts.rounds < race->rounds; race->counts.rounds++) {
		for (unsigned int i = 0; i < race->nr_callers; i++)
			pids[i] = start(&race->callers[i]);
		pause_us(pick(random, race->most_us));
		for (unsigned int i = 0; i < race->nr_callers; i++)
			end(race, &race->callers[i], pids[i]);
	}
	hotplug_stop(race);
}
