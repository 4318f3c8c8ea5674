// SPDX-License-Identifier: GPL-2.0-only
/* What the TDX module says about itself, read with TDH.SYS.RD. */
#include <linux/kernel.h>
#include <linux/mm.h>

#include "seamcall.h"
#include "tdxhost.h"

/* Field ids, Intel TDX Module ABI Specification, "Global Metadata Fields". */
#define FIELD_MINOR_VERSION 0x0800000100000003ULL
#define FIELD_MAJOR_VERSION 0x0800000100000004ULL
#define FIELD_UPDATE_VERSION 0x0800000100000005ULL
#define FIELD_BUILD_DATE 0x8800000200000001ULL
#define FIELD_BUILD_NUM 0x8800000100000002ULL
#define FIELD_TDX_FEATURES0 0x0A00000300000008ULL
#define FIELD_NUM_CMRS 0x9000000100000000ULL
#define FIELD_CMR_BASE 0x9000000300000080ULL
#define FIELD_CMR_SIZE 0x9000000300000100ULL
#define FIELD_MAX_TDMRS 0x9100000100000008ULL
#define FIELD_MAX_RESERVED_PER_TDMR 0x9100000100000009ULL
#define FIELD_PAMT_4K_ENTRY_SIZE 0x9100000100000010ULL
#define FIELD_PAMT_2M_ENTRY_SIZE 0x9100000100000011ULL
#define FIELD_PAMT_1G_ENTRY_SIZE 0x9100000100000012ULL

#define MAX_CMRS ARRAY_SIZE(((struct tdxhost_metadata *)NULL)->cmrs)

static int read_field(struct tdxhost_step_result *result, u64 id, u64 *value)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_RD, .in.rdx = id };
	int ret = tdxhost_step_call(result, &call);

	*value = call.out.r8;
	return ret;
}

/*
 * Not part of the architecture: a TDX module may lack them, and then that is not
 * what the step came to.
 */
static u64 read_extra_field(struct tdxhost_step_result *result, u64 id)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_RD, .in.rdx = id };
	int ret = tdxhost_seamcall(&call);

	result->seamcalls += call.calls;
	result->retries += call.retries;
	return ret ? 0 : call.out.r8;
}

/* Every SEAMCALL was answered, so none is to be shown as the one that failed. */
static int senseless(struct tdxhost_step_result *result, u32 code)
{
	result->leaf = 0;
	result->seam_status = 0;
	return tdxhost_step_fail(result, code, TDXHOST_NONE);
}

static int read_cmrs(struct tdxhost_step_result *result, struct tdxhost_metadata *metadata, u64 nr)
{
	u64 i, base, size;
	int ret;

	metadata->nr_cmrs = 0;
	for (i = 0; i < min_t(u64, nr, MAX_CMRS); i++) {
		ret = read_field(result, FIELD_CMR_BASE + i, &base);
		if (ret)
			return ret;
		ret = read_field(result, FIELD_CMR_SIZE + i, &size);
		if (ret)
			return ret;
		/* The TDX module counts unused entries too. */
		if (!size)
			continue;
		if (!PAGE_ALIGNED(base | size) || base + size < base)
			return senseless(result, TDXHOST_CODE_BAD_METADATA);
		metadata->cmrs[metadata->nr_cmrs++] = (struct tdmr_range){ base, size };
	}
	return 0;
}

static bool limits_ok(const struct tdmr_limits *limits)
{
	return limits->max_tdmrs && limits->max_reserved &&
	       limits->pamt_entry_bytes[TDMR_PAMT_4K] && limits->pamt_entry_bytes[TDMR_PAMT_2M] &&
	       limits->pamt_entry_bytes[TDMR_PAMT_1G];
}

static int read_architectural(struct tdxhost_step_result *result, struct tdxhost_metadata *metadata,
			      u64 *nr_cmrs)
{
	u64 major, minor, update, max_tdmrs, max_reserved, pamt_4k, pamt_2m, pamt_1g;
	const struct {
		u64 id;
		u64 *value;
	} fields[] = {
		{ FIELD_MAJOR_VERSION, &major },
		{ FIELD_MINOR_VERSION, &minor },
		{ FIELD_UPDATE_VERSION, &update },
		{ FIELD_TDX_FEATURES0, &metadata->features0 },
		{ FIELD_MAX_TDMRS, &max_tdmrs },
		{ FIELD_MAX_RESERVED_PER_TDMR, &max_reserved },
		{ FIELD_PAMT_4K_ENTRY_SIZE, &pamt_4k },
		{ FIELD_PAMT_2M_ENTRY_SIZE, &pamt_2m },
		{ FIELD_PAMT_1G_ENTRY_SIZE, &pamt_1g },
		{ FIELD_NUM_CMRS, nr_cmrs },
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		int ret = read_field(result, fields[i].id, fields[i].value);

		if (ret)
			return ret;
	}
	metadata->major = major;
	metadata->minor = minor;
	metadata->update = update;
	metadata->limits = (struct tdmr_limits){
		.max_tdmrs = max_tdmrs,
		.max_reserved = max_reserved,
		.pamt_entry_bytes = { pamt_4k, pamt_2m, pamt_1g },
	};
	return 0;
}

/**
 * tdxhost_metadata_probe() - ask the TDX module for something that every one has
 * @call: zeroed; what it came to
 *
 * The TDX module tells nothing to a CPU on which TDH.SYS.LP.INIT was not done.
 *
 * Context: interrupts off, between tdxhost_vmx_enter() and tdxhost_vmx_leave().
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_metadata_probe(struct tdxhost_call *call)
{
	call->leaf = TDH_SYS_RD;
	call->in.rdx = FIELD_MAJOR_VERSION;
	return tdxhost_seamcall_in_vmx(call);
}

/**
 * tdxhost_metadata_read() - read what bring-up needs to know of the TDX module
 * @result: of the step
 * @metadata: filled
 *
 * Context: task, may sleep. The CPU that it runs on is enabled.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int tdxhost_metadata_read(struct tdxhost_step_result *result, struct tdxhost_metadata *metadata)
{
	u64 nr_cmrs;
	int ret;

	*metadata = (struct tdxhost_metadata){
		.build_date = read_extra_field(result, FIELD_BUILD_DATE),
		.build_num = read_extra_field(result, FIELD_BUILD_NUM),
	};
	ret = read_architectural(result, metadata, &nr_cmrs);
	if (ret)
		return ret;
	if (!limits_ok(&metadata->limits))
		return senseless(result, TDXHOST_CODE_BAD_METADATA);
	ret = read_cmrs(result, metadata, nr_cmrs);
	if (ret)
		return ret;
	if (!metadata->nr_cmrs)
		return senseless(result, TDXHOST_CODE_NO_CMRS);
	return 0;
}
