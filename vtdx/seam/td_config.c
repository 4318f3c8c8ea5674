// SPDX-License-Identifier: GPL-2.0-or-later
/* What a host may configure of a TD: CPUID bits and XFAM. */
#include "module.h"

#define NO_SUBLEAF 0xffffffffu
#define XFAM_SUPPORTED 0x6dbe7ull

/*
 * CPUID bits of 1.5.01. direct: configurable whatever the CPU has; allowed: only
 * where the CPU has them. EAX, EBX, ECX, EDX.
 */
static const struct cpuid_config {
	uint32_t leaf, subleaf;
	uint32_t direct[4], allowed[4];
} cpuid_config[NR_CPUID_CONFIG] = {
	{ 0x1, NO_SUBLEAF, { 0x0fff3fff, 0x00ff0000, 0, 0 }, { 0, 0, 0x31040900, 0x18000000 } },
	{ 0x4, 0, { 0xffffc3ff, 0xfffff000, 0xffffffff, 0xfffffffb }, { 0 } },
	{ 0x4, 1, { 0xffffc3ff, 0xfffff000, 0xffffffff, 0xfffffffb }, { 0 } },
	{ 0x4, 2, { 0xffffc3ff, 0xfffff000, 0xffffffff, 0xfffffffb }, { 0 } },
	{ 0x4, 3, { 0xffffc3ff, 0xfffff000, 0xffffffff, 0x7 }, { 0 } },
	{ 0x7, 0, { 0 }, { 0, 0xd0010000, 0x00415f40, 0x00004018 } },
	{ 0x7, 1, { 0 }, { 0x00001c30, 0, 0, 0 } },
	{ 0xa, NO_SUBLEAF, { 0 }, { 0 } },
	{ 0x1c, NO_SUBLEAF, { 0 }, { 0x0000000f, 0, 0, 0 } },
	{ 0x80000008, NO_SUBLEAF, { 0 }, { 0, 0x00000200, 0, 0 } },
	{ 0x7, 2, { 0 }, { 0, 0, 0, 0x00000028 } },
	{ 0x23, 0, { 0 }, { 0 } },
};

/**
 * seam_cpuid_config_leaf() - element of CPUID_CONFIG_LEAVES
 * @index: 0 to MAX_CPUID_CONFIG - 1
 */
uint64_t seam_cpuid_config_leaf(uint32_t index)
{
	if (index >= NR_CPUID_CONFIG)
		return ~0ull;
	return cpuid_config[index].leaf | (uint64_t)cpuid_config[index].subleaf << 32;
}

/**
 * seam_cpuid_config_direct() - element of CPUID_CONFIG_VALUES
 * @index: 0 to MAX_CPUID_CONFIG - 1
 * @half: 0 for EAX and EBX, 1 for ECX and EDX
 */
uint64_t seam_cpuid_config_direct(uint32_t index, uint32_t half)
{
	const uint32_t *direct;

	if (index >= NR_CPUID_CONFIG)
		return 0;
	direct = cpuid_config[index].direct;
	return direct[2 * half] | (uint64_t)direct[2 * half + 1] << 32;
}

static uint32_t all_bits(const struct seam *seam, const struct cpuid_config *config, uint32_t reg)
{
	uint32_t cpu = seam_sampled_cpuid(seam, config->leaf, config->subleaf, reg);

	return config->direct[reg] | (config->allowed[reg] & cpu);
}

/**
 * seam_cpuid_config_all() - what TDSYSINFO_STRUCT says in place of the above
 * @seam: module
 * @index: 0 to NR_CPUID_CONFIG - 1
 * @half: 0 for EAX and EBX, 1 for ECX and EDX
 */
uint64_t seam_cpuid_config_all(const struct seam *seam, uint32_t index, uint32_t half)
{
	const struct cpuid_config *config = &cpuid_config[index];

	return all_bits(seam, config, 2 * half) | (uint64_t)all_bits(seam, config, 2 * half + 1)
							  << 32;
}

/**
 * seam_xfam_fixed0() - extended features that a TD may have
 * @seam: module
 */
uint64_t seam_xfam_fixed0(const struct seam *seam)
{
	uint32_t xcr0 = seam_sampled_cpuid(seam, 0xd, 0, 0);
	uint32_t xss = seam_sampled_cpuid(seam, 0xd, 1, 2);

	return XFAM_SUPPORTED & (xcr0 | xss);
}
