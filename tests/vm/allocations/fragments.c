// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Holds one page in every 2 MiB of memory while it is loaded: memory enough, but
 * no range of it as long as a PAMT, of which the smallest has 4 MiB.
 */
#include <linux/gfp.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mmzone.h>
#include <linux/nodemask.h>
#include <linux/sizes.h>

/* See the same in kmod/compat.h. */
#ifdef ACR_FLAGS_NONE
#define ORDINARY ACR_FLAGS_NONE
#else
#define ORDINARY MIGRATE_MOVABLE
#endif

#define STRIDE PFN_DOWN(SZ_2M)
#define ROOM SZ_16K

static unsigned long held[ROOM];
static unsigned int nr_held;

/* What is in use where a page can't be had is in the way of a PAMT itself. */
static void hold(unsigned long pfn)
{
	if (!pfn_to_online_page(pfn) || nr_held == ROOM)
		return;
	if (!alloc_contig_range(pfn, pfn + 1, ORDINARY, GFP_KERNEL | __GFP_NOWARN))
		held[nr_held++] = pfn;
}

static int __init fragments_init(void)
{
	unsigned long pfn;
	int node;

	for_each_online_node(node)
		for (pfn = ALIGN(node_start_pfn(node), STRIDE); pfn < node_end_pfn(node);
		     pfn += STRIDE) {
			hold(pfn);
			cond_resched();
		}
	pr_info("fragments: %u pages\n", nr_held);
	return 0;
}
module_init(fragments_init);

static void __exit fragments_exit(void)
{
	while (nr_held)
		free_contig_range(held[--nr_held], 1);
}
module_exit(fragments_exit);

MODULE_DESCRIPTION("Memory in short pieces");
MODULE_LICENSE("GPL");
