/* SPDX-License-Identifier: GPL-2.0-only */
/* Steps of tdx_enable() as provider "direct" takes them; see struct tdxhost_step. */
#ifndef TDXHOST_DIRECT_H
#define TDXHOST_DIRECT_H

#include <linux/types.h>

#include "tdxhost.h"

static inline struct tdmr_memory direct_memory_of(const struct tdxhost_map *map)
{
	return (struct tdmr_memory){
		.regions = map->tdx.list,
		.nr_regions = map->tdx.nr,
		.cmrs = map->metadata.cmrs,
		.nr_cmrs = map->metadata.nr_cmrs,
	};
}

int direct_find_memory(struct tdxhost_step_result *result, u32 flags);
int direct_lay_out_tdmrs(struct tdxhost_step_result *result, u32 flags);
int direct_alloc_pamts(struct tdxhost_step_result *result, u32 flags);
int direct_config(struct tdxhost_step_result *result, u32 flags);
int direct_flush_caches(struct tdxhost_step_result *result, u32 flags);
int direct_config_keys(struct tdxhost_step_result *result, u32 flags);
int direct_init_tdmrs(struct tdxhost_step_result *result, u32 flags);
void direct_undo(void);

int direct_no_layout(struct tdxhost_step_result *result, int error,
		     const struct tdmr_misfit *misfit);

#endif /* TDXHOST_DIRECT_H */
