// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.KEY.CONFIG: gives a package its key for the global KeyID. */
#include "module.h"

/* MKTME_KEY_PROGRAM.KEYID_CTRL */
#define KEYID_SET_KEY_RANDOM 1u
#define KEYID_CTRL(command, algorithm) ((command) | (algorithm) << 8)

static uint32_t key_algorithm(const struct seam *seam)
{
	uint32_t active = TME_ALGORITHMS(seam->sampled.msr[MSR_TME_ACTIVATE]);

	if (seam->config.no_integrity)
		return active & AES_XTS_256 ? AES_XTS_256 : AES_XTS_128;
	return active & AES_XTS_256_INTEGRITY ? AES_XTS_256_INTEGRITY : AES_XTS_128_INTEGRITY;
}

static uint64_t program_key(struct call *call)
{
	struct seam *seam = call->seam;
	uint32_t ctrl = KEYID_CTRL(KEYID_SET_KEY_RANDOM, key_algorithm(seam));

	switch (seam->ops.pconfig(seam->opaque, call->lp, seam->hkid, ctrl)) {
	case SEAM_PCONFIG_SUCCESS:
		return TDX_SUCCESS;
	case SEAM_PCONFIG_NO_ENTROPY:
		return TDX_KEY_GENERATION_FAILED;
	case SEAM_PCONFIG_BUSY:
		return TDX_OPERAND_BUSY | OPERAND_KET;
	default:
		call->fatal = true;
		return TDX_SUCCESS;
	}
}

/**
 * tdh_sys_key_config() - TDH.SYS.KEY.CONFIG, once a package
 * @call: the call; holds the module lock exclusively
 *
 * The last package makes the module ready. A package that could not get its key
 * may try again.
 */
uint64_t tdh_sys_key_config(struct call *call)
{
	struct seam *seam = call->seam;
	uint32_t bit = 1u << seam->lp[call->lp].package;
	uint64_t status;

	if (atomic_load(&seam->sys) != SEAM_SYSCONFIG_DONE)
		return TDX_SYS_KEY_CONFIG_NOT_PENDING;
	if (seam->package_bitmap & bit)
		return TDX_KEY_CONFIGURED;
	status = program_key(call);
	if (status || call->fatal)
		return status;
	seam->package_bitmap |= bit;
	if (atomic_fetch_add(&seam->packages_done, 1) + 1 == seam->config.packages)
		atomic_store(&seam->sys, SEAM_SYS_READY);
	return TDX_SUCCESS;
}
