// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for PAMTs: 1/256 of what they describe, contiguous, from the node that
 * they describe.
 *
 * It goes back to the kernel only where TDH.SYS.CONFIG has not succeeded: until
 * then nothing but the kernel has touched it, and there is nothing to clean.
 */
#include <linux/gfp.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "tdxhost.h"

/* What is asked for. */
struct request {
	unsigned long nr;
	const struct tdmr_memory *memory;
	const struct tdmr_limits *limits;
	/* Whether GiB will do that have no reserved area left. */
	bool crowded_too;
	/* Set when nothing is asked for any more. */
	const bool *stop;
};

static bool is_over(const struct request *request)
{
	return READ_ONCE(*request->stop) || fatal_signal_pending(current);
}

/*
 * alloc_contig_pages() can't be told which memory to take, so the range to ask for
 * is found here: all of it online, in one zone that GFP_KERNEL may use, and nothing
 * reserved in it. Returns where a range has to end instead, or 0 when it can be
 * where it is.
 */
static unsigned long obstacle(unsigned long start, unsigned long nr, int node)
{
	struct page *last = pfn_to_online_page(start + nr - 1);
	unsigned long pfn;

	for (pfn = start + nr; pfn-- > start;) {
		struct page *page = pfn_to_online_page(pfn);

		if (IS_ALIGNED(pfn, pageblock_nr_pages))
			cond_resched();
		if (!page || PageReserved(page) || page_to_nid(page) != node ||
		    page_zone(page) != page_zone(last) || page_zonenum(page) > ZONE_NORMAL)
			return pfn;
	}
	return 0;
}

/* A range that begins at 0 is in the way too; 0 says that nothing is. */
static unsigned long end_instead(u64 pa)
{
	return max(PFN_DOWN(pa), 1UL);
}

/* PAMTs have to be in convertible memory, and not all RAM may be. Returns as obstacle(). */
static unsigned long outside_cmrs(const struct request *request, unsigned long start)
{
	const struct tdmr_memory *memory = request->memory;
	u64 end = PFN_PHYS(start + request->nr);
	struct tdmr_range outside;

	if (!tdmr_next_outside(memory->cmrs, memory->nr_cmrs, PFN_PHYS(start), end, &outside))
		return 0;
	return end_instead(outside.base);
}

/* Returns as obstacle(). */
static unsigned long crowded(const struct request *request, unsigned long start)
{
	u64 end = PFN_PHYS(start + request->nr), gib;

	if (request->crowded_too)
		return 0;
	gib = tdmr_crowded(request->memory, request->limits, PFN_PHYS(start), end);
	return gib == end ? 0 : end_instead(gib);
}

/* Cheapest first. Returns as obstacle(). */
static unsigned long in_the_way(const struct request *request, unsigned long start, int node)
{
	unsigned long bad = outside_cmrs(request, start);

	if (!bad)
		bad = crowded(request, start);
	return bad ? bad : obstacle(start, request->nr, node);
}

/*
 * From the top down: memory below 4 GiB is for devices, and PAMTs that touch
 * share a reserved area.
 */
static unsigned long alloc_pfns(const struct request *request, int node)
{
	unsigned long floor = node_start_pfn(node), end = node_end_pfn(node), nr = request->nr;

	while (end >= floor + nr && !is_over(request)) {
		unsigned long start = ALIGN_DOWN(end - nr, pageblock_nr_pages), bad;

		if (start < floor || !start)
			break;
		bad = in_the_way(request, start, node);
		if (!bad && !alloc_contig_range(start, start + nr, TDXHOST_CONTIG_ORDINARY,
						GFP_KERNEL | __GFP_NOWARN))
			return start;
		/* A range that is in use is not asked for again, and not in part. */
		end = bad ? bad : start;
		cond_resched();
	}
	return 0;
}

/* The node's own memory first; a PAMT that is far away is better than none. */
static unsigned long alloc_near(const struct request *request, int node)
{
	unsigned long pfn = 0;
	int other;

	if (node != NUMA_NO_NODE && node_online(node))
		pfn = alloc_pfns(request, node);
	for_each_node_state(other, N_MEMORY) {
		if (pfn || is_over(request))
			break;
		if (other != node)
			pfn = alloc_pfns(request, other);
	}
	return pfn;
}

static bool any_crowded(const struct tdmr_memory *memory, const struct tdmr_limits *limits)
{
	const struct tdmr_region *last = &memory->regions[memory->nr_regions - 1];
	u64 end = last->base + last->size;

	return tdmr_crowded(memory, limits, 0, end) < end;
}

/**
 * tdxhost_pamt_alloc() - allocate a piece of memory for PAMTs
 * @piece: filled
 * @bytes: how much, a multiple of the page size
 * @node: NUMA node to take it from, if it can be
 * @memory: all memory that has to be laid out
 * @limits: what the TDX module allows
 * @stop: set by others when nothing is wanted any more
 *
 * A GiB that has as many holes as a TDMR can have reserved areas is the last
 * choice: PAMTs there are likely to be one hole too many.
 *
 * Context: task, may sleep.
 * Return: 0, -ENOMEM, or -EINTR when @stop or a fatal signal ended it.
 */
int tdxhost_pamt_alloc(struct tdmr_piece *piece, u64 bytes, int node,
		       const struct tdmr_memory *memory, const struct tdmr_limits *limits,
		       const bool *stop)
{
	struct request request = {
		.nr = PFN_DOWN(bytes),
		.memory = memory,
		.limits = limits,
		.stop = stop,
	};
	unsigned long pfn = alloc_near(&request, node);

	if (!pfn && any_crowded(memory, limits)) {
		request.crowded_too = true;
		pfn = alloc_near(&request, node);
	}
	if (!pfn)
		return is_over(&request) ? -EINTR : -ENOMEM;
	*piece = (struct tdmr_piece){ .base = PFN_PHYS(pfn), .size = bytes };
	return 0;
}

static void give_back(struct tdmr_piece *piece, u64 keep)
{
	if (piece->size > keep)
		free_contig_range(PFN_DOWN(piece->base + keep), PFN_DOWN(piece->size - keep));
	piece->size = keep;
}

/**
 * tdxhost_pamt_trim() - give back what no PAMT uses of a piece
 * @piece: the piece
 *
 * Context: task, may sleep.
 */
void tdxhost_pamt_trim(struct tdmr_piece *piece)
{
	give_back(piece, piece->used);
}

/**
 * tdxhost_pamt_free() - give a piece back
 * @piece: the piece; one that was never allocated is left as it is
 *
 * Context: task, may sleep. TDH.SYS.CONFIG has not succeeded.
 */
void tdxhost_pamt_free(struct tdmr_piece *piece)
{
	give_back(piece, 0);
}
