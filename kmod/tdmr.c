// SPDX-License-Identifier: GPL-2.0-only
/*
 * Layout of TDMRs by the rules of TDH.SYS.CONFIG: TDMRs are ascending, disjoint
 * and 1 GiB aligned; whatever of them is not reserved lies in convertible
 * memory (CMRs) and holds no PAMT.
 *
 * What is not RAM but inside a CMR needs no reserved area: only CMRs and PAMTs
 * count. Firmware leaves dozens of such holes below 4 GiB, more than there are
 * reserved areas.
 */
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/sizes.h>

#include "tdmr.h"

#define TDMR_ALIGN SZ_1G
#define PAMT_ALIGN SZ_4K

static const u64 pamt_page_bytes[TDMR_PAMTS] = {
	[TDMR_PAMT_4K] = SZ_4K,
	[TDMR_PAMT_2M] = SZ_2M,
	[TDMR_PAMT_1G] = SZ_1G,
};

/* Everything that decides which bytes of a TDMR are usable. */
struct landscape {
	const struct tdmr *tdmrs;
	u32 nr_tdmrs;
	const struct tdmr_range *cmrs;
	u32 nr_cmrs;
};

static u64 range_end(const struct tdmr_range *range)
{
	return range->base + range->size;
}

static bool range_has(const struct tdmr_range *range, u64 pos)
{
	return pos >= range->base && pos < range_end(range);
}

static u64 region_end(const struct tdmr_region *region)
{
	return region->base + region->size;
}

static u64 tdmr_end(const struct tdmr *tdmr)
{
	return tdmr->base + tdmr->size;
}

/* End of the CMR that holds @pos, or @pos where none does. */
static u64 in_cmr_until(const struct tdmr_range *cmrs, u32 nr_cmrs, u64 pos)
{
	u32 i;

	for (i = 0; i < nr_cmrs; i++)
		if (range_has(&cmrs[i], pos))
			return range_end(&cmrs[i]);
	return pos;
}

/* Start of the first CMR above @pos. */
static u64 next_cmr(const struct tdmr_range *cmrs, u32 nr_cmrs, u64 pos)
{
	u64 next = U64_MAX;
	u32 i;

	for (i = 0; i < nr_cmrs; i++)
		if (cmrs[i].size && cmrs[i].base > pos)
			next = min(next, cmrs[i].base);
	return next;
}

/* End of the PAMT that holds @pos, or @pos where none does. */
static u64 in_pamt_until(const struct landscape *land, u64 pos)
{
	u32 i, level;

	for (i = 0; i < land->nr_tdmrs; i++)
		for (level = 0; level < TDMR_PAMTS; level++)
			if (range_has(&land->tdmrs[i].pamt[level], pos))
				return range_end(&land->tdmrs[i].pamt[level]);
	return pos;
}

/* Start of the first PAMT above @pos. */
static u64 next_pamt(const struct landscape *land, u64 pos)
{
	u64 next = U64_MAX;
	u32 i, level;

	for (i = 0; i < land->nr_tdmrs; i++)
		for (level = 0; level < TDMR_PAMTS; level++)
			if (land->tdmrs[i].pamt[level].base > pos)
				next = min(next, land->tdmrs[i].pamt[level].base);
	return next;
}

/* First usable byte at or above @pos: in a CMR and in no PAMT. */
static u64 next_usable(const struct landscape *land, u64 pos, u64 end)
{
	while (pos < end) {
		u64 pamt_end = in_pamt_until(land, pos);

		if (pamt_end == pos && in_cmr_until(land->cmrs, land->nr_cmrs, pos) > pos)
			return pos;
		pos = pamt_end > pos ? pamt_end : next_cmr(land->cmrs, land->nr_cmrs, pos);
	}
	return end;
}

/* First byte at or above @pos that is not usable. CMRs that touch count as one. */
static u64 next_unusable(const struct landscape *land, u64 pos, u64 end)
{
	while (pos < end) {
		u64 cmr_end = in_cmr_until(land->cmrs, land->nr_cmrs, pos);

		if (cmr_end == pos || in_pamt_until(land, pos) > pos)
			return pos;
		pos = min(cmr_end, next_pamt(land, pos));
	}
	return end;
}

static int reserve_one(const struct landscape *land, struct tdmr *tdmr, u32 max_reserved)
{
	u64 end = tdmr_end(tdmr), pos = tdmr->base;

	tdmr->nr_reserved = 0;
	for (;;) {
		u64 start = next_unusable(land, pos, end);

		if (start == end)
			return 0;
		if (tdmr->nr_reserved == max_reserved)
			return -ENOSPC;
		pos = next_usable(land, start, end);
		tdmr->reserved[tdmr->nr_reserved].base = start;
		tdmr->reserved[tdmr->nr_reserved].size = pos - start;
		tdmr->nr_reserved++;
	}
}

