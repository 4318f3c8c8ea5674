// SPDX-License-Identifier: GPL-2.0-or-later
/* MSRs as the module reads them. */
#include "module.h"

const uint32_t seam_msr_address[NR_MSRS] = {
	[MSR_CORE_CAPABILITIES] = 0xcf,	  [MSR_ARCH_CAPABILITIES] = 0x10a,
	[MSR_MISC_PACKAGE_CTLS] = 0xbc,	  [MSR_XAPIC_DISABLE_STATUS] = 0xbd,
	[MSR_TSC_ADJUST] = 0x3b,	  [MSR_MTRRCAP] = 0xfe,
	[MSR_SMRR_BASE] = 0x1f2,	  [MSR_SMRR_MASK] = 0x1f3,
	[MSR_SMRR2_BASE] = 0x1f6,	  [MSR_SMRR2_MASK] = 0x1f7,
	[MSR_VMX_BASIC] = 0x480,	  [MSR_VMX_TRUE_PINBASED] = 0x48d,
	[MSR_VMX_TRUE_PROCBASED] = 0x48e, [MSR_VMX_PROCBASED2] = 0x48b,
	[MSR_VMX_PROCBASED3] = 0x492,	  [MSR_VMX_TRUE_EXIT] = 0x48f,
	[MSR_VMX_TRUE_ENTRY] = 0x490,	  [MSR_VMX_MISC] = 0x485,
	[MSR_VMX_EPT_VPID_CAP] = 0x48c,	  [MSR_VMX_CR0_FIXED0] = 0x486,
	[MSR_VMX_CR0_FIXED1] = 0x487,	  [MSR_VMX_CR4_FIXED0] = 0x488,
	[MSR_VMX_CR4_FIXED1] = 0x489,	  [MSR_PERF_CAPABILITIES] = 0x345,
	[MSR_TME_CAPABILITY] = 0x981,	  [MSR_TME_ACTIVATE] = 0x982,
	[MSR_KEYID_PARTITIONING] = 0x87,  [MSR_WBINVDP] = 0x98,
	[MSR_WBNOINVDP] = 0x99,
};

/**
 * seam_sample() - read an MSR into what TDH.SYS.INIT sampled
 * @call: TDH.SYS.INIT
 * @msr: which
 *
 * Return: false where it faults: the module has no handler and stops for good.
 */
bool seam_sample(struct call *call, enum seam_msr msr)
{
	struct seam *seam = call->seam;

	if (seam->ops.rdmsr(seam->opaque, call->lp, seam_msr_address[msr], &seam->sampled.msr[msr]))
		call->fatal = true;
	return !call->fatal;
}
