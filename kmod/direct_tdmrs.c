// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provider "direct": TDH.SYS.TDMR.INIT, of all TDMRs side by side.
 *
 * The TDX module locks the TDMR and nothing else (TDX module ABI spec,
 * TDH.SYS.TDMR.INIT), so each TDMR is a chain of SEAMCALLs of its own. A worker takes
 * one TDMR after the other, on a CPU that is near to it: what it initialises is a PAMT
 * in that node's memory.
 */
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/topology.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "direct.h"
#include "seamcall.h"
#include "tdxhost.h"

/* What all workers share. */
struct job {
	struct tdmr *tdmrs;
	u32 nr_tdmrs;
	/* Set by whoever wants all workers to come to an end; read without lock. */
	bool stop;
	atomic_t working;
	struct completion over;
	/* Protects what follows, and who has taken which TDMR. */
	struct mutex lock;
	u64 gib_done;
	u64 gib;
	struct tdxhost_step_result *result;
	int ret;
};

struct worker {
	struct work_struct work;
	struct job *job;
	int node;
};

/*
 * Nothing is allocated: past TDH.SYS.CONFIG nothing should be able to fail but the TDX
 * module. Written by tdx_enable() alone, one at a time.
 */
static DEFINE_PER_CPU(struct worker, workers);
static struct cpumask working_cpus;
static struct cpumask free_cpus;

static struct workqueue_struct *queue;

static u64 bytes_left(const struct tdmr *tdmr)
{
	return tdmr->size - tdmr->done;
}

/* The largest first, or the last one to begin would keep everybody waiting. */
static u32 find_largest(const struct job *job, int node)
{
	u32 i, best = job->nr_tdmrs;

	lockdep_assert_held(&job->lock);

	for (i = 0; i < job->nr_tdmrs; i++) {
		const struct tdmr *tdmr = &job->tdmrs[i];

		if (tdmr->taken || (node != NUMA_NO_NODE && tdmr->node != node))
			continue;
		if (best == job->nr_tdmrs || bytes_left(tdmr) > bytes_left(&job->tdmrs[best]))
			best = i;
	}
	return best;
}

/* A TDMR of the worker's node while there is one, then any; NULL when there is none. */
static struct tdmr *take(const struct worker *worker)
{
	struct job *job = worker->job;
	struct tdmr *tdmr = NULL;
	u32 i;

	mutex_lock(&job->lock);
	i = find_largest(job, worker->node);
	if (i == job->nr_tdmrs)
		i = find_largest(job, NUMA_NO_NODE);
	if (i < job->nr_tdmrs && !job->stop) {
		tdmr = &job->tdmrs[i];
		tdmr->taken = true;
	}
	mutex_unlock(&job->lock);
	return tdmr;
}

/* Bytes of a TDMR that are initialised, going by the answer of the last call. */
static u64 bytes_done(const struct tdxhost_call *call, const struct tdmr *tdmr)
{
	if (tdxhost_status_code(call->status) == TDX_TDMR_ALREADY_INITIALIZED)
		return tdmr->size;
	return clamp(call->out.rdx, tdmr->base, tdmr->base + tdmr->size) - tdmr->base;
}

/* Whoever has taken a TDMR is the only one to change it. */
static void advance(struct job *job, struct tdmr *tdmr, u64 done)
{
	u64 gib = done / SZ_1G - tdmr->done / SZ_1G;

	tdmr->done = done;
	if (!gib)
		return;
	mutex_lock(&job->lock);
	job->gib_done += gib;
	tdxhost_status_progress(job->gib_done, job->gib);
	mutex_unlock(&job->lock);
}

/* What was called for one TDMR; the first failure is the step's, and ends it. */
static void account(struct job *job, const struct tdxhost_call *call)
{
	struct tdxhost_step_result *result = job->result;
	u64 chain_ns;

	mutex_lock(&job->lock);
	chain_ns = max(result->chain_ns, call->ns);
	if (job->ret) {
		result->seamcalls += call->calls;
		result->retries += call->retries;
	} else {
		job->ret = tdxhost_step_took(result, call);
		if (job->ret)
			WRITE_ONCE(job->stop, true);
	}
	result->chain_ns = chain_ns;
	mutex_unlock(&job->lock);
}

static void init_tdmr(struct job *job, struct tdmr *tdmr)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_TDMR_INIT, .in.rcx = tdmr->base };

	while (bytes_left(tdmr) && !READ_ONCE(job->stop) && !tdxhost_is_stopped()) {
		if (tdxhost_seamcall_stretch(&call, tdmr->base + tdmr->size))
			break;
		advance(job, tdmr, bytes_done(&call, tdmr));
		cond_resched();
	}
	account(job, &call);
}

