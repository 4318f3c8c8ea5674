/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Layout of TDMRs: memory in, TDMRs with PAMT sizes and reserved areas out.
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
 * struct tdmr - one TDMR
 * @base: first byte, 1 GiB aligned
 * @size: bytes, a multiple of 1 GiB
 * @node: NUMA node of the memory that it was made for
 * @nr_reserved: used entries of @reserved
 * @pamt: PAMTs by TDMR_PAMT_*; sizes by tdmr_layout(), addresses by the caller
 * @reserved: reserved areas by address, not by offset; ascending, none touches the next
 */
struct tdmr {
	u64 base;
	u64 size;
	int node;
	u32 nr_reserved;
	struct tdmr_range pamt[TDMR_PAMTS];
	struct tdmr_range reserved[TDMR_RESERVED_ROOM];
};

u64 tdmr_pamt_bytes(const struct tdmr *tdmr);
int tdmr_next_outside(const struct tdmr_range *cmrs, u32 nr_cmrs, u64 start, u64 end,
		      struct tdmr_range *outside);
int tdmr_layout(struct tdmr *tdmrs, u32 room, const struct tdmr_region *regions, u32 nr_regions,
		const struct tdmr_limits *limits);
int tdmr_reserve(struct tdmr *tdmrs, u32 nr_tdmrs, const struct tdmr_range *cmrs, u32 nr_cmrs,
		 const struct tdmr_limits *limits);

#endif /* TDXHOST_TDMR_H */
