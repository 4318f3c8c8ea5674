// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provider "direct": TDH.SYS.TDMR.INIT, of all TDMRs side by side.
 *
 * The TDX module locks the TDMR and nothing else (TDX module ABI spec,
 * TDH.SYS.TDMR.INIT), so each TDMR is a chain of SEAMCALLs of its own. A worker takes
 * one TDMR after the other, on a CPU that is near to it: what it initialises is a PAMT
 * in that node's memory.
 */
#include <linux/cpumask.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/sizes.h>
#include <linux/smp.h>
#include <linux/topology.h>

#include "direct.h"
#include "direct_crew.h"
#include "seamcall.h"
#include "tdxhost.h"

/* What all workers share. */
struct job {
	struct crew crew;
	struct tdmr *tdmrs;
	u32 nr_tdmrs;
	/* Protects what follows, and who has taken which TDMR. */
	struct mutex lock;
	u64 gib_done;
	u64 gib;
	struct tdxhost_step_result *result;
	int ret;
};

/* CPUs without a worker. Written by tdx_enable() alone, one at a time. */
static struct cpumask free_cpus;

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
static struct tdmr *take(struct job *job, int node)
{
	struct tdmr *tdmr = NULL;
	u32 i;

	mutex_lock(&job->lock);
	i = find_largest(job, node);
	if (i == job->nr_tdmrs)
		i = find_largest(job, NUMA_NO_NODE);
	if (i < job->nr_tdmrs && !crew_is_stopped(&job->crew)) {
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
			crew_stop(&job->crew);
	}
	result->chain_ns = chain_ns;
	mutex_unlock(&job->lock);
}

static void init_tdmr(struct job *job, struct tdmr *tdmr)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_TDMR_INIT, .in.rcx = tdmr->base };

	while (bytes_left(tdmr) && !crew_is_stopped(&job->crew)) {
		if (!tdxhost_seamcall_stretch(&call, tdmr->base + tdmr->size))
			advance(job, tdmr, bytes_done(&call, tdmr));
		else if (!tdxhost_wait_again(call.again))
			break;
		cond_resched();
	}
	account(job, &call);
}

static void init_some(struct crew *crew)
{
	struct job *job = container_of(crew, struct job, crew);
	int node = cpu_to_node(raw_smp_processor_id());
	struct tdmr *tdmr;

	while ((tdmr = take(job, node)))
		init_tdmr(job, tdmr);
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

	cpumask_clear(&free_cpus);
	for_each_online_cpu(cpu)
		if (tdxhost_cpu_enabled(cpu))
			cpumask_set_cpu(cpu, &free_cpus);
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
		cpumask_clear_cpu(cpu, &free_cpus);
		crew_send(&job->crew, cpu);
	}
	mutex_unlock(&job->lock);
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
		.result = result,
	};

	/* Nobody changes the TDMRs after TDH.SYS.CONFIG. */
	tdxhost_map_unlock();
	mutex_init(&job.lock);
	crew_gather(&job.crew, init_some);
	resume(&job);
	start(&job);
	crew_wait(&job.crew);
	mutex_destroy(&job.lock);
	return outcome(&job);
}