/**
 * tdmr_reserve() - find the reserved areas of every TDMR
 * @tdmrs: from tdmr_layout(), with the addresses of all PAMTs filled in
 * @nr_tdmrs: how many
 * @cmrs: convertible memory as the TDX module lists it, empty entries included
 * @nr_cmrs: how many
 * @limits: what the TDX module allows
 *
 * The areas are as few as can be: every one is as long as possible.
 *
 * Context: any.
 * Return: 0, or -ENOSPC when a TDMR needs more than the TDX module allows.
 */
int tdmr_reserve(struct tdmr *tdmrs, u32 nr_tdmrs, const struct tdmr_range *cmrs, u32 nr_cmrs,
		 const struct tdmr_limits *limits)
{
	const struct landscape land = { tdmrs, nr_tdmrs, cmrs, nr_cmrs };
	u32 max_reserved = min_t(u32, limits->max_reserved, TDMR_RESERVED_ROOM);
	u32 i;

	for (i = 0; i < nr_tdmrs; i++) {
		int ret = reserve_one(&land, &tdmrs[i], max_reserved);

		if (ret)
			return ret;
	}
	return 0;
}

/**
 * tdmr_next_outside() - find memory that no CMR holds
 * @cmrs: convertible memory as the TDX module lists it, empty entries included
 * @nr_cmrs: how many
 * @start: where to begin
 * @end: where to stop
 * @outside: the first range of [start, end) that is in no CMR
 *
 * Context: any.
 * Return: 1 when there is such a range, 0 when there is none.
 */
int tdmr_next_outside(const struct tdmr_range *cmrs, u32 nr_cmrs, u64 start, u64 end,
		      struct tdmr_range *outside)
{
	while (start < end) {
		u64 cmr_end = in_cmr_until(cmrs, nr_cmrs, start);

		if (cmr_end == start) {
			outside->base = start;
			outside->size = min(next_cmr(cmrs, nr_cmrs, start), end) - start;
			return 1;
		}
		start = cmr_end;
	}
	return 0;
}

/**
 * tdmr_pamt_bytes() - size of all PAMTs of a TDMR
 * @tdmr: from tdmr_layout()
 *
 * Context: any.
 * Return: bytes, a multiple of 4 KiB.
 */
u64 tdmr_pamt_bytes(const struct tdmr *tdmr)
{
	return tdmr->pamt[TDMR_PAMT_4K].size + tdmr->pamt[TDMR_PAMT_2M].size +
	       tdmr->pamt[TDMR_PAMT_1G].size;
}

static void set_pamt_sizes(struct tdmr *tdmr, const struct tdmr_limits *limits)
{
	u32 level;

	for (level = 0; level < TDMR_PAMTS; level++) {
		u64 entries = tdmr->size / pamt_page_bytes[level];

		tdmr->pamt[level].base = 0;
		tdmr->pamt[level].size =
			ALIGN(entries * limits->pamt_entry_bytes[level], PAMT_ALIGN);
	}
}

/* Regions ascend, hold something, and leave room to be rounded up. */
static bool region_ok(const struct tdmr_region *region, u64 floor)
{
	return region->size && region->base >= floor && region_end(region) > region->base &&
	       region_end(region) <= U64_MAX - TDMR_ALIGN;
}

/**
 * tdmr_layout() - find TDMRs that cover all memory, and the sizes of their PAMTs
 * @tdmrs: filled with the TDMRs, ascending
 * @room: entries of @tdmrs
 * @regions: memory to cover: ascending, disjoint
 * @nr_regions: how many
 * @limits: what the TDX module allows
 *
 * A region that shares a GiB with the TDMR before it is covered by that as far
 * as it goes; the rest gets a TDMR of its own, so that each has one node.
 *
 * Context: any.
 * Return: number of TDMRs; -E2BIG when the TDX module or @room allows fewer;
 * -EINVAL when @regions is not as it has to be.
 */
int tdmr_layout(struct tdmr *tdmrs, u32 room, const struct tdmr_region *regions, u32 nr_regions,
		const struct tdmr_limits *limits)
{
	u32 max_tdmrs = min(limits->max_tdmrs, room), nr = 0, i;
	u64 covered = 0, floor = 0;

	for (i = 0; i < nr_regions; i++) {
		u64 start = max(ALIGN_DOWN(regions[i].base, TDMR_ALIGN), covered);
		u64 end = ALIGN(region_end(&regions[i]), TDMR_ALIGN);

		if (!region_ok(&regions[i], floor))
			return -EINVAL;
		floor = region_end(&regions[i]);
		if (end <= covered)
			continue;
		if (nr == max_tdmrs)
			return -E2BIG;
		tdmrs[nr] = (struct tdmr){
			.base = start,
			.size = end - start,
			.node = regions[i].node,
		};
		set_pamt_sizes(&tdmrs[nr++], limits);
		covered = end;
	}
	return nr;
}
