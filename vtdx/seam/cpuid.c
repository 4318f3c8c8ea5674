// SPDX-License-Identifier: GPL-2.0-or-later
/* CPUID as TDH.SYS.INIT verifies and TDH.SYS.LP.INIT compares it. */
#include <assert.h>
#include <string.h>

#include "cpuid_table.h"
#include "module.h"

static_assert(NR_CPUID_ROWS <= MAX_CPUID_ROWS, "struct sampled is too small");

enum { EAX, EBX, ECX, EDX };

#define LEAF_EXTENDED 0x80000000u
#define LEAF_LAST_BASIC 0x1fu
#define LEAF_LAST_EXTENDED 0x80000008u

#define TOPOLOGY_SUBLEAVES 5
#define TOPOLOGY_CORE 2u
#define TOPOLOGY_TYPES 6u
#define TOPOLOGY_TYPE(ecx) ((ecx) >> 8 & 0xff)
#define TOPOLOGY_SHIFT(eax) (0x1f & (eax))
#define L3_SHARING(eax) ((eax) >> 14 & 0xfff)

#define PERFMON_VERSION_MIN 5
#define PERFMON_FIXED_MAX 7
/* Below this TSC frequency the module gives up for good. */
#define TSC_HZ_MIN 0x2540cull

static void cpuid(struct call *call, uint32_t leaf, uint32_t subleaf, uint32_t regs[4])
{
	struct seam *seam = call->seam;

	seam->ops.cpuid(seam->opaque, call->lp, leaf, subleaf == NO_SUBLEAF ? 0 : subleaf, regs);
}

static bool above_basic_maximum(const struct cpuid_row *row, uint32_t last)
{
	return row->leaf < LEAF_EXTENDED && row->leaf > last;
}

static int find_row(uint32_t leaf, uint32_t subleaf)
{
	for (int i = 0; i < NR_CPUID_ROWS; i++)
		if (cpuid_rows[i].leaf == leaf && cpuid_rows[i].subleaf == subleaf)
			return i;
	return -1;
}

/**
 * seam_sampled_cpuid() - what TDH.SYS.INIT saw in a register of a leaf
 * @seam: module
 * @leaf: a leaf of the table
 * @subleaf: its sub-leaf, all ones where it has none
 * @reg: 0 to 3: EAX, EBX, ECX, EDX
 */
uint32_t seam_sampled_cpuid(const struct seam *seam, uint32_t leaf, uint32_t subleaf, uint32_t reg)
{
	int row = find_row(leaf, subleaf);

	return row < 0 ? 0 : seam->sampled.cpuid[row][reg];
}

static uint64_t pair(uint32_t low, uint32_t high)
{
	return low | (uint64_t)high << 32;
}

static void report_leaf(struct call *call, const struct cpuid_row *row, const uint32_t mask[4])
{
	call->regs->rcx = pair(row->leaf, row->subleaf);
	call->regs->rdx = pair(mask[EAX], mask[EBX]);
	call->regs->r8 = pair(mask[ECX], mask[EDX]);
}

static uint64_t incorrect(struct call *call, const struct cpuid_row *row, const uint32_t mask[4],
			  const uint32_t want[4])
{
	report_leaf(call, row, mask);
	call->regs->r9 = pair(want[EAX], want[EBX]);
	call->regs->r10 = pair(want[ECX], want[EDX]);
	return TDX_INCORRECT_CPUID_VALUE;
}

static bool differs(const uint32_t a[4], const uint32_t b[4], const uint32_t mask[4])
{
	for (int reg = EAX; reg <= EDX; reg++)
		if ((a[reg] ^ b[reg]) & mask[reg])
			return true;
	return false;
}

static uint64_t verify_perfmon(struct call *call, const struct cpuid_row *row,
			       const uint32_t value[4])
{
	static const uint32_t version_mask[4] = { [EAX] = 0xf };
	static const uint32_t version[4] = { [EAX] = PERFMON_VERSION_MIN };
	static const uint32_t fixed_mask[4] = { [EDX] = 0x1f };
	static const uint32_t fixed[4] = { [EDX] = PERFMON_FIXED_MAX };

	if ((value[EAX] & 0xff) < PERFMON_VERSION_MIN)
		return incorrect(call, row, version_mask, version);
	if ((value[EDX] & 0x1f) > PERFMON_FIXED_MAX)
		return incorrect(call, row, fixed_mask, fixed);
	return TDX_SUCCESS;
}

static uint64_t verify_tsc(struct call *call, const struct cpuid_row *row, const uint32_t value[4])
{
	if (!value[EBX])
		return TDX_CPUID_LEAF_NOT_SUPPORTED | row->leaf;
	/* A ratio with denominator 0 would be a divide error in the module. */
	if (!value[EAX] || (uint64_t)value[ECX] * value[EBX] / value[EAX] < TSC_HZ_MIN)
		call->fatal = true;
	return TDX_SUCCESS;
}

static uint64_t verify_linear_width(struct call *call, const struct cpuid_row *row,
				    const uint32_t value[4])
{
	static const uint32_t mask[4] = { [EAX] = 0xff00 };
	bool la57 = seam_sampled_cpuid(call->seam, 7, 0, ECX) & BIT(16);
	const uint32_t want[4] = { [EAX] = la57 ? 57 << 8 : 48 << 8 };

	return differs(value, want, mask) ? incorrect(call, row, mask, want) : TDX_SUCCESS;
}

