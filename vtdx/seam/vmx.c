// SPDX-License-Identifier: GPL-2.0-or-later
/* VMX capabilities that TDs and their nested VMs need (TDX module ABI spec, TDH.SYS.INIT). */
#include "module.h"

#define MAX_VMCS_BYTES 2048
#define VMX_BASIC_VMCS_BYTES(msr) ((msr) >> 32 & 0x1fff)
#define VMX_BASIC_INS_OUTS BIT_ULL(54)
#define VMX_BASIC_TRUE_CTLS BIT_ULL(55)

#define VMX_MISC_NEEDED (BIT(5) | BIT(6) | BIT(7) | BIT(14) | BIT(29))
#define VMX_MISC_CR3_TARGETS(msr) ((msr) >> 16 & 0x1ff)
#define VMX_MISC_CR3_TARGETS_MIN 4

#define EPT_VPID_NEEDED 0x10106334041ull

#define GUEST_CR0 0x21ull
#define GUEST_CR0_NESTED 0x8005001full
#define GUEST_CR4 0x2040ull
/* PE and PG are fixed to 1 for VMX operation, yet not for an unrestricted guest. */
#define CR0_UNRESTRICTED (BIT_ULL(0) | BIT_ULL(31))

#define PROCBASED2_WAITPKG BIT(26)
#define PROCBASED2_ENCLV BIT(28)
#define CPUID_7_ECX_WAITPKG BIT(5)

/**
 * struct controls - what a VMX control MSR has to allow
 * @msr: the MSR
 * @init: controls that the module sets
 * @variable: controls that it sets or clears as needed
 * @unknown: controls that may be fixed to 1
 */
struct controls {
	enum seam_msr msr;
	uint64_t init, variable, unknown;
};

static const struct controls td_controls[] = {
	{ MSR_VMX_TRUE_PINBASED, 0x29, 0x80, 0xffffff16 },
	{ MSR_VMX_TRUE_PROCBASED, 0x91220088, 0x20400c00, 0x4046173 },
	{ MSR_VMX_PROCBASED2, 0x133cb3fa, 0xcc000400, 0 },
	{ MSR_VMX_PROCBASED3, 0x80, 0x20, 0xffffffffffffff40 },
	{ MSR_VMX_TRUE_EXIT, 0x1f3c8204, 0x40001000, 0x36dfb },
	{ MSR_VMX_TRUE_ENTRY, 0x3ec004, 0x402200, 0xff8011fb },
};

static const struct controls nested_controls[] = {
	{ MSR_VMX_TRUE_PINBASED, 0x29, 0, 0xffffff16 },
	{ MSR_VMX_TRUE_PROCBASED, 0x91220088, 0x68d81e04, 0x4046173 },
	{ MSR_VMX_PROCBASED2, 0x1338b3fa, 0xc513e0c, 0 },
	{ MSR_VMX_PROCBASED3, 0x80, 0x2e, 0xffffffffffffff40 },
	{ MSR_VMX_TRUE_EXIT, 0x1f3c8204, 0x40001000, 0x36dfb },
	{ MSR_VMX_TRUE_ENTRY, 0x3ec004, 0x402200, 0xff8011fb },
};

static uint32_t wanted_init(const struct seam *seam, const struct controls *controls,
			    uint32_t allowed1)
{
	uint32_t init = controls->init;

	if (controls->msr != MSR_VMX_PROCBASED2)
		return init;
	if (seam_sampled_cpuid(seam, 7, 0, 2) & CPUID_7_ECX_WAITPKG)
		init |= PROCBASED2_WAITPKG;
	if (!(allowed1 & PROCBASED2_ENCLV))
		init &= ~PROCBASED2_ENCLV;
	return init;
}

static bool controls_allowed(const struct seam *seam, const struct controls *controls)
{
	uint64_t msr = seam->sampled.msr[controls->msr];
	uint32_t allowed0 = msr, allowed1 = msr >> 32;
	uint32_t init = wanted_init(seam, controls, allowed1);

	/* This one has no allowed-0 half: 64 controls, each may always be 0. */
	if (controls->msr == MSR_VMX_PROCBASED3)
		return !(~msr & (controls->init | controls->variable));
	return !(allowed0 & ~(init | controls->unknown)) && !(~allowed1 & init) &&
	       !((allowed0 | ~allowed1) & controls->variable);
}

