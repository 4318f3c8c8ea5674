/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files that lay TDMRs out offer each other. */
#ifndef TDXHOST_TDMR_INTERNAL_H
#define TDXHOST_TDMR_INTERNAL_H

#include <linux/sizes.h>

#include "tdmr.h"

#define TDMR_ALIGN SZ_1G

/**
 * struct tdmr_land - everything that decides which bytes of a TDMR are usable
 * @pieces: memory for PAMTs: what is in use of it is not usable
 * @nr_pieces: how many
 * @cmrs: convertible memory: nothing else is usable
 * @nr_cmrs: how many
 */
struct tdmr_land {
	const struct tdmr_piece *pieces;
	u32 nr_pieces;
	const struct tdmr_range *cmrs;
	u32 nr_cmrs;
};

static inline u64 tdmr_end(const struct tdmr *tdmr)
{
	return tdmr->base + tdmr->size;
}

static inline u64 region_end(const struct tdmr_region *region)
{
	return region->base + region->size;
}

/* tdmr_fit.c */
void tdmr_set_pamt_sizes(struct tdmr *tdmr, const struct tdmr_limits *limits);
void tdmr_place_all(struct tdmr *tdmrs, u32 nr_tdmrs, struct tdmr_piece *pieces, u32 nr_pieces);
void tdmr_split(struct tdmr *tdmrs, u32 nr_tdmrs, u32 first, u64 cut,
		const struct tdmr_memory *memory, const struct tdmr_limits *limits);

/* tdmr_areas.c */
u32 tdmr_max_areas(const struct tdmr_limits *limits);
u32 tdmr_count_areas(const struct tdmr_land *land, u64 base, u64 end);
u64 tdmr_reach(const struct tdmr_land *land, u64 base, const struct tdmr_limits *limits);
void tdmr_reserve(const struct tdmr_land *land, struct tdmr *tdmr);
int tdmr_gib_misfit(const struct tdmr_land *land, u64 base, const struct tdmr_limits *limits,
		    struct tdmr_misfit *misfit);

#endif /* TDXHOST_TDMR_INTERNAL_H */
