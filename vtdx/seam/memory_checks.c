// SPDX-License-Identifier: GPL-2.0-or-later
/* What TDH.SYS.INIT checks of memory: the CMR table and the SMRRs. */
#include "module.h"

#define SMRR_ADDRESS 0xfffff000u
#define SMRR_LOCK BIT_ULL(10)
#define SMRR_VALID BIT_ULL(11)

#define MAX_SMRRS 2

static bool cmr_is_valid(const struct seam *seam, const struct seam_cmr *cmr)
{
	uint64_t last = cmr->base_pa + cmr->bytes - 1;

	return last >= cmr->base_pa && !seam_has_keyid(seam, cmr->base_pa) &&
	       !seam_has_keyid(seam, last) && !(cmr->base_pa % KIB4) && !(cmr->bytes % KIB4);
}

/**
 * seam_verify_cmrs() - whether firmware's CMR table makes sense
 * @call: TDH.SYS.INIT; IA32_TME_ACTIVATE is sampled already
 *
 * Empty entries are skipped wherever they stand, and an empty table is fine.
 */
uint64_t seam_verify_cmrs(struct call *call)
{
	const struct seam_config *config = &call->seam->config;
	uint64_t start = 0, end = 0;

	for (uint32_t i = 0; i < config->nr_cmrs; i++) {
		const struct seam_cmr *cmr = &config->cmrs[i];

		if (!cmr->bytes)
			continue;
		if (!cmr_is_valid(call->seam, cmr) || cmr->base_pa < start || cmr->base_pa < end)
			return TDX_CMR_LIST_INVALID;
		start = cmr->base_pa;
		end = cmr->base_pa + cmr->bytes;
	}
	return TDX_SUCCESS;
}

struct smrr {
	uint64_t base, mask;
};

static uint32_t get_smrrs(const struct seam *seam, struct smrr smrrs[MAX_SMRRS])
{
	const uint64_t *msr = seam->sampled.msr;

	smrrs[0] = (struct smrr){ msr[MSR_SMRR_BASE], msr[MSR_SMRR_MASK] };
	smrrs[1] = (struct smrr){ msr[MSR_SMRR2_BASE], msr[MSR_SMRR2_MASK] };
	return seam->sampled.smrr2 ? 2 : 1;
}

static struct range smrr_range(const struct smrr *smrr)
{
	uint32_t mask = smrr->mask & SMRR_ADDRESS;

	return (struct range){ smrr->base & SMRR_ADDRESS, -(uint64_t)mask & 0xffffffff };
}

static bool smrr_is_valid(const struct smrr *smrr)
{
	uint32_t mask = smrr->mask & SMRR_ADDRESS;
	uint32_t size = -mask;

	/* Contiguous up to bit 31: its two's complement is a power of two. */
	return mask && !(size & (size - 1)) && !(smrr->base & SMRR_ADDRESS & (size - 1));
}

static uint64_t smrr_overlap(const struct seam_config *config, const struct smrr *smrr,
			     uint64_t index)
{
	struct range range = smrr_range(smrr);

	for (uint64_t i = 0; i < config->nr_cmrs; i++) {
		struct range cmr = { config->cmrs[i].base_pa, config->cmrs[i].bytes };

		if (cmr.bytes && ranges_overlap(range, cmr))
			return TDX_SMRR_OVERLAPS_CMR | index | i << 8;
	}
	return TDX_SUCCESS;
}

static bool sample_smrrs(struct call *call)
{
	struct sampled *sampled = &call->seam->sampled;

	sampled->smrr2 = sampled->msr[MSR_MTRRCAP] & MTRRCAP_SMRR2 &&
			 !call->seam->config.skip_smrr2;
	if (!seam_sample(call, MSR_SMRR_BASE) || !seam_sample(call, MSR_SMRR_MASK))
		return false;
	return !sampled->smrr2 ||
	       (seam_sample(call, MSR_SMRR2_BASE) && seam_sample(call, MSR_SMRR2_MASK));
}

/**
 * seam_verify_smrrs() - whether SMM memory is locked and apart from CMRs
 * @call: TDH.SYS.INIT
 */
uint64_t seam_verify_smrrs(struct call *call)
{
	struct smrr smrrs[MAX_SMRRS];
	uint64_t status = TDX_SUCCESS;
	uint64_t mtrrcap;
	uint32_t count;

	if (!seam_sample(call, MSR_MTRRCAP))
		return TDX_SUCCESS;
	mtrrcap = call->seam->sampled.msr[MSR_MTRRCAP];
	if (!(mtrrcap & MTRRCAP_SMRR))
		return TDX_SMRR_NOT_SUPPORTED;
	if (!(mtrrcap & MTRRCAP_SMRR_LOCK))
		return TDX_SMRR_LOCK_NOT_SUPPORTED;
	if (!sample_smrrs(call))
		return TDX_SUCCESS;
	count = get_smrrs(call->seam, smrrs);
	for (uint32_t i = 0; i < count; i++)
		if (!(smrrs[i].mask & SMRR_LOCK))
			return TDX_SMRR_NOT_LOCKED | i;
	for (uint32_t i = 0; i < count; i++)
		if (smrrs[i].mask & SMRR_VALID && !smrr_is_valid(&smrrs[i]))
			return TDX_INVALID_SMRR_CONFIGURATION | i;
	for (uint32_t i = 0; i < count && !status; i++)
		if (smrrs[i].mask & SMRR_VALID)
			status = smrr_overlap(&call->seam->config, &smrrs[i], i);
	return status;
}