static void init_some(struct work_struct *work)
{
	struct worker *worker = container_of(work, struct worker, work);
	struct job *job = worker->job;
	struct tdmr *tdmr;

	while ((tdmr = take(worker)))
		init_tdmr(job, tdmr);
	if (atomic_dec_and_test(&job->working))
		complete(&job->over);
}

/* A free CPU among some; of a core that is free as a whole, if there is one. */
static int pick_among(const struct cpumask *some)
{
	int cpu, first = nr_cpu_ids;

	for_each_cpu_and(cpu, some, &free_cpus) {
		if (cpumask_subset(topology_sibling_cpumask(cpu), &free_cpus))
			return cpu;
		first = min(first, cpu);
	}
	return first;
}

/* A free CPU of the node, if it has one, otherwise any. */
static int pick_cpu(int node)
{
	int cpu = nr_cpu_ids;

	if (node >= 0 && node < nr_node_ids)
		cpu = pick_among(cpumask_of_node(node));
	return cpu < nr_cpu_ids ? cpu : pick_among(cpu_online_mask);
}

static void find_free(void)
{
	int cpu;

	cpumask_clear(&working_cpus);
	cpumask_clear(&free_cpus);
	for_each_online_cpu(cpu)
		if (tdxhost_cpu_enabled(cpu))
			cpumask_set_cpu(cpu, &free_cpus);
}

static void start_on(struct job *job, int cpu)
{
	struct worker *worker = per_cpu_ptr(&workers, cpu);

	cpumask_clear_cpu(cpu, &free_cpus);
	cpumask_set_cpu(cpu, &working_cpus);
	*worker = (struct worker){ .job = job, .node = cpu_to_node(cpu) };
	INIT_WORK(&worker->work, init_some);
	atomic_inc(&job->working);
	queue_work_on(cpu, queue, &worker->work);
}

/* One worker for each TDMR that is left, but no two on a CPU. */
static void start(struct job *job)
{
	u32 i;

	find_free();
	/* None may take a TDMR before each has been counted. */
	mutex_lock(&job->lock);
	for (i = 0; i < job->nr_tdmrs; i++) {
		int cpu;

		if (job->tdmrs[i].taken)
			continue;
		cpu = pick_cpu(job->tdmrs[i].node);
		if (cpu >= nr_cpu_ids)
			break;
		start_on(job, cpu);
	}
	mutex_unlock(&job->lock);
}

static void wait_for(struct job *job)
{
	int cpu;

	if (atomic_dec_and_test(&job->working))
		complete(&job->over);
	if (wait_for_completion_interruptible(&job->over))
		WRITE_ONCE(job->stop, true);
	for_each_cpu(cpu, &working_cpus)
		flush_work(&per_cpu_ptr(&workers, cpu)->work);
}

/* What an earlier attempt has done counts as taken. */
static void resume(struct job *job)
{
	u32 i;

	for (i = 0; i < job->nr_tdmrs; i++) {
		struct tdmr *tdmr = &job->tdmrs[i];

		job->gib += tdmr->size / SZ_1G;
		job->gib_done += tdmr->done / SZ_1G;
		tdmr->taken = !bytes_left(tdmr);
	}
	tdxhost_status_progress(job->gib_done, job->gib);
}

static int outcome(const struct job *job)
{
	u32 i;

	if (job->ret)
		return job->ret;
	for (i = 0; i < job->nr_tdmrs; i++)
		if (bytes_left(&job->tdmrs[i]))
			return tdxhost_step_fail(job->result, TDXHOST_CODE_INTERRUPTED,
						 TDXHOST_NONE);
	return 0;
}

/**
 * direct_init_tdmrs() - step 10: let the TDX module initialise every PAMT
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_init_tdmrs(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	struct job job = {
		.tdmrs = map->tdmrs,
		.nr_tdmrs = map->nr_tdmrs,
		.working = ATOMIC_INIT(1),
		.result = result,
	};

	/* Nobody changes the TDMRs after TDH.SYS.CONFIG. */
	tdxhost_map_unlock();
	init_completion(&job.over);
	mutex_init(&job.lock);
	resume(&job);
	start(&job);
	wait_for(&job);
	mutex_destroy(&job.lock);
	return outcome(&job);
}

/**
 * direct_tdmrs_init() - get ready for direct_init_tdmrs()
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int direct_tdmrs_init(void)
{
	/* SEAMCALLs one after the other are no work that others should have to wait for. */
	queue = alloc_workqueue("tdxhost", WQ_CPU_INTENSIVE | TDXHOST_WQ_PERCPU, 0);
	return queue ? 0 : -ENOMEM;
}

/**
 * direct_tdmrs_exit() - undo direct_tdmrs_init()
 *
 * Context: task, may sleep.
 */
void direct_tdmrs_exit(void)
{
	destroy_workqueue(queue);
}
