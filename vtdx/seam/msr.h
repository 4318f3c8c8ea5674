/* SPDX-License-Identifier: GPL-2.0-or-later */
/* MSRs that the module looks at, and their fields. */
#ifndef VTDX_MSR_H
#define VTDX_MSR_H

#include "bits.h"

/*
 * What TDH.SYS.INIT samples, in the order in which TDH.SYS.LP.INIT compares it (TDX
 * module ABI spec, platform checks of the two leaves).
 */
enum seam_msr {
	MSR_CORE_CAPABILITIES,
	MSR_ARCH_CAPABILITIES,
	MSR_MISC_PACKAGE_CTLS,
	MSR_XAPIC_DISABLE_STATUS,
	MSR_TSC_ADJUST,
	MSR_MTRRCAP,
	MSR_SMRR_BASE,
	MSR_SMRR_MASK,
	MSR_SMRR2_BASE,
	MSR_SMRR2_MASK,
	MSR_VMX_BASIC,
	MSR_VMX_TRUE_PINBASED,
	MSR_VMX_TRUE_PROCBASED,
	MSR_VMX_PROCBASED2,
	MSR_VMX_PROCBASED3,
	MSR_VMX_TRUE_EXIT,
	MSR_VMX_TRUE_ENTRY,
	MSR_VMX_MISC,
	MSR_VMX_EPT_VPID_CAP,
	MSR_VMX_CR0_FIXED0,
	MSR_VMX_CR0_FIXED1,
	MSR_VMX_CR4_FIXED0,
	MSR_VMX_CR4_FIXED1,
	MSR_PERF_CAPABILITIES,
	MSR_TME_CAPABILITY,
	MSR_TME_ACTIVATE,
	MSR_KEYID_PARTITIONING,
	MSR_WBINVDP,
	MSR_WBNOINVDP,
	NR_MSRS
};

/* IA32_MISC_ENABLE is looked at on every LP and never compared. */
#define MSR_ADDRESS_MISC_ENABLE 0x1a0
#define MISC_ENABLE_BOOT_NT4 BIT_ULL(22)

#define MTRRCAP_SMRR BIT_ULL(11)
#define MTRRCAP_SMRR2 BIT_ULL(13)
#define MTRRCAP_SMRR_LOCK BIT_ULL(14)

/* IA32_TME_ACTIVATE: KeyID bits, and the algorithms that may be used. */
#define TME_ACTIVATE_LOCK 1ull
#define TME_KEYID_BITS(msr) ((msr) >> 32 & 0xf)
#define TME_ALGORITHMS(msr) ((msr) >> 48 & 0xf)

/* Algorithm masks, the same in IA32_TME_CAPABILITY 3:0 and MKTME_KEY_PROGRAM. */
#define AES_XTS_128 1u
#define AES_XTS_128_INTEGRITY 2u
#define AES_XTS_256 4u
#define AES_XTS_256_INTEGRITY 8u

/* IA32_MKTME_KEYID_PARTITIONING */
#define NUM_MKTME_KIDS(msr) (0xffffffff & (msr))
#define NUM_TDX_KIDS(msr) ((msr) >> 32)

#endif /* VTDX_MSR_H */
