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
		if (pfn)
			break;
		if (other != node)
			pfn = alloc_pfns(nr, other);
	}
	return pfn;
}

/**
 * tdxhost_pamt_alloc() - allocate all PAMTs of a TDMR, in one piece
 * @tdmr: sizes are set; addresses are filled in
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int tdxhost_pamt_alloc(struct tdmr *tdmr)
{
	unsigned long pfn = alloc_near(PFN_DOWN(tdmr_pamt_bytes(tdmr)), tdmr->node);
	u64 pa = PFN_PHYS(pfn);
	u32 level;

	if (!pfn)
		return -ENOMEM;
	for (level = 0; level < TDMR_PAMTS; level++) {
		tdmr->pamt[level].base = pa;
		pa += tdmr->pamt[level].size;
	}
	return 0;
}

/**
 * tdxhost_pamt_free() - give the PAMTs of a TDMR back
 * @tdmr: the TDMR; one without PAMTs is left as it is
 *
 * Context: task, may sleep. TDH.SYS.CONFIG has not succeeded.
 */
void tdxhost_pamt_free(struct tdmr *tdmr)
{
	u32 level;

	if (!tdmr->pamt[TDMR_PAMT_4K].base)
		return;
	free_contig_range(PFN_DOWN(tdmr->pamt[TDMR_PAMT_4K].base), PFN_DOWN(tdmr_pamt_bytes(tdmr)));
	for (level = 0; level < TDMR_PAMTS; level++)
		tdmr->pamt[level].base = 0;
}
