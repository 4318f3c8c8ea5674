// SPDX-License-Identifier: GPL-2.0-only
/* Answers to GET_INFO and GET_MEMORY. */
#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/pfn.h>
#include <linux/slab.h>

#include "provider.h"
#include "tdxhost.h"

static const u32 pamt_kinds[TDMR_PAMTS] = {
	[TDMR_PAMT_4K] = TDXHOST_RANGE_PAMT_4K,
	[TDMR_PAMT_2M] = TDXHOST_RANGE_PAMT_2M,
	[TDMR_PAMT_1G] = TDXHOST_RANGE_PAMT_1G,
};

/**
 * tdxhost_host_code() - why TDX can't be used on this host
 *
 * Context: any.
 * Return: TDXHOST_CODE_*, NONE where nothing speaks against it so far.
 */
u32 tdxhost_host_code(void)
{
	struct tdxhost_platform platform;

	tdxhost_platform_get(&platform);
	return platform.code;
}

/**
 * tdxhost_info_get() - what this driver, host and TDX module are
 * @info: filled, but for @size
 *
 * Context: task, may sleep.
 */
void tdxhost_info_get(struct tdxhost_info *info)
{
	struct tdxhost_platform platform;
	struct tdxhost_map *map;

	tdxhost_platform_get(&platform);
	info->features = tdxhost_provider->features;
	info->provider = tdxhost_provider->id;
	info->code = platform.code;
	info->nr_cpus = num_present_cpus();
	info->nr_packages = tdxhost_cpus_packages();
	if (platform.nr_keyids) {
		info->valid |= TDXHOST_INFO_KEYIDS;
		info->keyid_first = platform.keyid_first;
		info->nr_keyids = platform.nr_keyids;
		info->keyid_global = platform.keyid_first;
	}

	map = tdxhost_map_lock();
	if (map->has_metadata) {
		info->valid |= TDXHOST_INFO_MODULE;
		info->module_major = map->metadata.major;
		info->module_minor = map->metadata.minor;
		info->module_update = map->metadata.update;
		info->module_build_date = map->metadata.build_date;
		info->module_build_num = map->metadata.build_num;
		info->tdx_features0 = map->metadata.features0;
	}
	tdxhost_map_unlock();
}

static int add(struct tdxhost_ranges *ranges, u32 kind, u64 base, u64 size, int node, u32 tdmr)
{
	if (ranges->nr == ranges->room) {
		u32 room = ranges->room ? 2 * ranges->room : 128;
		struct tdxhost_range *list;

		list = krealloc_array(ranges->list, room, sizeof(*list), GFP_KERNEL);
		if (!list)
			return -ENOMEM;
		ranges->list = list;
		ranges->room = room;
	}
	ranges->list[ranges->nr++] = (struct tdxhost_range){
		.base_pa = base,
		.bytes = size,
		.kind = kind,
		.node = node == NUMA_NO_NODE ? TDXHOST_NONE : node,
		.tdmr = tdmr,
	};
	return 0;
}

/* Index of the TDMR that holds @pa. */
static u32 tdmr_of(const struct tdxhost_map *map, u64 pa)
{
	u32 i;

	for (i = 0; i < map->nr_tdmrs; i++)
		if (pa >= map->tdmrs[i].base && pa - map->tdmrs[i].base < map->tdmrs[i].size)
			return i;
	return TDXHOST_NONE;
}

static int add_regions(struct tdxhost_ranges *ranges, u32 kind, const struct tdxhost_map *map,
		       const struct tdxhost_regions *regions)
{
	u32 i;

	for (i = 0; i < regions->nr; i++) {
		const struct tdmr_region *region = &regions->list[i];
		u32 tdmr = kind == TDXHOST_RANGE_TDX ? tdmr_of(map, region->base) : TDXHOST_NONE;

		if (add(ranges, kind, region->base, region->size, region->node, tdmr))
			return -ENOMEM;
	}
	return 0;
}

