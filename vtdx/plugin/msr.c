// SPDX-License-Identifier: GPL-2.0-or-later
/* The platform's MSRs: those of [msr]. All others are QEMU's. */
#include <stdlib.h>
#include <string.h>

#include "fault.h"
#include "vtdx.h"
#include "witness.h"

#define MSR_MTRRCAP 0xfe
#define MSR_SEAMRR_MASK 0x1401

enum policy {
	POLICY_READ_ONLY, /* writes fault */
	POLICY_LOCKABLE, /* writes fault when @lock_bits of @lock_msr are set */
	POLICY_COMMAND, /* writes do something and store nothing */
};

/*
 * What software may write. MSRs that are not here take and keep any value. SDM
 * vol. 4; the ranges of VMX and SMRR from vol. 3, appendix A and 33.4.2.4.
 */
static const struct {
	uint32_t first;
	uint32_t last;
	enum policy policy;
	uint32_t lock_msr;
	uint64_t lock_bits;
} policies[] = {
	{ 0x35, 0x35, POLICY_READ_ONLY, 0, 0 }, /* CORE_THREAD_COUNT */
	{ 0x3a, 0x3a, POLICY_LOCKABLE, 0x3a, 1 }, /* FEATURE_CONTROL */
	{ 0x87, 0x87, POLICY_READ_ONLY, 0, 0 }, /* MKTME_KEYID_PARTITIONING */
	{ 0x8b, 0x8b, POLICY_COMMAND, 0, 0 }, /* BIOS_SIGN_ID: CPUID puts the revision back */
	{ 0x98, 0x99, POLICY_COMMAND, 0, 0 }, /* WBINVDP, WBNOINVDP */
	{ 0xa0, 0xa0, POLICY_READ_ONLY, 0, 0 }, /* SGX_MCU_ERRORCODE */
	{ 0xbd, 0xbd, POLICY_READ_ONLY, 0, 0 }, /* XAPIC_DISABLE_STATUS */
	{ 0xce, 0xcf, POLICY_READ_ONLY, 0, 0 }, /* PLATFORM_INFO, CORE_CAPABILITIES */
	{ 0xfe, 0xfe, POLICY_READ_ONLY, 0, 0 }, /* MTRRCAP */
	{ 0x10a, 0x10a, POLICY_READ_ONLY, 0, 0 }, /* ARCH_CAPABILITIES */
	{ 0x1f2, 0x1f3, POLICY_READ_ONLY, 0, 0 }, /* SMRR: SMM alone */
	{ 0x1f6, 0x1f7, POLICY_READ_ONLY, 0, 0 }, /* SMRR2: likewise */
	{ 0x345, 0x345, POLICY_READ_ONLY, 0, 0 }, /* PERF_CAPABILITIES */
	{ 0x480, 0x493, POLICY_READ_ONLY, 0, 0 }, /* VMX capabilities */
	{ 0x500, 0x500, POLICY_READ_ONLY, 0, 0 }, /* SGX_SVN_STATUS */
	{ 0x503, 0x503, POLICY_READ_ONLY, 0, 0 }, /* SGX_DEBUG_MODE */
	{ 0x981, 0x981, POLICY_READ_ONLY, 0, 0 }, /* TME_CAPABILITY */
	{ 0x982, 0x982, POLICY_LOCKABLE, 0x982, 1 }, /* TME_ACTIVATE */
	{ 0x1400, 0x1401, POLICY_LOCKABLE, MSR_SEAMRR_MASK, 1 << 10 }, /* SEAMRR */
};

static struct platform_msr *line_of(const struct platform *platform, guint i)
{
	return &g_array_index(platform->msrs, struct platform_msr, i);
}

/* Index of the line that holds for a CPU, or -1: its own goes before that of all. */
static int find(const struct platform *platform, unsigned int cpu, uint32_t msr)
{
	int found = -1;

	for (guint i = 0; i < platform->msrs->len; i++) {
		const struct platform_msr *line = line_of(platform, i);

		if (msr < line->first || msr > line->last)
			continue;
		if (line->cpu == cpu || line->cpu == PLATFORM_ALL_CPUS)
			if (found < 0 || line->cpu == cpu ||
			    line_of(platform, found)->cpu == PLATFORM_ALL_CPUS)
				found = i;
	}
	return found;
}

/* Where a CPU's value of an MSR is, for reads without a search, or NULL where it has none. */
static const uint64_t *value_of(const struct platform *platform, const struct vcpu *vcpu,
				uint32_t msr)
{
	int i = find(platform, vcpu->index, msr);

	return i < 0 || line_of(platform, i)->gp ? NULL : &vcpu->msr[i];
}

/**
 * msr_init - give every vCPU its own copy of the values
 * @vtdx: the platform
 */
void msr_init(struct vtdx *vtdx)
{
	guint nr = vtdx->platform->msrs->len;

	for (unsigned int lp = 0; lp < vtdx->nr_vcpus; lp++) {
		struct vcpu *vcpu = &vtdx->vcpus[lp];

		vcpu->msr = g_new0(uint64_t, MAX(nr, 1u));
		for (guint i = 0; i < nr; i++)
			vcpu->msr[i] = line_of(vtdx->platform, i)->value;
		vcpu->mtrrcap = value_of(vtdx->platform, vcpu, MSR_MTRRCAP);
		vcpu->seamrr_mask = value_of(vtdx->platform, vcpu, MSR_SEAMRR_MASK);
	}
}

/**
 * msr_read - read an MSR of the platform
 * @vtdx: the platform
 * @lp: logical processor
 * @msr: address
 * @value: its value, left alone on failure
 *
 * Return: false when reading it faults or the platform does not have it.
 */
