// SPDX-License-Identifier: GPL-2.0-only
/* What TDX needs of the processor and the firmware, before any SEAMCALL. */
#include <linux/bits.h>
#include <linux/tdxhost.h>

#include <asm/cpufeature.h>
#include <asm/msr.h>

#include "compat.h"
#include "tdxhost.h"

/* [31:0] KeyIDs for MKTME, [63:32] private ones for TDX, which follow them */
#define MSR_MKTME_KEYID_PARTITIONING 0x87

#define CPUID_1_ECX_VMX BIT(5)

/* One for the TDX module itself, and one more or there could be no TD. */
#define KEYIDS_NEEDED 2

static u32 processor_code(const struct tdxhost_platform *platform)
{
	const u64 wanted = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
	u64 feat_ctl;

	if (!platform->nr_keyids)
		return TDXHOST_CODE_NO_KEYIDS;
	if (platform->nr_keyids < KEYIDS_NEEDED)
		return TDXHOST_CODE_ONE_KEYID;
	/* X86_FEATURE_VMX is cleared as well where only the firmware forbids VMX. */
	if (!(cpuid_ecx(1) & CPUID_1_ECX_VMX))
		return TDXHOST_CODE_NO_VMX;
	if (!boot_cpu_has(X86_FEATURE_MOVDIR64B))
		return TDXHOST_CODE_NO_MOVDIR64B;
	if (rdmsrq_safe(MSR_IA32_FEAT_CTL, &feat_ctl) || (feat_ctl & wanted) != wanted)
		return TDXHOST_CODE_VMX_LOCKED_OFF;
	return TDXHOST_CODE_NONE;
}

/**
 * tdxhost_platform_get() - what this CPU and the firmware offer
 * @platform: filled
 *
 * Context: any. All but IA32_FEATURE_CONTROL is the same on every CPU.
 */
void tdxhost_platform_get(struct tdxhost_platform *platform)
{
	u64 partitioning;

	*platform = (struct tdxhost_platform){};
	if (!rdmsrq_safe(MSR_MKTME_KEYID_PARTITIONING, &partitioning)) {
		platform->nr_keyids = partitioning >> 32;
		platform->keyid_first = (u32)partitioning + 1;
	}
	platform->code = processor_code(platform);
}
