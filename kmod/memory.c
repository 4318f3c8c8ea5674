// SPDX-License-Identifier: GPL-2.0-only
/* The machine's memory: System RAM, what of it TDX can use, and memory hotplug. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ioport.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pfn.h>
#include <linux/printk.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "tdxhost.h"

/* Never given to TDX: firmware and real-mode code live there, and no CMR holds all of it. */
#define LOW_MEMORY_END SZ_1M

/*
 * Protects map. Held for as long as it takes to read or replace a list, never
 * over a SEAMCALL or an allocation of PAMTs.
 */
static DEFINE_MUTEX(map_lock);
static struct tdxhost_map map;

/* Whether memory that map does not know of may go online. */
static bool hold_memory;

/* Memory was let through and is not online yet; there is one at a time. Written under map_lock. */
static bool coming;

/**
 * tdxhost_map_lock() - look at the memory map, or change it
 *
 * Context: task, may sleep.
 * Return: the map, until tdxhost_map_unlock().
 */
struct tdxhost_map *tdxhost_map_lock(void)
{
	mutex_lock(&map_lock);
	return &map;
}

/**
 * tdxhost_map_unlock() - end what tdxhost_map_lock() began
 *
 * Context: task.
 */
void tdxhost_map_unlock(void)
{
	mutex_unlock(&map_lock);
}

/**
 * tdxhost_region_add() - add a region to the end of a list
 * @regions: the list
 * @base: first byte
 * @size: bytes
 * @node: NUMA node
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int tdxhost_region_add(struct tdxhost_regions *regions, u64 base, u64 size, int node)
{
	if (regions->nr == regions->room) {
		u32 room = regions->room ? 2 * regions->room : 64;
		struct tdmr_region *list;

		list = krealloc_array(regions->list, room, sizeof(*list), GFP_KERNEL);
		if (!list)
			return -ENOMEM;
		regions->list = list;
		regions->room = room;
	}
	regions->list[regions->nr++] = (struct tdmr_region){ base, size, node };
	return 0;
}

/**
 * tdxhost_regions_free() - empty a list and free it
 * @regions: the list
 *
 * Context: task.
 */
void tdxhost_regions_free(struct tdxhost_regions *regions)
{
	kfree(regions->list);
	*regions = (struct tdxhost_regions){};
}

/* Memory that was added but is not online has no node yet. */
static int node_of(unsigned long pfn)
{
	struct page *page = pfn_to_online_page(pfn);

	return page ? page_to_nid(page) : NUMA_NO_NODE;
}

/* First page above @pfn that is on another node, as far as sections tell. */
static unsigned long node_end(unsigned long pfn, unsigned long end_pfn, int node)
{
	do {
		pfn = ALIGN(pfn + 1, PAGES_PER_SECTION);
	} while (pfn < end_pfn && node_of(pfn) == node);
	return min(pfn, end_pfn);
}

/* One resource may span nodes: its memory is contiguous. */
static int add_ram(struct resource *res, void *data)
{
	unsigned long pfn = PFN_UP(max_t(u64, res->start, LOW_MEMORY_END));
	unsigned long end_pfn = PFN_DOWN(res->end + 1);
	struct tdxhost_regions *ram = data;

	while (pfn < end_pfn) {
		int node = node_of(pfn);
		unsigned long next = node_end(pfn, end_pfn, node);
		int ret = tdxhost_region_add(ram, PFN_PHYS(pfn), PFN_PHYS(next - pfn), node);

		if (ret)
			return ret;
		pfn = next;
	}
	return 0;
}

/**
 * tdxhost_ram_get() - list System RAM above 1 MiB
 * @ram: an empty list; free it whatever the answer is
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int tdxhost_ram_get(struct tdxhost_regions *ram)
{
	int ret = walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY, 0,
				      -1, ram, add_ram);

	/* -EINVAL says that there was none. */
	return ret == -EINVAL ? 0 : ret;
}

/*
 * Parts one region of RAM into what lies in CMRs and what does not. Memory that is
 * offline, and outside, is nobody's unless @all: it stays offline, see memory_changes().
 */
static int part(const struct tdxhost_metadata *metadata, const struct tdmr_region *ram,
		struct tdxhost_regions *inside, struct tdxhost_regions *outside, bool all)
{
	u64 pos = ram->base, end = ram->base + ram->size;
	struct tdmr_range range;
	int ret = 0;

	while (!ret && tdmr_next_outside(metadata->cmrs, metadata->nr_cmrs, pos, end, &range)) {
		if (range.base > pos)
			ret = tdxhost_region_add(inside, pos, range.base - pos, ram->node);
		if (!ret && (all || ram->node != NUMA_NO_NODE))
			ret = tdxhost_region_add(outside, range.base, range.size, ram->node);
		pos = range.base + range.size;
	}
	if (!ret && pos < end)
		ret = tdxhost_region_add(inside, pos, end - pos, ram->node);
	return ret;
}

/* All System RAM; free both lists whatever the answer is. */
static int part_all(struct tdxhost_regions *inside, struct tdxhost_regions *outside)
{
	struct tdxhost_regions ram = {};
	/* Looked at before memory is: what was coming may have come meanwhile. */
	bool all = READ_ONCE(coming);
	int ret = tdxhost_ram_get(&ram);
	u32 i;

	for (i = 0; !ret && i < ram.nr; i++)
		ret = part(&map.metadata, &ram.list[i], inside, outside, all);
	tdxhost_regions_free(&ram);
	return ret;
}

static void log_outside(const struct tdxhost_regions *outside)
{
	u32 i;

	for (i = 0; i < outside->nr; i++)
		pr_warn("System RAM [%#llx, %#llx) is outside every CMR\n", outside->list[i].base,
			outside->list[i].base + outside->list[i].size);
}

