// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provider "direct": memory for PAMTs, from all nodes side by side.
 *
 * What it takes depends on the memory that has to be looked through, and on a kernel that
 * clears what it allocates on that too: hundreds of GiB on the largest hosts.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/nodemask.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/topology.h>

#include "direct.h"
#include "direct_crew.h"
#include "tdxhost.h"

/* What all share who allocate. */
struct job {
	struct crew crew;
	struct tdxhost_map *map;
	struct tdmr_memory memory;
	/* Nodes whose TDMRs a member of the crew takes care of: it runs there. */
	nodemask_t served;
	/* Protects what follows. */
	struct mutex lock;
	u32 nr_done;
	/* The first TDMR without room for its PAMTs. */
	const struct tdmr *without;
};

/* Publishes a piece, and where in it the PAMTs of its TDMR are so far. */
static void add_piece(struct job *job, u32 i, const struct tdmr_piece *piece)
{
	struct tdxhost_map *map = job->map;

	tdxhost_map_lock();
	tdmr_place(&map->tdmrs[i], piece->base);
	map->pieces[i] = *piece;
	map->pamt_bytes += piece->size;
	tdxhost_status_pamt(map->pamt_bytes);
	tdxhost_map_unlock();

	mutex_lock(&job->lock);
	tdxhost_status_progress(++job->nr_done, map->nr_tdmrs);
	mutex_unlock(&job->lock);
}

static void no_piece(struct job *job, const struct tdmr *tdmr)
{
	mutex_lock(&job->lock);
	if (!job->without || tdmr < job->without)
		job->without = tdmr;
	mutex_unlock(&job->lock);
	crew_stop(&job->crew);
}

static int alloc_bytes(struct job *job, struct tdmr_piece *piece, u64 bytes, int node)
{
	return tdxhost_pamt_alloc(piece, bytes, node, &job->memory, &job->map->metadata.limits,
				  &job->crew.stop);
}

/* Nobody else has this TDMR in hand, so it is read without the map's lock. */
static void alloc_piece(struct job *job, u32 i)
{
	const struct tdxhost_map *map = job->map;
	const struct tdmr_limits *limits = &map->metadata.limits;
	const struct tdmr *tdmr = &map->tdmrs[i];
	u64 bytes = tdmr_piece_bytes(tdmr, map->nr_tdmrs, &job->memory, limits);
	u64 more = tdmr_spread_bytes(tdmr, map->nr_tdmrs, limits);
	struct tdmr_piece piece;
	int ret = alloc_bytes(job, &piece, bytes + more, tdmr->node);

	if (ret == -ENOMEM && more)
		ret = alloc_bytes(job, &piece, bytes, tdmr->node);
	if (!ret)
		add_piece(job, i, &piece);
	else if (ret == -ENOMEM)
		no_piece(job, tdmr);
	else
		crew_stop(&job->crew);
}

static bool is_served(const struct job *job, int node)
{
	return node != NUMA_NO_NODE && node_isset(node, job->served);
}

/* Those of a node, or with NUMA_NO_NODE all that no member takes care of. */
static void alloc_pieces_of(struct job *job, int node)
{
	const struct tdxhost_map *map = job->map;
	u32 i;

	for (i = 0; i < map->nr_tdmrs && !crew_is_stopped(&job->crew); i++) {
		int its = map->tdmrs[i].node;

		if (node == NUMA_NO_NODE ? !is_served(job, its) : its == node)
			alloc_piece(job, i);
	}
}

static void alloc_some(struct crew *crew)
{
	alloc_pieces_of(container_of(crew, struct job, crew), numa_node_id());
}

static unsigned int online_cpu_of(int node)
{
	return cpumask_any_and(cpumask_of_node(node), cpu_online_mask);
}

/* A member for each node that has TDMRs and a CPU; the caller's own is left to it. */
static void send_to_nodes(struct job *job)
{
	int node, here = numa_node_id();
	u32 i;

	for (i = 0; i < job->map->nr_tdmrs; i++) {
		node = job->map->tdmrs[i].node;
		if (node != NUMA_NO_NODE && node != here && online_cpu_of(node) < nr_cpu_ids)
			node_set(node, job->served);
	}
	for_each_node_mask(node, job->served)
		crew_send(&job->crew, online_cpu_of(node));
}

static int no_room(struct tdxhost_step_result *result, const struct tdmr *tdmr)
{
	result->base_pa = tdmr->base;
	result->bytes = tdmr->size;
	result->needed = tdmr_pamt_bytes(tdmr);
	pr_err("no %llu contiguous bytes for the PAMTs of TDMR [%#llx, %#llx)\n", result->needed,
	       tdmr->base, tdmr->base + tdmr->size);
	return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
}

static int alloc_pieces(struct tdxhost_map *map, struct tdxhost_step_result *result)
{
	struct job job = { .map = map, .memory = direct_memory_of(map) };

	map->pieces = kvcalloc(map->nr_tdmrs, sizeof(*map->pieces), GFP_KERNEL);
	if (!map->pieces)
		return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
	map->nr_pieces = map->nr_tdmrs;
	mutex_init(&job.lock);
	crew_gather(&job.crew, alloc_some);
	send_to_nodes(&job);
	alloc_pieces_of(&job, NUMA_NO_NODE);
	crew_wait(&job.crew);
	mutex_destroy(&job.lock);
	if (job.without)
		return no_room(result, job.without);
	if (job.nr_done < map->nr_tdmrs)
		return tdxhost_step_fail(result, TDXHOST_CODE_INTERRUPTED, TDXHOST_NONE);
	return 0;
}

/* map_lock is held */
static void trim_pieces(struct tdxhost_map *map)
{
	u32 i;

	map->pamt_bytes = 0;
	for (i = 0; i < map->nr_pieces; i++) {
		tdxhost_pamt_trim(&map->pieces[i]);
		map->pamt_bytes += map->pieces[i].size;
	}
	tdxhost_status_pamt(map->pamt_bytes);
}

static int fit_tdmrs(struct tdxhost_map *map, struct tdxhost_step_result *result)
{
	const struct tdmr_limits *limits = &map->metadata.limits;
	const struct tdmr_memory memory = direct_memory_of(map);
	struct tdmr_misfit misfit = {};
	int nr;

	tdxhost_map_lock();
	nr = tdmr_fit(map->tdmrs, map->pieces, map->nr_pieces, &memory, limits, &misfit);
	if (nr > 0) {
		map->nr_tdmrs = tdmr_spread(map->tdmrs, nr, map->pieces, map->nr_pieces, &memory,
					    limits, num_online_cpus());
		trim_pieces(map);
	}
	tdxhost_map_unlock();
	return nr < 0 ? direct_no_layout(result, nr, &misfit) : 0;
}

/**
 * direct_alloc_pamts() - step 6: memory for PAMTs, which makes reserved areas
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_alloc_pamts(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	int ret;

	tdxhost_map_unlock();
	ret = alloc_pieces(map, result);
	return ret ? ret : fit_tdmrs(map, result);
}