static uint64_t verify_controls(struct call *call, const struct controls *controls, size_t count,
				bool sample)
{
	for (size_t i = 0; i < count; i++) {
		if (sample && !seam_sample(call, controls[i].msr))
			return TDX_SUCCESS;
		if (!controls_allowed(call->seam, &controls[i]))
			return incorrect_msr(controls[i].msr);
	}
	return TDX_SUCCESS;
}

static bool basic_is_right(uint64_t msr)
{
	return VMX_BASIC_VMCS_BYTES(msr) <= MAX_VMCS_BYTES && msr & VMX_BASIC_INS_OUTS &&
	       msr & VMX_BASIC_TRUE_CTLS;
}

static bool misc_is_right(uint64_t msr)
{
	return (msr & VMX_MISC_NEEDED) == VMX_MISC_NEEDED &&
	       VMX_MISC_CR3_TARGETS(msr) >= VMX_MISC_CR3_TARGETS_MIN;
}

static bool ept_vpid_is_right(uint64_t msr)
{
	return (msr & EPT_VPID_NEEDED) == EPT_VPID_NEEDED;
}

static bool cr0_fixed0_is_right(uint64_t msr)
{
	return !(msr & ~CR0_UNRESTRICTED & ~GUEST_CR0);
}

static bool cr0_fixed1_is_right(uint64_t msr)
{
	return (msr & GUEST_CR0) == GUEST_CR0;
}

static bool cr4_fixed0_is_right(uint64_t msr)
{
	return !(msr & ~GUEST_CR4);
}

static bool cr4_fixed1_is_right(uint64_t msr)
{
	return (msr & GUEST_CR4) == GUEST_CR4;
}

static const struct {
	enum seam_msr msr;
	bool (*is_right)(uint64_t msr);
} capabilities[] = {
	{ MSR_VMX_MISC, misc_is_right },
	{ MSR_VMX_EPT_VPID_CAP, ept_vpid_is_right },
	{ MSR_VMX_CR0_FIXED0, cr0_fixed0_is_right },
	{ MSR_VMX_CR0_FIXED1, cr0_fixed1_is_right },
	{ MSR_VMX_CR4_FIXED0, cr4_fixed0_is_right },
	{ MSR_VMX_CR4_FIXED1, cr4_fixed1_is_right },
};

static uint64_t verify_capabilities(struct call *call)
{
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		if (!seam_sample(call, capabilities[i].msr))
			return TDX_SUCCESS;
		if (!capabilities[i].is_right(call->seam->sampled.msr[capabilities[i].msr]))
			return incorrect_msr(capabilities[i].msr);
	}
	return TDX_SUCCESS;
}

/* Whichever of the two MSRs is at fault, the module names the first. */
static uint64_t verify_nested_cr0(const struct seam *seam)
{
	uint64_t fixed0 = seam->sampled.msr[MSR_VMX_CR0_FIXED0] & ~CR0_UNRESTRICTED;
	uint64_t fixed1 = seam->sampled.msr[MSR_VMX_CR0_FIXED1];

	if ((fixed0 | ~fixed1) & GUEST_CR0_NESTED)
		return incorrect_msr(MSR_VMX_CR0_FIXED0);
	return TDX_SUCCESS;
}

/**
 * seam_verify_vmx() - VMX step of TDH.SYS.INIT
 * @call: the call; CPUID is sampled already
 */
uint64_t seam_verify_vmx(struct call *call)
{
	uint64_t status;

	if (!seam_sample(call, MSR_VMX_BASIC))
		return TDX_SUCCESS;
	if (!basic_is_right(call->seam->sampled.msr[MSR_VMX_BASIC]))
		return incorrect_msr(MSR_VMX_BASIC);
	status = verify_controls(call, td_controls, ARRAY_SIZE(td_controls), true);
	if (status || call->fatal)
		return status;
	status = verify_capabilities(call);
	if (status || call->fatal)
		return status;
	status = verify_controls(call, nested_controls, ARRAY_SIZE(nested_controls), false);
	return status ? status : verify_nested_cr0(call->seam);
}
