// SPDX-License-Identifier: GPL-2.0-only
/*
 * PAMTs of TDMRs: their sizes, their places, and the layout once they have places.
 *
 * PAMTs lie in memory that TDMRs cover, where each costs a reserved area. What that
 * does to the layout shows when they are allocated, and not before.
 */
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/minmax.h>
#include <linux/sizes.h>

#include "tdmr_internal.h"

#define PAMT_ALIGN SZ_4K

static const u64 pamt_page_bytes[TDMR_PAMTS] = {
	[TDMR_PAMT_4K] = SZ_4K,
	[TDMR_PAMT_2M] = SZ_2M,
	[TDMR_PAMT_1G] = SZ_1G,
};

/**
 * tdmr_pamt_bytes() - size of all PAMTs of a TDMR
 * @tdmr: from tdmr_layout() or tdmr_fit()
 *
 * Context: any.
 * Return: bytes, a multiple of 4 KiB.
 */
u64 tdmr_pamt_bytes(const struct tdmr *tdmr)
{
	return tdmr->pamt[TDMR_PAMT_4K].size + tdmr->pamt[TDMR_PAMT_2M].size +
	       tdmr->pamt[TDMR_PAMT_1G].size;
}

/**
 * tdmr_set_pamt_sizes() - work out how large the PAMTs of a TDMR are
 * @tdmr: the TDMR
 * @limits: what the TDX module wants
 *
 * Context: any.
 */
void tdmr_set_pamt_sizes(struct tdmr *tdmr, const struct tdmr_limits *limits)
{
	u32 level;

	for (level = 0; level < TDMR_PAMTS; level++) {
		u64 entries = tdmr->size / pamt_page_bytes[level];

		tdmr->pamt[level].base = 0;
		tdmr->pamt[level].size =
			ALIGN(entries * limits->pamt_entry_bytes[level], PAMT_ALIGN);
	}
}

/**
 * tdmr_place() - put the PAMTs of a TDMR one behind the other
 * @tdmr: from tdmr_layout()
 * @base: where the first one begins
 *
 * Context: any.
 * Return: the first byte behind the last one.
 */
u64 tdmr_place(struct tdmr *tdmr, u64 base)
{
	u32 level;

	for (level = 0; level < TDMR_PAMTS; level++) {
		tdmr->pamt[level].base = base;
		base += tdmr->pamt[level].size;
	}
	return base;
}

/**
 * tdmr_piece_bytes() - how much memory to get for the PAMTs of a TDMR
 * @tdmr: from tdmr_layout()
 * @nr_tdmrs: how many that found
 * @memory: as for tdmr_layout()
 * @limits: what the TDX module allows
 *
 * A TDMR that PAMTs may push over its limit of reserved areas has to be split, and
 * its parts have PAMTs of more bytes: each is rounded up to a page by itself. What
 * of it is not used can go back once tdmr_fit() is done.
 *
 * Context: any.
 * Return: bytes, a multiple of 4 KiB.
 */
u64 tdmr_piece_bytes(const struct tdmr *tdmr, u32 nr_tdmrs, const struct tdmr_memory *memory,
		     const struct tdmr_limits *limits)
{
	const struct tdmr_land land = { .cmrs = memory->cmrs, .nr_cmrs = memory->nr_cmrs };
	u32 areas = tdmr_count_areas(&land, tdmr->base, tdmr_end(tdmr));
	u64 splits = min(tdmr->size / TDMR_ALIGN - 1, (u64)limits->max_tdmrs - nr_tdmrs);

	/* No piece adds more than one area. */
	if (areas + nr_tdmrs <= tdmr_max_areas(limits))
		splits = 0;
	return tdmr_pamt_bytes(tdmr) + splits * TDMR_PAMTS * PAMT_ALIGN;
}

/**
 * tdmr_crowded() - find a GiB that has no reserved area left for a PAMT
 * @memory: as for tdmr_layout()
 * @limits: what the TDX module allows
 * @start: where a PAMT might begin
 * @end: where it would end
 *
 * Context: any.
 * Return: the base of the lowest such GiB that [start, end) touches, or @end.
 */
u64 tdmr_crowded(const struct tdmr_memory *memory, const struct tdmr_limits *limits, u64 start,
		 u64 end)
{
	const struct tdmr_land land = { .cmrs = memory->cmrs, .nr_cmrs = memory->nr_cmrs };
	u64 gib;

	for (gib = ALIGN_DOWN(start, TDMR_ALIGN); gib < end; gib += TDMR_ALIGN)
		if (tdmr_count_areas(&land, gib, gib + TDMR_ALIGN) >= tdmr_max_areas(limits))
			return gib;
	return end;
}

/**
 * tdmr_place_all() - put the PAMTs of all TDMRs into the pieces that they have
 * @tdmrs: the TDMRs; those that are parts of one share its piece
 * @nr_tdmrs: how many
 * @pieces: memory for PAMTs; @used is filled in, and may come out above @size
 * @nr_pieces: how many
 *
 * Context: any.
 */
