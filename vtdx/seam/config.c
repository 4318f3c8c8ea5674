// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.CONFIG: takes the TDMRs and the global KeyID. */
#include "module.h"

#define ARRAY_ALIGN 512

static bool is_private_hkid(const struct seam *seam, uint64_t hkid)
{
	uint64_t partitioning = seam->sampled.msr[MSR_KEYID_PARTITIONING];
	uint64_t first = NUM_MKTME_KIDS(partitioning) + 1;

	return hkid >= first && hkid < first + NUM_TDX_KIDS(partitioning);
}

/*
 * R8 has no room for flags: dynamic PAMT (bit 16 of later modules) is not offered.
 * Version 1 names the features to enable in R9; they are all on anyway.
 */
static uint64_t check_operands(const struct call *call)
{
	const struct seam_regs *in = call->in;

	if (!seam_pa_is_shared(call->seam, in->rcx, ARRAY_ALIGN))
		return operand_invalid(OPERAND_RCX);
	if (in->rdx > MAX_TDMRS || in->rdx < 1)
		return operand_invalid(OPERAND_RDX);
	if (in->r8 >> 16 || !is_private_hkid(call->seam, in->r8))
		return operand_invalid(OPERAND_R8);
	return seam_check_features(call);
}

/**
 * seam_check_features() - operands that version 1 of CONFIG and UPDATE adds
 * @call: the call
 */
uint64_t seam_check_features(const struct call *call)
{
	if (!call->version)
		return TDX_SUCCESS;
	if (call->in->r9 & ~seam_features0(call->seam))
		return operand_invalid(OPERAND_R9);
	return call->in->r10 ? operand_invalid(OPERAND_R10) : TDX_SUCCESS;
}

/**
 * seam_all_lps_done() - whether every LP that firmware enabled ran TDH.SYS.LP.INIT
 * @seam: module
 */
bool seam_all_lps_done(struct seam *seam)
{
	return atomic_load(&seam->lps_done) >= seam->config.lps;
}

/**
 * tdh_sys_config() - TDH.SYS.CONFIG
 * @call: the call; holds the module lock exclusively
 *
 * A failed one leaves the state alone and may be repeated (TDX module ABI spec).
 */
uint64_t tdh_sys_config(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t status;

	if (atomic_load(&seam->sys) != SEAM_SYSINIT_DONE || !seam_all_lps_done(seam))
		return TDX_SYS_CONFIG_NOT_PENDING;
	status = check_operands(call);
	if (status)
		return status;
	seam->hkid = call->in->r8;
	status = seam_check_tdmrs(seam, call->in->rcx, call->in->rdx);
	if (status)
		return status;
	seam->tdmrs.count = call->in->rdx;
	seam->package_bitmap = 0;
	atomic_store(&seam->sys, SEAM_SYSCONFIG_DONE);
	return TDX_SUCCESS;
}
