// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.INIT: verifies the platform and samples what every LP has to share. */
#include "module.h"

#define SEAM_CAPABILITIES_NEEDED (BIT_ULL(4) | BIT_ULL(5))
#define MAX_KEYIDS 2048
/* Minus one, as loader and module count: 14 pages hold the module's handoff data. */
#define MIN_HANDOFF_PAGES 13

/* Capability MSRs in check order; mask 0: sampled only. */
static const struct {
	enum seam_msr msr;
	uint64_t mask, want;
} capability_msrs[] = {
	{ MSR_CORE_CAPABILITIES, 0, 0 },
	/* RDCL_NO, IBRS_ALL and the other bits that say "not affected"; RSBA (bit 2) clear */
	{ MSR_ARCH_CAPABILITIES, 0x20fd6f, 0x20fd6b },
	{ MSR_XAPIC_DISABLE_STATUS, ~0ull, 1 },
	{ MSR_MISC_PACKAGE_CTLS, 1, 1 },
	{ MSR_PERF_CAPABILITIES, BIT(13), BIT(13) },
	{ MSR_TSC_ADJUST, 0, 0 },
};

static uint64_t verify_capability_msrs(struct call *call)
{
	for (size_t i = 0; i < ARRAY_SIZE(capability_msrs); i++) {
		enum seam_msr msr = capability_msrs[i].msr;

		if (!seam_sample(call, msr))
			return TDX_SUCCESS;
		if ((call->seam->sampled.msr[msr] & capability_msrs[i].mask) !=
		    capability_msrs[i].want)
			return incorrect_msr(msr);
	}
	return seam_verify_boot_nt4(call);
}

/**
 * seam_verify_boot_nt4() - whether firmware limits CPUID
 * @call: TDH.SYS.INIT or TDH.SYS.LP.INIT
 */
uint64_t seam_verify_boot_nt4(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t value = 0;

	if (seam->ops.rdmsr(seam->opaque, call->lp, MSR_ADDRESS_MISC_ENABLE, &value))
		call->fatal = true;
	return value & MISC_ENABLE_BOOT_NT4 ? TDX_LIMIT_CPUID_MAXVAL_SET : TDX_SUCCESS;
}

static uint32_t wanted_algorithms(const struct seam *seam)
{
	return seam->config.no_integrity ? AES_XTS_128 | AES_XTS_256 :
					   AES_XTS_128_INTEGRITY | AES_XTS_256_INTEGRITY;
}

static uint64_t verify_encryption(struct call *call)
{
	const struct seam *seam = call->seam;
	const uint64_t *msr = seam->sampled.msr;

	if (!seam_sample(call, MSR_TME_ACTIVATE))
		return TDX_SUCCESS;
	if (!(msr[MSR_TME_ACTIVATE] & TME_ACTIVATE_LOCK))
		return incorrect_msr(MSR_TME_ACTIVATE);
	if (!seam_sample(call, MSR_TME_CAPABILITY))
		return TDX_SUCCESS;
	if (!(msr[MSR_TME_CAPABILITY] & wanted_algorithms(seam)))
		return incorrect_msr(MSR_TME_CAPABILITY);
	if (!(TME_ALGORITHMS(msr[MSR_TME_ACTIVATE]) & wanted_algorithms(seam)))
		return incorrect_msr(MSR_TME_ACTIVATE);
	return TDX_SUCCESS;
}

static uint64_t verify_keyids(struct call *call)
{
	const uint64_t *msr = call->seam->sampled.msr;
	uint64_t partitioning;

	if (!seam_sample(call, MSR_KEYID_PARTITIONING))
		return TDX_SUCCESS;
	partitioning = msr[MSR_KEYID_PARTITIONING];
	if (NUM_MKTME_KIDS(partitioning) + NUM_TDX_KIDS(partitioning) >= MAX_KEYIDS)
		return TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED | MAX_KEYIDS;
	if (!seam_sample(call, MSR_WBINVDP) || !seam_sample(call, MSR_WBNOINVDP))
		return TDX_SUCCESS;
	return msr[MSR_WBINVDP] == msr[MSR_WBNOINVDP] ? TDX_SUCCESS : incorrect_msr(MSR_WBNOINVDP);
}

static uint64_t verify_seam_capabilities(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t value = seam->ops.seam_capabilities(seam->opaque, call->lp);

	seam->sampled.seam_capabilities = value;
	return (value & SEAM_CAPABILITIES_NEEDED) == SEAM_CAPABILITIES_NEEDED ?
		       TDX_SUCCESS :
		       TDX_INCOMPATIBLE_SEAM_CAPABILITIES;
}

/* What loader and binary could disagree on. A config states both at once, except: */
static uint64_t verify_sigstruct(struct call *call)
{
	return call->seam->config.num_handoff_pages >= MIN_HANDOFF_PAGES ?
		       TDX_SUCCESS :
		       TDX_SYS_INCOMPATIBLE_SIGSTRUCT;
}

static uint64_t verify_entropy(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t canary;

	return seam->ops.rdrand(seam->opaque, call->lp, &canary) ? TDX_SUCCESS : TDX_RND_NO_ENTROPY;
}

static uint64_t (*const steps[])(struct call *call) = {
	verify_capability_msrs, seam_verify_cpuid, seam_verify_vmx,   verify_encryption,
	verify_keyids,		seam_verify_cmrs,  seam_verify_smrrs, verify_seam_capabilities,
	verify_sigstruct,	verify_entropy,
};

static uint64_t verify_platform(struct call *call)
{
	uint64_t status = TDX_SUCCESS;

	for (size_t i = 0; i < ARRAY_SIZE(steps) && !status && !call->fatal; i++)
		status = steps[i](call);
	return status;
}

/* RCX, and from version 1 on R8, which configures diagnostics that are not there. */
static uint64_t check_operands(const struct call *call)
{
	if (call->in->rcx)
		return operand_invalid(OPERAND_RCX);
	if (call->version && call->in->r8)
		return operand_invalid(OPERAND_R8);
	return TDX_SUCCESS;
}

/**
 * tdh_sys_init() - TDH.SYS.INIT, once a module, on any LP
 * @call: the call; holds the module lock exclusively
 *
 * Operands come before the state (TDX module ABI spec). IA32_TSX_CTRL is cleared
 * and restored by the real module while it looks at CPUID: nobody can see that.
 */
uint64_t tdh_sys_init(struct call *call)
{
	struct seam *seam = call->seam;
	uint64_t status = check_operands(call);

	if (status)
		return status;
	if (atomic_load(&seam->sys) != SEAM_SYSINIT_PENDING)
		return TDX_SYS_INIT_NOT_PENDING;
	status = verify_platform(call);
	if (status || call->fatal)
		return status;
	atomic_store(&seam->lps_done, 0);
	atomic_store(&seam->packages_done, 0);
	seam->package_bitmap = 0;
	atomic_store(&seam->sys, SEAM_SYSINIT_DONE);
	return TDX_SUCCESS;
}