void tdmr_place_all(struct tdmr *tdmrs, u32 nr_tdmrs, struct tdmr_piece *pieces, u32 nr_pieces)
{
	u32 i;

	for (i = 0; i < nr_pieces; i++)
		pieces[i].used = 0;
	for (i = 0; i < nr_tdmrs; i++) {
		struct tdmr_piece *piece = &pieces[tdmrs[i].piece];

		piece->used = tdmr_place(&tdmrs[i], piece->base + piece->used) - piece->base;
	}
}

/* End of the last GiB below @pos with memory in it. */
static u64 memory_until(const struct tdmr_memory *memory, u64 pos)
{
	u64 until = 0;
	u32 i;

	for (i = 0; i < memory->nr_regions && memory->regions[i].base < pos; i++)
		until = min(ALIGN(region_end(&memory->regions[i]), TDMR_ALIGN), pos);
	return until;
}

/* Start of the first GiB at or above @pos with memory in it; there is one. */
static u64 memory_from(const struct tdmr_memory *memory, u64 pos)
{
	u32 i = 0;

	while (region_end(&memory->regions[i]) <= pos)
		i++;
	return max(ALIGN_DOWN(memory->regions[i].base, TDMR_ALIGN), pos);
}

/**
 * tdmr_split() - make two TDMRs out of one
 * @tdmrs: room for one more
 * @nr_tdmrs: how many there are before
 * @first: index of the one to split
 * @cut: a GiB border inside of it; no part gets what has no memory at the cut
 * @memory: as for tdmr_layout()
 * @limits: what the TDX module allows
 *
 * PAMTs have their sizes afterwards, and no places.
 *
 * Context: any.
 */
void tdmr_split(struct tdmr *tdmrs, u32 nr_tdmrs, u32 first, u64 cut,
		const struct tdmr_memory *memory, const struct tdmr_limits *limits)
{
	u64 end = tdmr_end(&tdmrs[first]);
	u32 i;

	for (i = nr_tdmrs; i > first; i--)
		tdmrs[i] = tdmrs[i - 1];
	tdmrs[first].size = memory_until(memory, cut) - tdmrs[first].base;
	tdmrs[first + 1].base = memory_from(memory, cut);
	tdmrs[first + 1].size = end - tdmrs[first + 1].base;
	tdmr_set_pamt_sizes(&tdmrs[first], limits);
	tdmr_set_pamt_sizes(&tdmrs[first + 1], limits);
}

static int no_tdmr_left(const struct tdmr *tdmr, u32 nr_tdmrs, struct tdmr_misfit *misfit)
{
	*misfit = (struct tdmr_misfit){
		.base = tdmr->base,
		.size = tdmr->size,
		.needed = nr_tdmrs + 1,
		.limit = nr_tdmrs,
	};
	return -E2BIG;
}

/**
 * tdmr_fit() - find the reserved areas, and split TDMRs that would need too many
 * @tdmrs: from tdmr_layout(), in the same array
 * @pieces: for each TDMR the memory for its PAMTs, of tdmr_piece_bytes() at least;
 *	its @used is filled in
 * @nr_pieces: how many TDMRs tdmr_layout() found
 * @memory: as for tdmr_layout()
 * @limits: what the TDX module allows
 * @misfit: filled on failure
 *
 * A TDMR is split at a GiB border, and the parts get their PAMTs from its piece. What
 * is used of the piece then changes, and with it the holes of any TDMR: all of them
 * are looked at again.
 *
 * Context: any.
 * Return: number of TDMRs; -E2BIG when a TDMR has to be split and there is none
 * left; -ENOSPC when a GiB has more holes than a TDMR can have reserved areas.
 */
int tdmr_fit(struct tdmr *tdmrs, struct tdmr_piece *pieces, u32 nr_pieces,
	     const struct tdmr_memory *memory, const struct tdmr_limits *limits,
	     struct tdmr_misfit *misfit)
{
	const struct tdmr_land land = { pieces, nr_pieces, memory->cmrs, memory->nr_cmrs };
	u32 nr = nr_pieces, i = 0;

	tdmr_place_all(tdmrs, nr, pieces, nr_pieces);
	while (i < nr) {
		u64 cut = tdmr_reach(&land, tdmrs[i].base, limits);

		if (tdmr_end(&tdmrs[i]) <= cut) {
			i++;
			continue;
		}
		if (cut == tdmrs[i].base)
			return tdmr_gib_misfit(&land, cut, limits, misfit);
		if (nr == limits->max_tdmrs)
			return no_tdmr_left(&tdmrs[i], nr, misfit);
		tdmr_split(tdmrs, nr++, i, cut, memory, limits);
		tdmr_place_all(tdmrs, nr, pieces, nr_pieces);
		i = 0;
	}
	for (i = 0; i < nr; i++)
		tdmr_reserve(&land, &tdmrs[i]);
	return nr;
}
