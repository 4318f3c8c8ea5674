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

#ifdef TDXHOST_HAVE_ALLOC_CONTIG_PAGES

static unsigned long alloc_pfns(unsigned long nr, int node)
{
	nodemask_t nodes = nodemask_of_node(node);
	struct page *page = alloc_contig_pages(nr, GFP_KERNEL | __GFP_NOWARN, node, &nodes);

	return page ? page_to_pfn(page) : 0;
}

#else

/*
 * Without alloc_contig_pages() the range to ask for has to be found here: all of
 * it online, in one zone that GFP_KERNEL may use, and nothing reserved in it.
 * Returns the end of what is in the way, or 0 for nothing.
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

/*
 * From the top down: memory below 4 GiB is for devices, and PAMTs that touch
 * share a reserved area.
 */
static unsigned long alloc_pfns(unsigned long nr, int node)
{
	unsigned long floor = node_start_pfn(node), end = node_end_pfn(node);

	while (end >= floor + nr && !fatal_signal_pending(current)) {
		unsigned long start = ALIGN_DOWN(end - nr, pageblock_nr_pages), bad;

		if (start < floor || !start)
			break;
		bad = obstacle(start, nr, node);
		if (!bad && !alloc_contig_range(start, start + nr, MIGRATE_MOVABLE,
						GFP_KERNEL | __GFP_NOWARN))
			return start;
		/* A range that is in use is not asked for again, and not in part. */
		end = bad ? bad : start;
		cond_resched();
	}
	return 0;
}

#endif /* TDXHOST_HAVE_ALLOC_CONTIG_PAGES */

/* The node's own memory first; a PAMT that is far away is better than none. */
static unsigned long alloc_near(unsigned long nr, int node)
{
	unsigned long pfn = 0;
	int other;

	if (node != NUMA_NO_NODE && node_online(node))
		pfn = alloc_pfns(nr, node);
	for_each_node_state(other, N_MEMORY) {
		if (pfn || fatal_signal_pending(current))
			break;
		if (other != node)
			pfn = alloc_pfns(nr, other);
	}
	return pfn;
}

/**
 * tdxhost_pamt_alloc() - allocate a piece of memory for PAMTs
 * @piece: filled
 * @bytes: how much, a multiple of the page size
 * @node: NUMA node to take it from, if it can be
 *
 * Context: task, may sleep.
 * Return: 0, -ENOMEM, or -EINTR when a fatal signal ended it.
 */
int tdxhost_pamt_alloc(struct tdmr_piece *piece, u64 bytes, int node)
{
	unsigned long pfn = alloc_near(PFN_DOWN(bytes), node);

	if (!pfn)
		return fatal_signal_pending(current) ? -EINTR : -ENOMEM;
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