/* The LPs that share the L3 have to be those of a package, for cache write-back. */
static uint64_t verify_wbinvd_scope(struct call *call)
{
	uint32_t sharing = L3_SHARING(seam_sampled_cpuid(call->seam, 4, 3, EAX));
	uint32_t shift = call->seam->sampled.package_shift;

	if (!shift)
		return sharing ? TDX_INVALID_WBINVD_SCOPE : TDX_SUCCESS;
	return sharing >> (shift - 1) == 1 ? TDX_SUCCESS : TDX_INVALID_WBINVD_SCOPE;
}

static uint64_t verify_topology(struct call *call, const struct cpuid_row *row,
				const uint32_t value[4])
{
	uint32_t previous = 0, shift = 0;
	bool core = false;

	(void)row;
	(void)value;
	for (uint32_t i = 0; i < TOPOLOGY_SUBLEAVES; i++) {
		uint32_t type = TOPOLOGY_TYPE(seam_sampled_cpuid(call->seam, 0x1f, i, ECX));

		if (!type)
			break;
		if (type <= previous || type >= TOPOLOGY_TYPES)
			return TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED;
		core |= type == TOPOLOGY_CORE;
		shift = TOPOLOGY_SHIFT(seam_sampled_cpuid(call->seam, 0x1f, i, EAX));
		previous = type;
	}
	if (!core)
		return TDX_CPUID_LEAF_NOT_SUPPORTED;
	call->seam->sampled.package_shift = shift;
	return verify_wbinvd_scope(call);
}

/* Checks that a mask can't express, after those of their row. */
static const struct {
	uint32_t leaf, subleaf;
	uint64_t (*verify)(struct call *call, const struct cpuid_row *row, const uint32_t value[4]);
} special[] = {
	{ 0xa, NO_SUBLEAF, verify_perfmon },
	{ 0x15, NO_SUBLEAF, verify_tsc },
	{ 0x1f, TOPOLOGY_SUBLEAVES, verify_topology },
	{ 0x80000008, NO_SUBLEAF, verify_linear_width },
};

static uint64_t verify_special(struct call *call, const struct cpuid_row *row,
			       const uint32_t value[4])
{
	for (size_t i = 0; i < ARRAY_SIZE(special); i++)
		if (special[i].leaf == row->leaf && special[i].subleaf == row->subleaf)
			return special[i].verify(call, row, value);
	return TDX_SUCCESS;
}

static uint64_t verify_row(struct call *call, int index, uint32_t last)
{
	const struct cpuid_row *row = &cpuid_rows[index];
	uint32_t *value = call->seam->sampled.cpuid[index];

	if (above_basic_maximum(row, last))
		memset(value, 0, sizeof(call->seam->sampled.cpuid[index]));
	else
		cpuid(call, row->leaf, row->subleaf, value);
	if (differs(value, row->want, row->mask))
		return incorrect(call, row, row->mask, row->want);
	return verify_special(call, row, value);
}

/**
 * seam_verify_cpuid() - CPUID step of TDH.SYS.INIT
 * @call: the call
 *
 * Samples every leaf of the table. On a mismatch RCX, RDX, R8, R9 and R10 say
 * leaf, masks and wanted values (TDX module ABI spec, TDH.SYS.INIT).
 */
uint64_t seam_verify_cpuid(struct call *call)
{
	uint32_t basic[4], extended[4];
	uint64_t status = TDX_SUCCESS;

	cpuid(call, 0, NO_SUBLEAF, basic);
	if (basic[EAX] < LEAF_LAST_BASIC)
		return TDX_CPUID_LEAF_NOT_SUPPORTED | LEAF_LAST_BASIC;
	cpuid(call, LEAF_EXTENDED, NO_SUBLEAF, extended);
	if (extended[EAX] < LEAF_LAST_EXTENDED)
		return TDX_CPUID_LEAF_NOT_SUPPORTED | LEAF_LAST_EXTENDED;
	for (int i = 0; i < NR_CPUID_ROWS && !status && !call->fatal; i++)
		status = verify_row(call, i, basic[EAX]);
	return status;
}

static uint64_t find_package(struct call *call)
{
	uint32_t value[4], package;

	cpuid(call, 0x1f, 0, value);
	package = value[EDX] >> call->seam->sampled.package_shift;
	if (package >= SEAM_MAX_PACKAGES)
		return TDX_INVALID_PKG_ID | package;
	call->seam->lp[call->lp].package = package;
	return TDX_SUCCESS;
}

/**
 * seam_compare_cpuid() - CPUID step of TDH.SYS.LP.INIT
 * @call: the call
 *
 * Finds the package of the LP too, from its x2APIC id.
 */
uint64_t seam_compare_cpuid(struct call *call)
{
	uint32_t value[4];
	uint32_t last;

	cpuid(call, 0, NO_SUBLEAF, value);
	last = value[EAX];
	for (int i = 0; i < NR_CPUID_ROWS; i++) {
		const struct cpuid_row *row = &cpuid_rows[i];

		if (above_basic_maximum(row, last))
			continue;
		cpuid(call, row->leaf, row->subleaf, value);
		if (differs(value, call->seam->sampled.cpuid[i], row->same)) {
			report_leaf(call, row, row->same);
			return TDX_INCONSISTENT_CPUID_FIELD;
		}
	}
	return find_package(call);
}
