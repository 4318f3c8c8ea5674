// SPDX-License-Identifier: GPL-2.0-only
/*
 * Smaller TDMRs, where a layout has room for them: each is initialised by itself, so
 * the largest is what all of it takes.
 */
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/sizes.h>

#include "tdmr_internal.h"

/* The others are kept for holes that nobody knows of yet, as in the layout by node. */
static u32 most_tdmrs(const struct tdmr_limits *limits)
{
	return limits->max_tdmrs - limits->max_tdmrs / 4;
}

static u64 count_parts(const struct tdmr *tdmrs, u32 nr_tdmrs, u64 size)
{
	u64 parts = 0;
	u32 i;

	for (i = 0; i < nr_tdmrs; i++)
		parts += DIV_ROUND_UP(tdmrs[i].size, size);
	return parts;
}

/* The size at which each worker has as much to do, or the next one that has few enough parts. */
static u64 size_of_parts(const struct tdmr *tdmrs, u32 nr_tdmrs, u32 nr_workers, u32 most)
{
	u64 size = DIV_ROUND_UP(count_parts(tdmrs, nr_tdmrs, TDMR_ALIGN), nr_workers) * TDMR_ALIGN;

	while (count_parts(tdmrs, nr_tdmrs, size) > most)
		size += TDMR_ALIGN;
	return size;
}

static bool fits(const struct tdmr *tdmrs, u32 nr_tdmrs, const struct tdmr_land *land,
		 const struct tdmr_limits *limits)
{
	u32 i;

	for (i = 0; i < land->nr_pieces; i++)
		if (land->pieces[i].used > land->pieces[i].size)
			return false;
	for (i = 0; i < nr_tdmrs; i++)
		if (tdmr_reach(land, tdmrs[i].base, limits) < tdmr_end(&tdmrs[i]))
			return false;
	return true;
}

/* Takes back a split of which @size is what the TDMR was. */
static void join(struct tdmr *tdmrs, u32 nr_tdmrs, u32 first, u64 size,
		 const struct tdmr_limits *limits)
{
	u32 i;

	tdmrs[first].size = size;
	tdmr_set_pamt_sizes(&tdmrs[first], limits);
	for (i = first + 1; i < nr_tdmrs; i++)
		tdmrs[i] = tdmrs[i + 1];
}

/**
 * tdmr_spread_bytes() - how much more memory to get for the PAMTs of a TDMR
 * @tdmr: from tdmr_layout()
 * @nr_tdmrs: how many that found
 * @limits: what the TDX module allows
 *
 * PAMTs of parts are rounded up to a page each. What of it is not used can go back; without it
 * tdmr_spread() splits less.
 *
 * Context: any.
 * Return: bytes, a multiple of 4 KiB.
 */
u64 tdmr_spread_bytes(const struct tdmr *tdmr, u32 nr_tdmrs, const struct tdmr_limits *limits)
{
	u64 most = most_tdmrs(limits);
	u64 splits = most > nr_tdmrs ? min(tdmr->size / TDMR_ALIGN - 1, most - nr_tdmrs) : 0;

	return splits * TDMR_PAMTS * SZ_4K;
}

/**
 * tdmr_spread() - split large TDMRs, for workers that initialise them side by side
 * @tdmrs: from tdmr_fit(), in the same array
 * @nr_tdmrs: how many that found
 * @pieces: as for tdmr_fit(); @used changes with what parts need more
 * @nr_pieces: how many
 * @memory: as for tdmr_layout()
 * @limits: what the TDX module allows
 * @nr_workers: how many TDMRs can be initialised at a time
 *
 * No TDMR comes out larger than a worker's share of all, as far as the TDX module has TDMRs,
 * of which a quarter stays unused. A part costs the page that its PAMT_1G is rounded up to,
 * and nothing else; a split that would cost a layout that fits is left out.
 *
 * Context: any.
 * Return: number of TDMRs.
 */
u32 tdmr_spread(struct tdmr *tdmrs, u32 nr_tdmrs, struct tdmr_piece *pieces, u32 nr_pieces,
		const struct tdmr_memory *memory, const struct tdmr_limits *limits, u32 nr_workers)
{
	const struct tdmr_land land = { pieces, nr_pieces, memory->cmrs, memory->nr_cmrs };
	u32 i, most = most_tdmrs(limits), nr = nr_tdmrs;
	u64 goal;

	if (nr >= most)
		return nr;
	goal = size_of_parts(tdmrs, nr, nr_workers, most);
	for (i = 0; i < nr && nr < most; i++) {
		u64 size = tdmrs[i].size, parts = DIV_ROUND_UP(size, goal);

		if (parts == 1)
			continue;
		tdmr_split(tdmrs, nr, i,
			   tdmrs[i].base + DIV_ROUND_UP(size / TDMR_ALIGN, parts) * TDMR_ALIGN,
			   memory, limits);
		tdmr_place_all(tdmrs, nr + 1, pieces, nr_pieces);
		if (fits(tdmrs, nr + 1, &land, limits))
			nr++;
		else
			join(tdmrs, nr, i, size, limits);
	}
	tdmr_place_all(tdmrs, nr, pieces, nr_pieces);
	for (i = 0; i < nr; i++)
		tdmr_reserve(&land, &tdmrs[i]);
	return nr;
}
