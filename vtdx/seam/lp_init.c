// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.LP.INIT: every LP has to look like the one that ran TDH.SYS.INIT. */
#include "module.h"

static bool is_compared(const struct seam *seam, enum seam_msr msr)
{
	return seam->sampled.smrr2 || (msr != MSR_SMRR2_BASE && msr != MSR_SMRR2_MASK);
}

static uint64_t compare_msrs(struct call *call, enum seam_msr first, enum seam_msr last)
{
	struct seam *seam = call->seam;

	for (enum seam_msr msr = first; msr <= last; msr++) {
		uint64_t value;

		if (!is_compared(seam, msr))
			continue;
		if (seam->ops.rdmsr(seam->opaque, call->lp, seam_msr_address[msr], &value)) {
			call->fatal = true;
			return TDX_SUCCESS;
		}
		if (value != seam->sampled.msr[msr])
			return TDX_INCONSISTENT_MSR | seam_msr_address[msr];
	}
	return TDX_SUCCESS;
}

static uint64_t compare_early_msrs(struct call *call)
{
	return compare_msrs(call, MSR_CORE_CAPABILITIES, MSR_XAPIC_DISABLE_STATUS);
}

static uint64_t compare_other_msrs(struct call *call)
{
	return compare_msrs(call, MSR_TSC_ADJUST, MSR_WBNOINVDP);
}

static uint64_t verify_seed(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t seed = 0;

	return seam->ops.rdrand(seam->opaque, call->lp, &seed) && seed ? TDX_SUCCESS :
									 TDX_RND_NO_ENTROPY;
}

static uint64_t compare_seam_capabilities(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t value = seam->ops.seam_capabilities(seam->opaque, call->lp);

	return value == seam->sampled.seam_capabilities ? TDX_SUCCESS :
							  TDX_INCOMPATIBLE_SEAM_CAPABILITIES;
}

static uint64_t (*const steps[])(struct call *call) = {
	verify_seed,	      compare_seam_capabilities, compare_early_msrs,
	seam_verify_boot_nt4, seam_compare_cpuid,	 compare_other_msrs,
};

/**
 * tdh_sys_lp_init() - TDH.SYS.LP.INIT, once on every LP
 * @call: the call; holds the module lock shared
 *
 * The state comes before "already done" (TDX module ABI spec).
 */
uint64_t tdh_sys_lp_init(struct call *call)
{
	struct seam *seam = call->seam;
	struct lp *lp = &seam->lp[call->lp];
	uint64_t status = TDX_SUCCESS;

	if (atomic_load(&seam->sys) != SEAM_SYSINIT_DONE)
		return TDX_SYS_LP_INIT_NOT_PENDING;
	if (atomic_load(&lp->initialised))
		return TDX_SYS_LP_INIT_DONE;
	for (size_t i = 0; i < ARRAY_SIZE(steps) && !status && !call->fatal; i++)
		status = steps[i](call);
	if (status || call->fatal)
		return status;
	atomic_store(&lp->initialised, true);
	atomic_fetch_add(&seam->lps_done, 1);
	return TDX_SUCCESS;
}
