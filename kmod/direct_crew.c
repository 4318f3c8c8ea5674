// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provider "direct": a crew for the work of a step that can be done side by side.
 *
 * Nothing is allocated for it but at load: past TDH.SYS.CONFIG nothing should be able to
 * fail but the TDX module. All is called by tdx_enable() alone, which has one crew at a time.
 */
#include <linux/cpumask.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "direct_crew.h"
#include "tdxhost.h"

struct member {
	struct work_struct work;
	struct crew *crew;
};

static DEFINE_PER_CPU(struct member, members);
static struct cpumask sent;

static struct workqueue_struct *queue;

static void leave(struct crew *crew)
{
	if (atomic_dec_and_test(&crew->working))
		complete(&crew->over);
}

static void work(struct work_struct *work)
{
	struct crew *crew = container_of(work, struct member, work)->crew;

	crew->run(crew);
	leave(crew);
}

/**
 * crew_gather() - begin with nobody but the caller
 * @crew: the crew
 * @run: what members do
 *
 * Context: task, may sleep.
 */
void crew_gather(struct crew *crew, void (*run)(struct crew *crew))
{
	*crew = (struct crew){ .run = run, .working = ATOMIC_INIT(1) };
	init_completion(&crew->over);
	cpumask_clear(&sent);
}

/**
 * crew_send() - let one more member begin
 * @crew: the crew
 * @cpu: an online CPU that none of them has been sent to
 *
 * Context: task, may sleep. CPU hotplug lock held until crew_wait() has returned.
 */
void crew_send(struct crew *crew, int cpu)
{
	struct member *member = per_cpu_ptr(&members, cpu);

	cpumask_set_cpu(cpu, &sent);
	member->crew = crew;
	INIT_WORK(&member->work, work);
	atomic_inc(&crew->working);
	queue_work_on(cpu, queue, &member->work);
}

/**
 * crew_wait() - wait until all members are done, once for each crew
 * @crew: the crew; stopped when a signal comes to the caller
 *
 * Context: task, may sleep.
 */
void crew_wait(struct crew *crew)
{
	int cpu;

	leave(crew);
	if (wait_for_completion_interruptible(&crew->over))
		crew_stop(crew);
	for_each_cpu(cpu, &sent)
		flush_work(&per_cpu_ptr(&members, cpu)->work);
}

/**
 * crew_stop() - let everybody come to an end
 * @crew: the crew
 *
 * Context: any.
 */
void crew_stop(struct crew *crew)
{
	WRITE_ONCE(crew->stop, true);
}

/**
 * crew_is_stopped() - whether a member, or the caller, is to come to an end
 * @crew: the crew
 *
 * Context: task.
 * Return: true once crew_stop() was called, a signal waits for the caller, or the machine goes
 * down.
 */
bool crew_is_stopped(const struct crew *crew)
{
	return READ_ONCE(crew->stop) || tdxhost_is_stopped();
}

/**
 * crew_init() - get ready for crews
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int crew_init(void)
{
	/* SEAMCALLs one after the other are no work that others should have to wait for. */
	queue = alloc_workqueue("tdxhost", WQ_CPU_INTENSIVE | TDXHOST_WQ_PERCPU, 0);
	return queue ? 0 : -ENOMEM;
}

/**
 * crew_exit() - undo crew_init()
 *
 * Context: task, may sleep.
 */
void crew_exit(void)
{
	destroy_workqueue(queue);
}
