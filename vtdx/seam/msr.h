/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MSRs that TDH.SYS.INIT samples, in the order in which TDH.SYS.LP.INIT compares
 * them (TDX module ABI spec, platform checks of the two leaves).
 */
#ifndef VTDX_MSR_H
#define VTDX_MSR_H

#define SEAM_MSRS(X) \
	X(CORE_CAPABILITIES, 0xcf) \
	X(ARCH_CAPABILITIES, 0x10a) \
	X(MISC_PACKAGE_CTLS, 0xbc) \
	X(XAPIC_DISABLE_STATUS, 0xbd) \
	X(TSC_ADJUST, 0x3b) \
	X(MTRRCAP, 0xfe) \
	X(SMRR_BASE, 0x1f2) \
	X(SMRR_MASK, 0x1f3) \
	X(SMRR2_BASE, 0x1f6) \
	X(SMRR2_MASK, 0x1f7) \
	X(VMX_BASIC, 0x480) \
	X(VMX_TRUE_PINBASED, 0x48d) \
	X(VMX_TRUE_PROCBASED, 0x48e) \
	X(VMX_PROCBASED2, 0x48b) \
	X(VMX_PROCBASED3, 0x492) \
	X(VMX_TRUE_EXIT, 0x48f) \
	X(VMX_TRUE_ENTRY, 0x490) \
	X(VMX_MISC, 0x485) \
	X(VMX_EPT_VPID_CAP, 0x48c) \
	X(VMX_CR0_FIXED0, 0x486) \
	X(VMX_CR0_FIXED1, 0x487) \
	X(VMX_CR4_FIXED0, 0x488) \
	X(VMX_CR4_FIXED1, 0x489) \
	X(PERF_CAPABILITIES, 0x345) \
	X(TME_CAPABILITY, 0x981) \
	X(TME_ACTIVATE, 0x982) \
	X(KEYID_PARTITIONING, 0x87) \
	X(WBINVDP, 0x98) \
	X(WBNOINVDP, 0x99)

#define SEAM_MSR_INDEX(name, address) MSR_##name,
enum seam_msr { SEAM_MSRS(SEAM_MSR_INDEX) NR_MSRS };
#undef SEAM_MSR_INDEX

/* IA32_MISC_ENABLE is looked at on every LP and never compared. */
#define MSR_ADDRESS_MISC_ENABLE 0x1a0
#define MISC_ENABLE_BOOT_NT4 (1ull << 22)

#define MTRRCAP_SMRR (1ull << 11)
#define MTRRCAP_SMRR2 (1ull << 13)
#define MTRRCAP_SMRR_LOCK (1ull << 14)

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
#define NUM_MKTME_KIDS(msr) ((msr) & 0xffffffff)
#define NUM_TDX_KIDS(msr) ((msr) >> 32)

#endif /* VTDX_MSR_H */
