// SPDX-License-Identifier: GPL-2.0-or-later
/* Runtime update: TDH.SYS.SHUTDOWN of the old module, TDH.SYS.UPDATE of the new one. */
#include "module.h"

/* What 1.5.01 writes after the header at handoff version 0. */
#define HANDOFF_BYTES 53386

/* RCX of modules after 1.5.01: version, bit 16, and nothing else. */
#define SHUTDOWN_HV(rcx) (0xffff & (rcx))
#define SHUTDOWN_RESERVED (~0ull << 17)

/**
 * tdh_sys_lp_shutdown() - TDH.SYS.LP.SHUTDOWN, kept for hosts of the 1.0 era
 * @call: the call
 */
uint64_t tdh_sys_lp_shutdown(struct call *call)
{
	(void)call;
	return TDX_SUCCESS;
}

/*
 * Bit 16 (later modules) asks to refuse while an operation that the new module
 * might not be able to continue is under way: without TDs there is none.
 */
static bool hv_is_accepted(const struct seam *seam, uint64_t rcx)
{
	const struct seam_config *config = &seam->config;

	if (is_later(seam)) {
		if (rcx & SHUTDOWN_RESERVED)
			return false;
		rcx = SHUTDOWN_HV(rcx);
	}
	if (config->no_downgrade)
		return rcx == config->module_hv;
	return rcx >= config->min_update_hv && rcx <= config->module_hv;
}

static void write_handoff(struct seam *seam, uint16_t hv)
{
	seam->handoff = (struct handoff){
		.hv = hv,
		.bytes = HANDOFF_BYTES,
		.hkid = seam->hkid,
		.tdmrs = seam->tdmrs,
	};
	atomic_store(&seam->handoff_valid, true);
}

static uint64_t shut_down(struct call *call)
{
	struct seam *seam = call->seam;

	/* From here nobody gets past the dispatcher; who was faster is still inside. */
	atomic_store(&seam->sys, SEAM_SYS_SHUTDOWN);
	if (atomic_load(&seam->inside) > 1) {
		atomic_store(&seam->sys, SEAM_SYS_READY);
		return TDX_SYS_BUSY;
	}
	write_handoff(seam, call->in->rcx);
	return TDX_SUCCESS;
}

/**
 * tdh_sys_shutdown() - TDH.SYS.SHUTDOWN
 * @call: the call
 *
 * Looks at RCX before it takes the lock (TDX module ABI spec).
 */
uint64_t tdh_sys_shutdown(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t status;

	if (!hv_is_accepted(seam, call->in->rcx))
		return operand_invalid(OPERAND_RCX);
	if (!seam_trylock(&seam->lock))
		return TDX_SYS_BUSY;
	seam_hold(seam, call->lp, call->leaf);
	status = shut_down(call);
	seam_unlock(&seam->lock);
	return status;
}

static bool handoff_fits(struct seam *seam)
{
	const struct handoff *handoff = &seam->handoff;

	return atomic_load(&seam->handoff_valid) && handoff->hv >= seam->config.min_update_hv &&
	       handoff->hv <= seam->config.module_hv;
}

/**
 * tdh_sys_update() - TDH.SYS.UPDATE, in place of CONFIG and KEY.CONFIG
 * @call: the call; holds the module lock exclusively
 *
 * Consumes the handoff data: keys and PAMTs are still there, and TDMR.INIT goes
 * on where it stopped.
 */
uint64_t tdh_sys_update(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t status;

	if (atomic_load(&seam->sys) != SEAM_SYSINIT_DONE || !seam_all_lps_done(seam))
		return TDX_SYS_STATE_INCORRECT;
	status = seam_check_features(call);
	if (status)
		return status;
	if (!handoff_fits(seam))
		return TDX_SYS_INVALID_HANDOFF;
	seam->tdmrs = seam->handoff.tdmrs;
	seam->hkid = seam->handoff.hkid;
	atomic_store(&seam->handoff_valid, false);
	atomic_store(&seam->sys, SEAM_SYS_READY);
	return TDX_SUCCESS;
}
