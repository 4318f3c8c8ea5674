// SPDX-License-Identifier: GPL-2.0-only
/* Provider "direct": the steps before memory is allocated, and how all is undone. */
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
int direct_no_layout(struct tdxhost_step_result *result, int error,
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
	const struct tdmr_memory memory = direct_memory_of(map);
	struct tdmr_misfit misfit = {};
	int ret = 0, nr;

	if (!tdmrs) {
		ret = tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
		goto out;
	}
	nr = tdmr_layout(tdmrs, &memory, limits, &misfit);
	if (nr < 0) {
		kvfree(tdmrs);
		ret = direct_no_layout(result, nr, &misfit);
		goto out;
	}
	map->tdmrs = tdmrs;
	map->nr_tdmrs = nr;
out:
	tdxhost_map_unlock();
	return ret;
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