static void replace(struct tdxhost_regions *old, struct tdxhost_regions *new)
{
	swap(*old, *new);
}

/* Publishes @outside, and fails where it is not to be skipped. */
static int judge_outside(struct tdxhost_step_result *result, struct tdxhost_regions *outside,
			 bool skip)
{
	int ret = 0;

	log_outside(outside);
	if (outside->nr && !skip) {
		result->base_pa = outside->list[0].base;
		result->bytes = outside->list[0].size;
		ret = tdxhost_step_fail(result, TDXHOST_CODE_RAM_OUTSIDE_CMR, TDXHOST_NONE);
	}
	mutex_lock(&map_lock);
	replace(&map.outside, outside);
	mutex_unlock(&map_lock);
	return ret;
}

/**
 * tdxhost_memory_find() - find TDX-usable memory, and RAM that TDX can't use
 * @result: of the step
 * @skip_outside: whether RAM outside CMRs is left to the kernel instead of failing
 *
 * Otherwise all System RAM has to be convertible: the page allocator can't tell
 * one page from the other when memory is asked for a TD.
 *
 * Context: task, may sleep. The map has the TDX module's metadata.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int tdxhost_memory_find(struct tdxhost_step_result *result, bool skip_outside)
{
	struct tdxhost_regions inside = {}, outside = {};
	int ret = part_all(&inside, &outside);

	if (ret) {
		tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
		goto out;
	}
	ret = judge_outside(result, &outside, skip_outside && inside.nr);
	if (ret)
		goto out;
	mutex_lock(&map_lock);
	replace(&map.tdx, &inside);
	mutex_unlock(&map_lock);
out:
	tdxhost_regions_free(&outside);
	tdxhost_regions_free(&inside);
	return ret;
}

/**
 * tdxhost_memory_check() - find RAM that TDX can't use, where the kernel picks TDX memory
 * @result: of the step
 *
 * Context: task, may sleep. The map has the TDX module's metadata.
 * Return: 0, or a negative errno with the reason in @result when there is such RAM.
 */
int tdxhost_memory_check(struct tdxhost_step_result *result)
{
	struct tdxhost_regions inside = {}, outside = {};
	int ret = part_all(&inside, &outside);

	if (ret)
		tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
	else
		ret = judge_outside(result, &outside, false);
	tdxhost_regions_free(&outside);
	tdxhost_regions_free(&inside);
	return ret;
}

/**
 * tdxhost_memory_hold() - decide whether unknown memory may go online
 * @hold: true to refuse memory that is not in the list of TDX-usable memory
 *
 * Context: task, may sleep.
 */
void tdxhost_memory_hold(bool hold)
{
	mutex_lock(&map_lock);
	hold_memory = hold;
	mutex_unlock(&map_lock);
}

/* map_lock is held */
static bool is_tdx_memory(u64 base, u64 end)
{
	u32 i;

	for (i = 0; i < map.tdx.nr && base < end; i++)
		if (base >= map.tdx.list[i].base)
			base = max(base, map.tdx.list[i].base + map.tdx.list[i].size);
		else
			break;
	return base >= end;
}

/* Whether memory may go online. */
static bool let_through(u64 base, u64 end)
{
	bool may;

	mutex_lock(&map_lock);
	may = !hold_memory || is_tdx_memory(base, end);
	WRITE_ONCE(coming, may);
	mutex_unlock(&map_lock);
	return may;
}

static void has_come(void)
{
	mutex_lock(&map_lock);
	WRITE_ONCE(coming, false);
	mutex_unlock(&map_lock);
}

static int memory_changes(struct notifier_block *nb, unsigned long action, void *data)
{
	const struct memory_notify *memory = data;
	u64 base = PFN_PHYS(memory->start_pfn), end = base + PFN_PHYS(memory->nr_pages);

	if (action == MEM_ONLINE || action == MEM_CANCEL_ONLINE)
		has_come();
	if (action != MEM_GOING_ONLINE || let_through(base, end))
		return NOTIFY_OK;
	pr_warn("memory [%#llx, %#llx) stays offline: it is no TDX memory\n", base, end);
	return notifier_from_errno(-EBUSY);
}

static struct notifier_block memory_notifier = {
	.notifier_call = memory_changes,
};

/**
 * tdxhost_map_forget_tdmrs() - drop the layout, whose PAMTs are gone
 *
 * Context: task, may sleep.
 */
void tdxhost_map_forget_tdmrs(void)
{
	mutex_lock(&map_lock);
	kvfree(map.tdmrs);
	map.tdmrs = NULL;
	map.nr_tdmrs = 0;
	kvfree(map.pieces);
	map.pieces = NULL;
	map.nr_pieces = 0;
	map.pamt_bytes = 0;
	mutex_unlock(&map_lock);
}

/**
 * tdxhost_memory_init() - follow memory as it comes online
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno.
 */
int tdxhost_memory_init(void)
{
	return register_memory_notifier(&memory_notifier);
}

/**
 * tdxhost_memory_exit() - stop following memory
 *
 * Context: task, may sleep.
 */
void tdxhost_memory_exit(void)
{
	unregister_memory_notifier(&memory_notifier);
}

/**
 * tdxhost_map_free() - forget the memory map
 *
 * Context: task, may sleep, at unload. The TDX module holds none of our memory.
 */
void tdxhost_map_free(void)
{
	tdxhost_map_forget_tdmrs();
	tdxhost_regions_free(&map.outside);
	tdxhost_regions_free(&map.tdx);
}