bool msr_read(struct vtdx *vtdx, unsigned int lp, uint32_t msr, uint64_t *value)
{
	int i = find(vtdx->platform, lp, msr);

	if (i < 0 || line_of(vtdx->platform, i)->gp)
		return false;
	*value = __atomic_load_n(&vtdx->vcpus[lp].msr[i], __ATOMIC_RELAXED);
	return true;
}

/**
 * on_rdmsr - answer RDMSR
 * @index: the vCPU
 * @userdata: the site
 *
 * QEMU executes it, to whom all is well or unknown and reads as 0, and so the flags
 * stay as they are; on_after_rdmsr() puts the value in place.
 */
void on_rdmsr(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vtdx *vtdx = site->vtdx;
	struct vcpu *vcpu = site_vcpu(site, index);
	uint32_t msr = vcpu_read(vcpu, GPR_RCX);
	struct fault fault;
	uint64_t value = 0;
	bool struck, gp;

	if (!vcpu_is_kernel(vcpu))
		return;
	struck = fault_strike(vtdx->platform, FAULT_AT_RDMSR, msr, index, &fault);
	if (!struck && find(vtdx->platform, index, msr) < 0)
		return;
	if (struck) {
		value = fault.value;
		gp = fault.answer == FAULT_TRAP_GP;
	} else {
		gp = !msr_read(vtdx, index, msr, &value);
	}
	witness_msr(vtdx->witness, index, false, msr, value, gp);
	if (gp) {
		vcpu_raise_gp(vcpu, site);
		return;
	}
	vcpu->under_way = site;
	vcpu_due(site->vtdx, index);
	vcpu->rdmsr_value = value;
}

/**
 * on_after_rdmsr - return the platform's value from RDMSR
 * @index: the vCPU
 * @userdata: the site of the RDMSR
 */
void on_after_rdmsr(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);

	if (vcpu->under_way != site)
		return;
	vcpu->under_way = NULL;
	vcpu_write(vcpu, GPR_RAX, (uint32_t)vcpu->rdmsr_value);
	vcpu_write(vcpu, GPR_RDX, vcpu->rdmsr_value >> 32);
}

static bool is_locked(struct vtdx *vtdx, unsigned int lp, uint32_t lock_msr, uint64_t lock_bits)
{
	uint64_t value = 0;

	msr_read(vtdx, lp, lock_msr, &value);
	return value & lock_bits;
}

/* Stores a value where that is allowed. Return: false for a fault. */
static bool msr_write(struct vtdx *vtdx, unsigned int lp, uint32_t msr, int line, uint64_t value)
{
	if (line_of(vtdx->platform, line)->gp)
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(policies); i++) {
		if (msr < policies[i].first || msr > policies[i].last)
			continue;
		if (policies[i].policy == POLICY_COMMAND)
			return true;
		if (policies[i].policy == POLICY_READ_ONLY ||
		    is_locked(vtdx, lp, policies[i].lock_msr, policies[i].lock_bits))
			return false;
	}
	__atomic_store_n(&vtdx->vcpus[lp].msr[line], value, __ATOMIC_RELAXED);
	return true;
}

/**
 * on_wrmsr - answer WRMSR
 * @index: the vCPU
 * @userdata: the site
 *
 * A write that is allowed goes on to QEMU too: it may know the MSR.
 */
void on_wrmsr(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vtdx *vtdx = site->vtdx;
	struct vcpu *vcpu = site_vcpu(site, index);
	uint32_t msr = vcpu_read(vcpu, GPR_RCX);
	int line = find(vtdx->platform, index, msr);
	uint64_t value;
	bool ok;

	if (line < 0 || !vcpu_is_kernel(vcpu))
		return;
	value = (uint32_t)vcpu_read(vcpu, GPR_RAX) | vcpu_read(vcpu, GPR_RDX) << 32;
	ok = msr_write(vtdx, index, msr, line, value);
	witness_msr(vtdx->witness, index, true, msr, value, !ok);
	if (!ok)
		vcpu_raise_gp(vcpu, site);
}

static void list_written(struct vtdx *vtdx, unsigned int lp, GString *words)
{
	for (guint i = 0; i < vtdx->platform->msrs->len; i++) {
		const struct platform_msr *line = line_of(vtdx->platform, i);
		uint64_t value = __atomic_load_n(&vtdx->vcpus[lp].msr[i], __ATOMIC_RELAXED);

		if (value != line->value)
			g_string_append_printf(words, " msr=%u:%#x:%#" G_GINT64_MODIFIER "x", lp,
					       line->first, value);
	}
}

/**
 * msr_list_written - list what the guest wrote
 * @vtdx: the platform, with the machine stopped
 * @words: gets " msr=CPU:ADDRESS:VALUE" for each MSR that is not as in the file
 */
void msr_list_written(struct vtdx *vtdx, GString *words)
{
	for (unsigned int lp = 0; lp < vtdx->nr_vcpus; lp++)
		list_written(vtdx, lp, words);
}

/**
 * msr_put - set an MSR, whatever its policy
 * @vtdx: the platform
 * @lp: logical processor
 * @msr: address
 * @value: new value
 *
 * Return: false when the platform does not have it.
 */
bool msr_put(struct vtdx *vtdx, unsigned int lp, uint32_t msr, uint64_t value)
{
	int line = find(vtdx->platform, lp, msr);

	if (line < 0)
		return false;
	__atomic_store_n(&vtdx->vcpus[lp].msr[line], value, __ATOMIC_RELAXED);
	return true;
}
