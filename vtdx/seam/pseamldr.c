// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * P-SEAMLDR: what a host reads of it. Loading modules (INSTALL, SHUTDOWN, CLEANUP)
 * is not modelled: those leaves are refused like unknown ones.
 */
#include <assert.h>
#include <string.h>

#include "module.h"
#include "td_params.h"

#define LEAF_INFO 0x8000000000000000ull
#define LEAF_SEAMINFO 0x8000000000000003ull

#define SEAMEXTEND_VALID 0x1ff

/* P-SEAMLDR 1.5.02 */
#define LOADER_MAJOR 1
#define LOADER_MINOR 5
#define LOADER_UPDATE 2

/* As it lies in memory (P-SEAMLDR ABI, SEAMLDR_INFO). */
struct seamldr_info {
	uint32_t version;
	uint32_t attributes;
	uint32_t vendor_id;
	uint32_t build_date;
	uint16_t build_num;
	uint16_t minor_version;
	uint16_t major_version;
	uint16_t update_version;
	uint32_t acm_x2apicid;
	uint32_t num_remaining_updates;
	uint64_t seamextend_valid;
	uint8_t tee_tcb_svn[16];
	uint8_t mrseam[48];
	uint8_t mrsigner[48];
	uint64_t seamextend_attributes;
	uint8_t seam_ready;
	uint8_t seam_under_debug;
	uint8_t p_seamldr_ready;
	uint8_t seamextend_reserved[5];
	uint64_t features0;
	uint8_t reserved_2[80];
};

static_assert(sizeof(struct seamldr_info) == 256, "SEAMLDR_INFO");

/* First half of P_SYS_INFO_TABLE. */
struct sys_info_table {
	uint64_t version;
	uint32_t tot_num_lps;
	uint32_t tot_num_sockets;
	uint32_t socket_cpuid_table[SEAM_MAX_PACKAGES];
	uint64_t p_seamldr_range_base;
	uint64_t p_seamldr_range_size;
	uint8_t skip_smrr2_check;
	uint8_t tdx_ac;
	uint8_t reserved_0[62];
	struct seam_cmr cmr[SEAM_MAX_CMRS];
	uint8_t reserved_1[1408];
};

static_assert(sizeof(struct sys_info_table) == 2048, "SEAMINFO");

static uint64_t read_msr(struct seam *seam, uint32_t lp, enum seam_msr msr)
{
	uint64_t value = 0;

	if (seam->ops.rdmsr(seam->opaque, lp, seam_msr_address[msr], &value))
		return 0;
	return value;
}

/**
 * host_pa() - the memory behind a buffer address, or all ones for a bad one
 * @seam: module
 * @lp: caller
 * @pa: physical address with KeyID bits
 * @bytes: alignment and size
 *
 * P-SEAMLDR can be asked before TDH.SYS.INIT has sampled anything.
 */
static uint64_t host_pa(struct seam *seam, uint32_t lp, uint64_t pa, uint64_t bytes)
{
	const struct range seamrr = { seam->config.seamrr_base_pa, seam->config.seamrr_bytes };
	uint64_t bits = TME_KEYID_BITS(read_msr(seam, lp, MSR_TME_ACTIVATE));
	uint64_t shared = NUM_MKTME_KIDS(read_msr(seam, lp, MSR_KEYID_PARTITIONING));
	uint64_t keyid = pa >> (MAX_PA_BITS - bits);
	uint64_t stripped = pa & ((1ull << (MAX_PA_BITS - bits)) - 1);

	if (pa % bytes || pa >> MAX_PA_BITS || keyid > shared ||
	    ranges_overlap((struct range){ pa, bytes }, seamrr))
		return ~0ull;
	return stripped;
}

static uint64_t reply(struct seam *seam, uint32_t lp, uint64_t pa, const void *buf, uint64_t bytes)
{
	pa = host_pa(seam, lp, pa, bytes);
	if (pa == ~0ull)
		return PSEAMLDR_EBADPARAM;
	seam->ops.write_pa(seam->opaque, pa, buf, bytes);
	return PSEAMLDR_SUCCESS;
}

static uint64_t seamldr_info(struct seam *seam, uint32_t lp, uint64_t pa)
{
	const struct seamldr_info info = {
		.vendor_id = VENDOR_INTEL,
		.build_date = seam->config.build_date,
		.minor_version = LOADER_MINOR,
		.major_version = LOADER_MAJOR,
		.update_version = LOADER_UPDATE,
		.num_remaining_updates = seam->config.remaining_updates,
		.seamextend_valid = seam->config.loaded ? SEAMEXTEND_VALID : 0,
		.seam_ready = !!seam->config.loaded,
		.p_seamldr_ready = 1,
	};

	return reply(seam, lp, pa, &info, sizeof(info));
}

static uint64_t seamldr_seaminfo(struct seam *seam, uint32_t lp, uint64_t pa)
{
	struct sys_info_table table = {
		.tot_num_lps = seam->config.lps,
		.tot_num_sockets = seam->config.packages,
		.skip_smrr2_check = !!seam->config.skip_smrr2,
		.tdx_ac = !!seam->config.no_integrity,
	};

	memcpy(table.socket_cpuid_table, seam->config.package_fms,
	       sizeof(table.socket_cpuid_table));
	memcpy(table.cmr, seam->config.cmrs, sizeof(table.cmr));
	return reply(seam, lp, pa, &table, sizeof(table));
}

/* The first call of all seeds the stack canary. */
static uint64_t dispatch(struct seam *seam, uint32_t lp, struct seam_regs *regs)
{
	uint64_t seed;

	if (!seam->pseamldr_seeded && !seam->ops.rdrand(seam->opaque, lp, &seed))
		return PSEAMLDR_EUNSPECERR;
	seam->pseamldr_seeded = true;
	switch (regs->rax) {
	case LEAF_INFO:
		return seamldr_info(seam, lp, regs->rcx);
	case LEAF_SEAMINFO:
		return seamldr_seaminfo(seam, lp, regs->rcx);
	default:
		return PSEAMLDR_EBADPARAM;
	}
}

/**
 * seam_call_pseamldr() - a SEAMCALL with RAX bit 63 set
 * @seam: module
 * @lp: caller
 * @regs: its registers
 *
 * One LP at a time: others fail with VMfailInvalid (P-SEAMLDR ABI).
 */
int seam_call_pseamldr(struct seam *seam, uint32_t lp, struct seam_regs *regs)
{
	if (!seam_trylock(&seam->pseamldr_lock))
		return SEAM_VMFAILINVALID;
	seam_hold(seam, lp, regs->rax);
	regs->rax = dispatch(seam, lp, regs);
	seam_unlock(&seam->pseamldr_lock);
	return SEAM_DONE;
}
