// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.INFO: TDSYSINFO_STRUCT and the CMR table. */
#include <assert.h>
#include <string.h>

#include "module.h"
#include "td_params.h"

struct cpuid_config_entry {
	uint32_t leaf, subleaf;
	uint32_t regs[4];
};

/* As it lies in memory (TDX module ABI spec, TDSYSINFO_STRUCT). */
struct tdsysinfo {
	uint32_t attributes;
	uint32_t vendor_id;
	uint32_t build_date;
	uint16_t build_num;
	uint16_t minor_version;
	uint16_t major_version;
	uint8_t sys_rd;
	uint8_t reserved_0[13];
	uint16_t max_tdmrs;
	uint16_t max_reserved_per_tdmr;
	uint16_t pamt_entry_size;
	uint8_t reserved_1[10];
	uint16_t tdcs_base_size;
	uint8_t reserved_2[2];
	uint16_t tdvps_base_size;
	uint8_t tdvps_xfam_dependent_size;
	uint8_t reserved_3[9];
	uint64_t attributes_fixed0;
	uint64_t attributes_fixed1;
	uint64_t xfam_fixed0;
	uint64_t xfam_fixed1;
	uint8_t reserved_4[32];
	uint32_t num_cpuid_config;
	struct cpuid_config_entry cpuid_config[NR_CPUID_CONFIG];
	uint8_t reserved_5[604];
};

#define CMR_ARRAY_BYTES (SEAM_MAX_CMRS * sizeof(struct seam_cmr))

static_assert(sizeof(struct tdsysinfo) == 1024, "TDSYSINFO_STRUCT");
static_assert(CMR_ARRAY_BYTES == 512, "CMR_INFO array");

static void fill_info(const struct seam *seam, struct tdsysinfo *info)
{
	const struct seam_config *config = &seam->config;

	*info = (struct tdsysinfo){
		.vendor_id = VENDOR_INTEL,
		.build_date = config->build_date,
		.build_num = config->build_num,
		.minor_version = config->minor,
		.major_version = config->major,
		.sys_rd = !is_1_0(seam),
		.max_tdmrs = MAX_TDMRS,
		.max_reserved_per_tdmr = MAX_RESERVED,
		.pamt_entry_size = PAMT_ENTRY_BYTES,
		.tdcs_base_size = TDCS_BASE_BYTES,
		.tdvps_base_size = TDVPS_BASE_BYTES,
		.attributes_fixed0 = ATTRIBUTES_FIXED0,
		.attributes_fixed1 = ATTRIBUTES_FIXED1,
		.xfam_fixed0 = seam_xfam_fixed0(seam),
		.xfam_fixed1 = XFAM_FIXED1,
		.num_cpuid_config = NR_CPUID_CONFIG,
	};
	for (uint32_t i = 0; i < NR_CPUID_CONFIG; i++) {
		const uint64_t words[] = {
			seam_cpuid_config_leaf(i),
			seam_cpuid_config_all(seam, i, 0),
			seam_cpuid_config_all(seam, i, 1),
		};

		memcpy(&info->cpuid_config[i], words, sizeof(words));
	}
}

/**
 * tdh_sys_info() - TDH.SYS.INFO
 * @call: the call
 *
 * The first buffer is wiped before R8 and R9 are looked at: a bad one of those
 * still costs its contents.
 */
uint64_t tdh_sys_info(struct call *call)
{
	static const struct tdsysinfo zeros;
	struct seam *seam = call->seam;
	const struct seam_regs *in = call->in;
	struct tdsysinfo info;

	if (!atomic_load(&seam->lp[call->lp].initialised))
		return TDX_SYS_LP_INIT_NOT_DONE;
	if (!seam_pa_is_shared(seam, in->rcx, sizeof(info)))
		return operand_invalid(OPERAND_RCX);
	if (in->rdx < sizeof(info))
		return operand_invalid(OPERAND_RDX);
	seam_write_pa(seam, in->rcx, &zeros, sizeof(zeros));
	if (!seam_pa_is_shared(seam, in->r8, CMR_ARRAY_BYTES))
		return operand_invalid(OPERAND_R8);
	if (in->r9 < SEAM_MAX_CMRS)
		return operand_invalid(OPERAND_R9);
	fill_info(seam, &info);
	seam_write_pa(seam, in->rcx, &info, sizeof(info));
	seam_write_pa(seam, in->r8, seam->config.cmrs, CMR_ARRAY_BYTES);
	call->regs->rdx = sizeof(info);
	call->regs->r9 = SEAM_MAX_CMRS;
	return TDX_SUCCESS;
}
