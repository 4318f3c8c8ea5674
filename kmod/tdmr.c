// SPDX-License-Identifier: GPL-2.0-only
/*
 * Layout of TDMRs by the rules of TDH.SYS.CONFIG: TDMRs are ascending, disjoint
 * and 1 GiB aligned, and each has a limited number of reserved areas.
 *
 * Where there are too many holes for the reserved areas of one TDMR it takes more
 * TDMRs; where there are too many TDMRs, neighbours become one.
 */
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/limits.h>
#include <linux/minmax.h>

#include "tdmr_internal.h"

/* A list of TDMRs that grows. */
struct draft {
	/* Room for one more than max_tdmrs; of what is above that, the last alone is kept. */
	struct tdmr *tdmrs;
	u32 nr;
	/* As few TDMRs as can be, or one for each stretch of a node's memory. */
	bool fewest;
	const struct tdmr_land *land;
	const struct tdmr_limits *limits;
	struct tdmr_misfit *misfit;
};

static struct tdmr *last_tdmr(const struct draft *draft)
{
	return &draft->tdmrs[min(draft->nr, draft->limits->max_tdmrs + 1) - 1];
}

/* Takes the place of the first by both, and of the second by those behind it. */
static void merge(struct draft *draft, u32 first)
{
	struct tdmr *one = &draft->tdmrs[first];
	u32 i;

	if (one[1].size > one->size)
		one->node = one[1].node;
	one->size = tdmr_end(&one[1]) - one->base;
	draft->nr--;
	for (i = first + 1; i < draft->nr; i++)
		draft->tdmrs[i] = draft->tdmrs[i + 1];
}

/*
 * The gap between two TDMRs costs memory for its PAMT. Of equal gaps the one
 * between the smallest: PAMTs then stay near what they describe.
 */
static bool merge_cheapest(struct draft *draft)
{
	u64 least_gap = U64_MAX, least_size = U64_MAX;
	u32 i, best = draft->nr;

	for (i = 0; i + 1 < draft->nr; i++) {
		const struct tdmr *one = &draft->tdmrs[i], *next = one + 1;
		u64 gap = next->base - tdmr_end(one), size = tdmr_end(next) - one->base;

		if (tdmr_end(next) > one->reach || gap > least_gap ||
		    (gap == least_gap && size >= least_size))
			continue;
		least_gap = gap;
		least_size = size;
		best = i;
	}
	if (best == draft->nr)
		return false;
	merge(draft, best);
	return true;
}

static bool can_extend(const struct draft *draft, u64 start, int node)
{
	const struct tdmr *last;

	if (!draft->nr)
		return false;
	last = last_tdmr(draft);
	return start < last->reach &&
	       (draft->fewest || (start == tdmr_end(last) && node == last->node));
}

static int begin_tdmr(struct draft *draft, u64 base, int node)
{
	u64 end = tdmr_reach(draft->land, base, draft->limits);

	if (end == base)
		return tdmr_gib_misfit(draft->land, base, draft->limits, draft->misfit);
	if (!draft->fewest && draft->nr > draft->limits->max_tdmrs && !merge_cheapest(draft))
		return -E2BIG;
	draft->nr++;
	*last_tdmr(draft) = (struct tdmr){ .base = base, .reach = end, .node = node };
	return 0;
}

static int cover(struct draft *draft, u64 start, u64 end, int node)
{
	while (start < end) {
		int ret = can_extend(draft, start, node) ? 0 : begin_tdmr(draft, start, node);
		struct tdmr *last;

		if (ret)
			return ret;
		last = last_tdmr(draft);
		last->size = min(end, last->reach) - last->base;
		start = tdmr_end(last);
	}
	return 0;
}

/* Regions ascend, hold something, and leave room to be rounded up. */
static bool region_ok(const struct tdmr_region *region, u64 floor)
{
	return region->size && region->base >= floor && region_end(region) > region->base &&
	       region_end(region) <= U64_MAX - TDMR_ALIGN;
}

/*
 * A region that shares a GiB with the TDMR before it is covered by that as far
 * as it goes.
 */
static int cover_all(struct draft *draft, const struct tdmr_memory *memory)
{
	u64 covered = 0, floor = 0;
	u32 i;

	for (i = 0; i < memory->nr_regions; i++) {
		const struct tdmr_region *region = &memory->regions[i];
		u64 start = max(ALIGN_DOWN(region->base, TDMR_ALIGN), covered);
		u64 end = ALIGN(region_end(region), TDMR_ALIGN);
		int ret;

		if (!region_ok(region, floor))
			return -EINVAL;
		ret = cover(draft, start, end, region->node);
		if (ret)
			return ret;
		floor = region_end(region);
		covered = max(covered, end);
	}
	return 0;
}

/*
 * One TDMR for each stretch of a node's memory, or several where it has too many
 * holes. Merging leaves a quarter of the TDMRs for the holes that PAMTs make.
 */
static int lay_out_by_node(struct draft *draft, const struct tdmr_memory *memory)
{
	u32 max_tdmrs = draft->limits->max_tdmrs;
	int ret = cover_all(draft, memory);

	if (ret)
		return ret;
	while (draft->nr > max_tdmrs - max_tdmrs / 4)
		if (!merge_cheapest(draft))
			break;
	return draft->nr > max_tdmrs ? -E2BIG : 0;
}

/*
 * From the lowest address up, each TDMR as long as its holes allow. A TDMR that
 * ended earlier, or began earlier, would have no fewer holes and leave no less to
 * the next: no layout has fewer TDMRs.
 */
static int lay_out_fewest(struct draft *draft, const struct tdmr_memory *memory)
{
	u32 max_tdmrs = draft->limits->max_tdmrs;
	int ret;

	draft->nr = 0;
	draft->fewest = true;
	ret = cover_all(draft, memory);
	if (ret || draft->nr <= max_tdmrs)
		return ret;
	*draft->misfit = (struct tdmr_misfit){ .needed = draft->nr, .limit = max_tdmrs };
	return -E2BIG;
}

/**
 * tdmr_layout() - find TDMRs that cover all memory, and the sizes of their PAMTs
 * @tdmrs: room for one more TDMR than the TDX module allows; filled, ascending
 * @memory: what to cover, and where it can be used
 * @limits: what the TDX module allows
 * @misfit: filled on -E2BIG and -ENOSPC
 *
 * PAMTs are not there yet, so CMRs alone decide which holes a TDMR has. A layout
 * is found wherever there is one.
 *
 * Context: any.
 * Return: number of TDMRs; -E2BIG when any layout has more than the TDX module
 * allows; -ENOSPC when a GiB has more holes than a TDMR can have reserved areas;
 * -EINVAL when the regions of @memory are not as they have to be.
 */
int tdmr_layout(struct tdmr *tdmrs, const struct tdmr_memory *memory,
		const struct tdmr_limits *limits, struct tdmr_misfit *misfit)
{
	const struct tdmr_land land = { .cmrs = memory->cmrs, .nr_cmrs = memory->nr_cmrs };
	struct draft draft = {
		.tdmrs = tdmrs,
		.land = &land,
		.limits = limits,
		.misfit = misfit,
	};
	int ret = lay_out_by_node(&draft, memory);
	u32 i;

	if (ret == -E2BIG)
		ret = lay_out_fewest(&draft, memory);
	if (ret)
		return ret;
	for (i = 0; i < draft.nr; i++) {
		tdmr_set_pamt_sizes(&tdmrs[i], limits);
		tdmrs[i].piece = i;
	}
	return draft.nr;
}
