// SPDX-License-Identifier: GPL-2.0-only
/*
 * What of a TDMR has to be reserved, by the rules of TDH.SYS.CONFIG: memory that
 * is not convertible (in no CMR), and PAMTs.
 *
 * What is not RAM but inside a CMR needs no reserved area. Firmware leaves dozens
 * of such holes below 4 GiB, more than there are reserved areas.
 */
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/limits.h>
#include <linux/minmax.h>

#include "tdmr_internal.h"

static u64 range_end(const struct tdmr_range *range)
{
	return range->base + range->size;
}

static bool range_has(const struct tdmr_range *range, u64 pos)
{
	return pos >= range->base && pos < range_end(range);
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

/* End of the piece in use that holds @pos, or @pos where none does. */
static u64 in_piece_until(const struct tdmr_land *land, u64 pos)
{
	u32 i;

	for (i = 0; i < land->nr_pieces; i++) {
		const struct tdmr_range used = { land->pieces[i].base, land->pieces[i].used };

		if (range_has(&used, pos))
			return range_end(&used);
	}
	return pos;
}

/* Start of the first piece above @pos. */
static u64 next_piece(const struct tdmr_land *land, u64 pos)
{
	u64 next = U64_MAX;
	u32 i;

	for (i = 0; i < land->nr_pieces; i++)
		if (land->pieces[i].base > pos)
			next = min(next, land->pieces[i].base);
	return next;
}

/* First usable byte at or above @pos: in a CMR and in no PAMT. */
static u64 next_usable(const struct tdmr_land *land, u64 pos, u64 end)
{
	while (pos < end) {
		u64 piece_end = in_piece_until(land, pos);

		if (piece_end == pos && in_cmr_until(land->cmrs, land->nr_cmrs, pos) > pos)
			return pos;
		pos = piece_end > pos ? piece_end : next_cmr(land->cmrs, land->nr_cmrs, pos);
	}
	return end;
}

/* First byte at or above @pos that is not usable. CMRs that touch count as one. */
static u64 next_unusable(const struct tdmr_land *land, u64 pos, u64 end)
{
	while (pos < end) {
		u64 cmr_end = in_cmr_until(land->cmrs, land->nr_cmrs, pos);

		if (cmr_end == pos || in_piece_until(land, pos) > pos)
			return pos;
		pos = min(cmr_end, next_piece(land, pos));
	}
	return end;
}

/* Finds the first reserved area that [pos, end) needs; false where it needs none. */
static bool next_area(const struct tdmr_land *land, u64 pos, u64 end, struct tdmr_range *area)
{
	area->base = next_unusable(land, pos, end);
	area->size = next_usable(land, area->base, end) - area->base;
	return area->size;
}

/**
 * tdmr_max_areas() - how many reserved areas a TDMR can have
 * @limits: what the TDX module allows
 *
 * Context: any.
 * Return: how many.
 */
u32 tdmr_max_areas(const struct tdmr_limits *limits)
{
	return min_t(u32, limits->max_reserved, TDMR_RESERVED_ROOM);
}

/**
 * tdmr_count_areas() - how many reserved areas a TDMR needs
 * @land: what decides it
 * @base: first byte of the TDMR
 * @end: first byte behind it
 *
 * Context: any.
 * Return: how many, each of them as long as possible.
 */
u32 tdmr_count_areas(const struct tdmr_land *land, u64 base, u64 end)
{
	struct tdmr_range area;
	u32 nr;

	for (nr = 0; next_area(land, base, end, &area); nr++)
		base = range_end(&area);
	return nr;
}

/**
 * tdmr_reach() - how far a TDMR can go
 * @land: what decides it
 * @base: first byte of the TDMR
 * @limits: what the TDX module allows
 *
 * Context: any.
 * Return: the highest end: there begins the GiB with one area too many. @base when
 * that is the TDMR's first GiB.
 */
u64 tdmr_reach(const struct tdmr_land *land, u64 base, const struct tdmr_limits *limits)
{
	u64 pos = base, top = ALIGN_DOWN(U64_MAX, TDMR_ALIGN);
	u32 left = tdmr_max_areas(limits);
	struct tdmr_range area;

	for (; next_area(land, pos, top, &area); left--) {
		if (!left)
			return ALIGN_DOWN(area.base, TDMR_ALIGN);
		pos = range_end(&area);
	}
	return top;
}

/**
 * tdmr_reserve() - write down the reserved areas of a TDMR
 * @land: what decides them
 * @tdmr: ends within its reach
 *
 * Context: any.
 */
void tdmr_reserve(const struct tdmr_land *land, struct tdmr *tdmr)
{
	u64 pos = tdmr->base;
	struct tdmr_range area;

	tdmr->nr_reserved = 0;
	while (next_area(land, pos, tdmr_end(tdmr), &area)) {
		tdmr->reserved[tdmr->nr_reserved++] = area;
		pos = range_end(&area);
	}
}

/**
 * tdmr_gib_misfit() - say that a GiB by itself needs too many reserved areas
 * @land: what decides it
 * @base: first byte of the GiB
 * @limits: what the TDX module allows
 * @misfit: filled
 *
 * Context: any.
 * Return: -ENOSPC.
 */
int tdmr_gib_misfit(const struct tdmr_land *land, u64 base, const struct tdmr_limits *limits,
		    struct tdmr_misfit *misfit)
{
	*misfit = (struct tdmr_misfit){
		.base = base,
		.size = TDMR_ALIGN,
		.needed = tdmr_count_areas(land, base, base + TDMR_ALIGN),
		.limit = tdmr_max_areas(limits),
	};
	return -ENOSPC;
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
	const struct tdmr_land land = { .cmrs = cmrs, .nr_cmrs = nr_cmrs };

	return start < end && next_area(&land, start, end, outside);
}
