// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUID, of two kinds: what the guest sees is QEMU's, with some features added;
 * what the TDX module sees is the platform file's, with the topology filled in.
 */
#include "vtdx.h"

enum {
	EAX,
	EBX,
	ECX,
	EDX,
};

#define ANY_SUBLEAF UINT32_MAX

/* Features of TDX-capable processors that TCG does not have (SDM vol. 2, CPUID). */
static const struct feature {
	uint32_t leaf;
	uint32_t subleaf;
	unsigned int reg;
	uint32_t bit;
} features[] = {
	{ 0x1, ANY_SUBLEAF, ECX, 5 }, /* VMX */
	{ 0x1, ANY_SUBLEAF, EDX, 27 }, /* SS */
	{ 0x7, 0, ECX, 13 }, /* TME_EN: IA32_TME_* */
	{ 0x7, 0, ECX, 28 }, /* MOVDIR64B */
	{ 0x7, 0, EDX, 29 }, /* IA32_ARCH_CAPABILITIES */
};

static const uint8_t result_regs[] = { GPR_RAX, GPR_RBX, GPR_RCX, GPR_RDX };

/**
 * on_cpuid - remember what a CPUID is about to be asked
 * @index: the vCPU
 * @userdata: the site
 *
 * QEMU answers; on_after_cpuid() adds to the answer before the next instruction.
 */
void on_cpuid(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);

	vcpu->cpuid_leaf = vcpu_read(vcpu, GPR_RAX);
	vcpu->cpuid_subleaf = vcpu_read(vcpu, GPR_RCX);
	vcpu->under_way = site;
	vcpu_due(site->vtdx, index);
}

/* A file that does not list the leaf takes nothing away. */
static uint32_t features_of(const struct platform_cpuid *line, uint32_t leaf, uint32_t subleaf,
			    unsigned int reg)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(features); i++)
		if (features[i].leaf == leaf && features[i].reg == reg &&
		    (features[i].subleaf == subleaf || features[i].subleaf == ANY_SUBLEAF))
			bits |= 1u << features[i].bit;
	return line ? bits & line->regs[reg] : bits;
}

/* Bits in which a CPU is not like the others by its own line of the file. */
static uint32_t own_bits(const struct platform *platform, const struct platform_cpuid *own,
			 unsigned int reg)
{
	const struct platform_cpuid *others;

	if (!own || own->cpu == PLATFORM_ALL_CPUS)
		return 0;
	others = platform_cpuid(platform, PLATFORM_ALL_CPUS, own->leaf, own->subleaf);
	return others ? own->regs[reg] ^ others->regs[reg] : 0;
}

static uint32_t answer(const struct platform *platform, const struct platform_cpuid *line,
		       const struct vcpu *vcpu, unsigned int reg, uint32_t value)
{
	uint32_t own = own_bits(platform, line, reg);

	value |= features_of(line, vcpu->cpuid_leaf, vcpu->cpuid_subleaf, reg);
	return own ? (value & ~own) | (line->regs[reg] & own) : value;
}

/**
 * on_after_cpuid - add the platform's features to QEMU's answer
 * @index: the vCPU
 * @userdata: the site of the CPUID
 */
void on_after_cpuid(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	const struct platform *platform = site->vtdx->platform;
	struct vcpu *vcpu = site_vcpu(site, index);
	const struct platform_cpuid *line;

	if (vcpu->under_way != site)
		return;
	vcpu->under_way = NULL;
	line = platform_cpuid(platform, index, vcpu->cpuid_leaf, vcpu->cpuid_subleaf);
	for (unsigned int reg = EAX; reg <= EDX; reg++) {
		uint32_t qemus = vcpu_read(vcpu, result_regs[reg]);
		uint32_t value = answer(platform, line, vcpu, reg, qemus);

		if (value != qemus)
			vcpu_write(vcpu, result_regs[reg], value);
	}
	if (vcpu->cpuid_leaf == 1)
		vcpu_write(vcpu, GPR_RAX, cpuid_signature(platform));
}

/**
 * cpuid_signature - family, model and stepping as CPUID leaf 1 gives them in EAX
 * @platform: the platform
 */
uint32_t cpuid_signature(const struct platform *platform)
{
	uint32_t family = MIN(platform->family, 15u);
	uint32_t extended = platform->family - family;

	return extended << 20 | (platform->model >> 4) << 16 | family << 8 |
	       (platform->model & 15) << 4 | (platform->stepping & 15);
}

/* Bits of an APIC id that n things take: QEMU rounds each level up. */
static unsigned int bits_for(unsigned int n)
{
	return n > 1 ? g_bit_storage(n - 1) : 0;
}

struct apic_layout {
	unsigned int thread_bits;
	unsigned int package_shift;
	uint32_t id;
};

static struct apic_layout apic_layout(const struct platform *p, unsigned int lp)
{
	struct apic_layout layout;
	unsigned int core = lp / p->threads;

	layout.thread_bits = bits_for(p->threads);
	layout.package_shift = layout.thread_bits + bits_for(p->cores);
	layout.id = lp % p->threads | (core % p->cores) << layout.thread_bits |
		    core / p->cores << layout.package_shift;
	return layout;
}

/*
 * Leaves 0xB and 0x1F: a thread level and a core level. Leaves 1 and 4: counts of
 * addressable ids, which for the last-level cache has to be a package's worth
 * exactly, or TDH.SYS.INIT answers TDX_INVALID_WBINVD_SCOPE.
 */
static void fill_topology(const struct platform *p, unsigned int lp, uint32_t leaf,
			  uint32_t subleaf, uint32_t *regs)
{
	struct apic_layout layout = apic_layout(p, lp);
	uint32_t package_ids = 1u << layout.package_shift;

	if (leaf == 0x1) {
		regs[EAX] = cpuid_signature(p);
		regs[EBX] &= 0x0000ffff;
		regs[EBX] |= layout.id << 24 | MIN(package_ids, 255u) << 16;
	} else if (leaf == 0x4 && (regs[EAX] & 0x1f)) {
		uint32_t sharing = subleaf == 3 ? package_ids : 1u << layout.thread_bits;
		uint32_t cores = 1u << (layout.package_shift - layout.thread_bits);

		regs[EAX] &= 0x00003fff;
		regs[EAX] |= ((sharing - 1) & 0xfff) << 14 | ((cores - 1) & 0x3f) << 26;
	} else if (leaf == 0xb || leaf == 0x1f) {
		const uint32_t shift[] = { layout.thread_bits, layout.package_shift };
		const uint32_t count[] = { p->threads, p->threads * p->cores };
		bool level = subleaf < G_N_ELEMENTS(shift);

		regs[EAX] = level ? shift[subleaf] : 0;
		regs[EBX] = level ? count[subleaf] : 0;
		regs[ECX] = (subleaf & 0xff) | (level ? (subleaf + 1) << 8 : 0);
		regs[EDX] = layout.id;
	}
}

/**
 * cpuid_module - CPUID as the TDX module sees it
 * @vtdx: the platform
 * @lp: logical processor
 * @leaf: EAX
 * @subleaf: ECX
 * @regs: EAX, EBX, ECX, EDX
 */
void cpuid_module(struct vtdx *vtdx, unsigned int lp, uint32_t leaf, uint32_t subleaf,
		  uint32_t *regs)
{
	const struct platform *platform = vtdx->platform;
	const struct platform_cpuid *found = platform_cpuid(platform, lp, leaf, subleaf);

	for (unsigned int reg = EAX; reg <= EDX; reg++)
		regs[reg] = found ? found->regs[reg] : 0;
	fill_topology(platform, lp, leaf, subleaf, regs);
}
