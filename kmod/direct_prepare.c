// SPDX-License-Identifier: GPL-2.0-only
/* Provider "direct": the steps before TDH.SYS.CONFIG, all of which can be undone. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "compat.h"
#include "direct.h"
#include "seamcall.h"
#include "tdxhost.h"

/**
 * direct_find_memory() - step 4: which memory TDX can use
 * @result: of the step
 * @flags: with TDXHOST_ENABLE_SKIP_NON_CMR, RAM outside CMRs is no failure
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_find_memory(struct tdxhost_step_result *result, u32 flags)
{
	/* What comes online from here on would be missing in the TDMRs. */
	tdxhost_memory_hold(true);
	return tdxhost_memory_find(result, flags & TDXHOST_ENABLE_SKIP_NON_CMR);
}

static struct tdmr_memory memory_of(const struct tdxhost_map *map)
{
	return (struct tdmr_memory){
		.regions = map->tdx.list,
		.nr_regions = map->tdx.nr,
		.cmrs = map->metadata.cmrs,
		.nr_cmrs = map->metadata.nr_cmrs,
	};
}

static int too_many_tdmrs(struct tdxhost_step_result *result)
{
	if (result->bytes)
		pr_err("TDMR [%#llx, %#llx) has too many holes for one, and all %llu are in use\n",
		       result->base_pa, result->base_pa + result->bytes, result->limit);
	else
		pr_err("memory takes %llu TDMRs at least, and the TDX module has %llu\n",
		       result->needed, result->limit);
	return tdxhost_step_fail(result, TDXHOST_CODE_TOO_MANY_TDMRS, TDXHOST_NONE);
}

static int too_many_reserved(struct tdxhost_step_result *result)
{
	pr_err("memory at [%#llx, %#llx) takes %llu reserved areas, and a TDMR has %llu\n",
	       result->base_pa, result->base_pa + result->bytes, result->needed, result->limit);
	return tdxhost_step_fail(result, TDXHOST_CODE_TOO_MANY_RESERVED, TDXHOST_NONE);
}

/* @error: of tdmr_layout() or tdmr_fit() */
static int no_layout(struct tdxhost_step_result *result, int error,
		     const struct tdmr_misfit *misfit)
{
	result->base_pa = misfit->base;
	result->bytes = misfit->size;
	result->needed = misfit->needed;
	result->limit = misfit->limit;
	switch (error) {
	case -E2BIG:
		return too_many_tdmrs(result);
	case -ENOSPC:
		return too_many_reserved(result);
	default:
		return tdxhost_step_fail(result, TDXHOST_CODE_BAD_METADATA, TDXHOST_NONE);
	}
}

/**
 * direct_lay_out_tdmrs() - step 5: TDMRs over all TDX memory
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_lay_out_tdmrs(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	const struct tdmr_limits *limits = &map->metadata.limits;
	/* One more than there can be: tdmr_layout() wants it. */
	struct tdmr *tdmrs = kvcalloc(limits->max_tdmrs + 1UL, sizeof(*tdmrs), GFP_KERNEL);
	const struct tdmr_memory memory = memory_of(map);
	struct tdmr_misfit misfit = {};
	int ret = 0, nr;

	if (!tdmrs) {
		ret = tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
		goto out;
	}
	nr = tdmr_layout(tdmrs, &memory, limits, &misfit);
	if (nr < 0) {
		kvfree(tdmrs);
		ret = no_layout(result, nr, &misfit);
		goto out;
	}
	map->tdmrs = tdmrs;
	map->nr_tdmrs = nr;
out:
	tdxhost_map_unlock();
	return ret;
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

/* Publishes a piece, and where in it the PAMTs of its TDMR are so far. */
static void add_piece(struct tdxhost_map *map, const struct tdmr_piece *piece)
{
	tdxhost_map_lock();
	tdmr_place(&map->tdmrs[map->nr_pieces], piece->base);
	map->pieces[map->nr_pieces++] = *piece;
	map->pamt_bytes += piece->size;
	tdxhost_status_pamt(map->pamt_bytes);
	tdxhost_status_progress(map->nr_pieces, map->nr_tdmrs);
	tdxhost_map_unlock();
}

/* tdx_enable() alone changes the map, so it may be read without the lock. */
static int alloc_pieces(struct tdxhost_map *map, struct tdxhost_step_result *result)
{
	const struct tdmr_limits *limits = &map->metadata.limits;
	const struct tdmr_memory memory = memory_of(map);

	map->pieces = kvcalloc(map->nr_tdmrs, sizeof(*map->pieces), GFP_KERNEL);
	if (!map->pieces)
		return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
	while (map->nr_pieces < map->nr_tdmrs) {
		const struct tdmr *tdmr = &map->tdmrs[map->nr_pieces];
		u64 bytes = tdmr_piece_bytes(tdmr, map->nr_tdmrs, &memory, limits);
		u64 more = tdmr_spread_bytes(tdmr, map->nr_tdmrs, limits);
		struct tdmr_piece piece;
		int ret = -EINTR;

		if (!tdxhost_is_stopped())
			ret = tdxhost_pamt_alloc(&piece, bytes + more, tdmr->node, &memory, limits);
		if (ret == -ENOMEM && more)
			ret = tdxhost_pamt_alloc(&piece, bytes, tdmr->node, &memory, limits);
		if (ret == -EINTR)
			return tdxhost_step_fail(result, TDXHOST_CODE_INTERRUPTED, TDXHOST_NONE);
		if (ret)
			return no_room(result, tdmr);
		add_piece(map, &piece);
	}
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
	const struct tdmr_memory memory = memory_of(map);
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
	return nr < 0 ? no_layout(result, nr, &misfit) : 0;
}

/**
 * direct_alloc_pamts() - step 6: memory for PAMTs, which makes reserved areas
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep.
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

/**
 * direct_undo() - give back what the steps have allocated
 *
 * Context: task, may sleep. TDH.SYS.CONFIG has not succeeded.
 */
void direct_undo(void)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	u32 i;

	for (i = 0; i < map->nr_pieces; i++)
		tdxhost_pamt_free(&map->pieces[i]);
	tdxhost_map_unlock();
	tdxhost_map_forget_tdmrs();
	tdxhost_status_pamt(0);
	tdxhost_memory_hold(false);
}