static int add_cmrs(struct tdxhost_ranges *ranges, const struct tdxhost_metadata *metadata)
{
	u32 i;

	for (i = 0; i < metadata->nr_cmrs; i++)
		if (add(ranges, TDXHOST_RANGE_CMR, metadata->cmrs[i].base, metadata->cmrs[i].size,
			NUMA_NO_NODE, TDXHOST_NONE))
			return -ENOMEM;
	return 0;
}

static int add_tdmrs(struct tdxhost_ranges *ranges, const struct tdxhost_map *map)
{
	u32 i;

	for (i = 0; i < map->nr_tdmrs; i++)
		if (add(ranges, TDXHOST_RANGE_TDMR, map->tdmrs[i].base, map->tdmrs[i].size,
			map->tdmrs[i].node, i))
			return -ENOMEM;
	return 0;
}

static int add_reserved(struct tdxhost_ranges *ranges, const struct tdxhost_map *map)
{
	u32 i, k;

	for (i = 0; i < map->nr_tdmrs; i++)
		for (k = 0; k < map->tdmrs[i].nr_reserved; k++)
			if (add(ranges, TDXHOST_RANGE_RESERVED, map->tdmrs[i].reserved[k].base,
				map->tdmrs[i].reserved[k].size, map->tdmrs[i].node, i))
				return -ENOMEM;
	return 0;
}

static int pamt_node(const struct tdmr *tdmr)
{
	return page_to_nid(pfn_to_page(PFN_DOWN(tdmr->pamt[TDMR_PAMT_4K].base)));
}

/* PAMTs lie wherever there was memory: by address takes a search. */
static int add_pamts(struct tdxhost_ranges *ranges, const struct tdxhost_map *map, u32 level)
{
	u64 floor = 1;

	for (;;) {
		const struct tdmr *next = NULL;
		u32 i;

		for (i = 0; i < map->nr_tdmrs; i++) {
			const struct tdmr *tdmr = &map->tdmrs[i];

			if (tdmr->pamt[level].base >= floor &&
			    (!next || tdmr->pamt[level].base < next->pamt[level].base))
				next = tdmr;
		}
		if (!next)
			return 0;
		if (add(ranges, pamt_kinds[level], next->pamt[level].base, next->pamt[level].size,
			pamt_node(next), next - map->tdmrs))
			return -ENOMEM;
		floor = next->pamt[level].base + 1;
	}
}

static int add_map(struct tdxhost_ranges *ranges, const struct tdxhost_map *map)
{
	u32 level;

	if (add_cmrs(ranges, &map->metadata) ||
	    add_regions(ranges, TDXHOST_RANGE_OUTSIDE, map, &map->outside) ||
	    add_regions(ranges, TDXHOST_RANGE_TDX, map, &map->tdx) || add_tdmrs(ranges, map) ||
	    add_reserved(ranges, map))
		return -ENOMEM;
	for (level = 0; level < TDMR_PAMTS; level++)
		if (add_pamts(ranges, map, level))
			return -ENOMEM;
	return 0;
}

/**
 * tdxhost_ranges_get() - all that is known of the machine's memory
 * @ranges: an empty list; free it whatever the answer is
 * @pamt_bytes: memory held for PAMTs
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int tdxhost_ranges_get(struct tdxhost_ranges *ranges, u64 *pamt_bytes)
{
	struct tdxhost_regions ram = {};
	struct tdxhost_map *map;
	int ret = tdxhost_ram_get(&ram);

	if (!ret)
		ret = add_regions(ranges, TDXHOST_RANGE_RAM, NULL, &ram);
	tdxhost_regions_free(&ram);
	if (ret)
		return ret;
	map = tdxhost_map_lock();
	*pamt_bytes = tdxhost_provider->owns_pamts ? map->pamt_bytes : TDXHOST_UNKNOWN_BYTES;
	ret = add_map(ranges, map);
	tdxhost_map_unlock();
	return ret;
}
