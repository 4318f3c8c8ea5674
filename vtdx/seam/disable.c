// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.DISABLE: gives all memory back, for whoever initialises the module next. */
#include "module.h"

static uint64_t tdmr_bytes(const struct tdmr_table *tdmrs)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < tdmrs->count; i++)
		bytes += tdmrs->tdmr[i].range.bytes;
	return bytes;
}

static bool interrupt_pending(const struct call *call)
{
	const struct seam_ops *ops = &call->seam->ops;

	return ops->interrupt_pending && ops->interrupt_pending(call->seam->opaque, call->lp);
}

/* Every call does a piece at least: repeating it gets to the end under any load. */
static uint64_t release_memory(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t total = tdmr_bytes(&seam->tdmrs);

	while (seam->disabled_bytes < total) {
		seam->disabled_bytes += GIB1;
		if (seam->disabled_bytes < total && interrupt_pending(call))
			return TDX_INTERRUPTED_RESUMABLE;
	}
	return TDX_SUCCESS;
}

/* Handoff data goes, too: it describes memory that is no longer private. */
static void start_over(struct seam *seam)
{
	for (uint32_t lp = 0; lp < SEAM_MAX_LPS; lp++)
		atomic_store(&seam->lp[lp].initialised, false);
	atomic_store(&seam->lps_done, 0);
	atomic_store(&seam->packages_done, 0);
	atomic_store(&seam->handoff_valid, false);
	seam->handoff = (struct handoff){ 0 };
	seam->tdmrs.count = 0;
	seam->disabled_bytes = 0;
	atomic_store(&seam->sys, SEAM_SYSINIT_PENDING);
	atomic_store(&seam->disabling, false);
}

/**
 * tdh_sys_disable() - TDH.SYS.DISABLE
 * @call: the call
 *
 * Locks new leaves out before it looks whether others are inside, so that who
 * repeats it gets in (draft TDX module ABI spec; Linux 7.3).
 */
uint64_t tdh_sys_disable(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t status;

	atomic_store(&seam->disabling, true);
	if (atomic_load(&seam->inside) > 1)
		return TDX_SYS_BUSY;
	seam_hold(seam, call->lp, call->leaf);
	status = release_memory(call);
	if (!status)
		start_over(seam);
	return status;
}
