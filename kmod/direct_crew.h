/* SPDX-License-Identifier: GPL-2.0-only */
/* Work of a step that several CPUs do side by side. */
#ifndef TDXHOST_DIRECT_CREW_H
#define TDXHOST_DIRECT_CREW_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/types.h>

/**
 * struct crew - those who do a step's work, besides the caller
 * @run: what each of them does, on the CPU that it was sent to; returns soon once @stop is set
 * @stop: set by whoever wants all to come to an end; read without lock
 * @working: members at work, and the caller until it waits for them
 * @over: nobody is at work any more
 */
struct crew {
	void (*run)(struct crew *crew);
	bool stop;
	atomic_t working;
	struct completion over;
};

void crew_gather(struct crew *crew, void (*run)(struct crew *crew));
void crew_send(struct crew *crew, int cpu);
void crew_wait(struct crew *crew);
void crew_stop(struct crew *crew);
bool crew_is_stopped(const struct crew *crew);

int crew_init(void);
void crew_exit(void);

#endif /* TDXHOST_DIRECT_CREW_H */
