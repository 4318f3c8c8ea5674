/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Layout of TDMRs: memory in, TDMRs with PAMT sizes and reserved areas out.
 * First tdmr_layout(); then memory for PAMTs, tdmr_piece_bytes() for each TDMR;
 * then tdmr_fit(), as where the PAMTs lie is what the reserved areas depend on; then
 * tdmr_spread(), for many to initialise them side by side.
 * Arithmetic alone, no state: shim/ is all it needs to be compiled elsewhere.
 */
#ifndef TDXHOST_TDMR_H
#define TDXHOST_TDMR_H

#include <linux/types.h>

/* Reserved areas that a TDMR has room for here; the TDX module may allow fewer. */
#define TDMR_RESERVED_ROOM 64

/* Page sizes that a TDMR has a PAMT for, numbered as the TDX module does. */
#define TDMR_PAMT_4K 0
#define TDMR_PAMT_2M 1
#define TDMR_PAMT_1G 2
#define TDMR_PAMTS 3

struct tdmr_range {
	u64 base;
	u64 size;
};

/**
 * struct tdmr_region - memory that TDMRs have to cover
 * @base: first byte
 * @size: bytes
 * @node: NUMA node
 */
struct tdmr_region {
	u64 base;
	u64 size;
	int node;
};

/**
 * struct tdmr_limits - what the TDX module allows, from its metadata
 * @max_tdmrs: MAX_TDMRS
 * @max_reserved: MAX_RESERVED_PER_TDMR
 * @pamt_entry_bytes: PAMT_4K_ENTRY_SIZE and so on, by TDMR_PAMT_*
 */
struct tdmr_limits {
	u32 max_tdmrs;
	u32 max_reserved;
	u32 pamt_entry_bytes[TDMR_PAMTS];
};

/**
 * struct tdmr_memory - the machine, as far as the layout is concerned
 * @regions: memory that TDMRs have to cover: ascending, disjoint
 * @nr_regions: how many
 * @cmrs: convertible memory as the TDX module lists it, empty entries included
 * @nr_cmrs: how many
 */
struct tdmr_memory {
	const struct tdmr_region *regions;
	u32 nr_regions;
	const struct tdmr_range *cmrs;
	u32 nr_cmrs;
};

/**
 * struct tdmr - one TDMR
 * @base: first byte, 1 GiB aligned
 * @size: bytes, a multiple of 1 GiB
 * @reach: the layout's own: the highest end that a TDMR with this base can have
 * @node: NUMA node of the memory that it was made for
 * @piece: index of the piece of memory that holds its PAMTs
 * @nr_reserved: used entries of @reserved
 * @done: bytes that TDH.SYS.TDMR.INIT has initialised: not the layout's
 * @taken: somebody is at it, or has been: not the layout's either
 * @pamt: PAMTs by TDMR_PAMT_*; addresses by tdmr_place() and tdmr_fit()
 * @reserved: reserved areas by address, not by offset; ascending, none touches the next
 */
struct tdmr {
	u64 base;
	u64 size;
	u64 reach;
	int node;
	u32 piece;
	u32 nr_reserved;
	u64 done;
	bool taken;
	struct tdmr_range pamt[TDMR_PAMTS];
	struct tdmr_range reserved[TDMR_RESERVED_ROOM];
};

/**
 * struct tdmr_piece - contiguous memory for the PAMTs of one TDMR, or of its parts
 * @base: first byte
 * @size: bytes
 * @used: bytes that PAMTs take, from @base on: the rest is not needed
 */
struct tdmr_piece {
	u64 base;
	u64 size;
	u64 used;
};

/**
 * struct tdmr_misfit - why there is no layout
 * @base: TDMR that can't be, or the GiB of it
 * @size: its bytes, 0 where the failure is about no TDMR in particular
 * @needed: TDMRs or reserved areas that it would take at least
 * @limit: how many there can be
 */
struct tdmr_misfit {
	u64 base;
	u64 size;
	u64 needed;
	u64 limit;
};

u64 tdmr_pamt_bytes(const struct tdmr *tdmr);
u64 tdmr_place(struct tdmr *tdmr, u64 base);
int tdmr_next_outside(const struct tdmr_range *cmrs, u32 nr_cmrs, u64 start, u64 end,
		      struct tdmr_range *outside);
int tdmr_layout(struct tdmr *tdmrs, const struct tdmr_memory *memory,
		const struct tdmr_limits *limits, struct tdmr_misfit *misfit);
u64 tdmr_piece_bytes(const struct tdmr *tdmr, u32 nr_tdmrs, const struct tdmr_memory *memory,
		     const struct tdmr_limits *limits);
u64 tdmr_crowded(const struct tdmr_memory *memory, const struct tdmr_limits *limits, u64 start,
		 u64 end);
int tdmr_fit(struct tdmr *tdmrs, struct tdmr_piece *pieces, u32 nr_pieces,
	     const struct tdmr_memory *memory, const struct tdmr_limits *limits,
	     struct tdmr_misfit *misfit);
u64 tdmr_spread_bytes(const struct tdmr *tdmr, u32 nr_tdmrs, const struct tdmr_limits *limits);
u32 tdmr_spread(struct tdmr *tdmrs, u32 nr_tdmrs, struct tdmr_piece *pieces, u32 nr_pieces,
		const struct tdmr_memory *memory, const struct tdmr_limits *limits, u32 nr_workers);

#endif /* TDXHOST_TDMR_H */
