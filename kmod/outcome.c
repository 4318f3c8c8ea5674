// SPDX-License-Identifier: GPL-2.0-only
/* What calls and steps come to: errno, names and the line in the log. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/tdxhost.h>

#include "seamcall.h"
#include "tdxhost.h"

/* The driver's findings: the errno that goes with each, and what the log says.
 */
static const struct {
	int error;
	const char *text;
} codes[] = {
	[TDXHOST_CODE_NONE] = { 0, "no error" },
	/* The status says more, and may have an errno of its own. */
	[TDXHOST_CODE_SEAMCALL] = { -EIO, "the TDX module refused" },
	[TDXHOST_CODE_NO_MODULE] = { -ENODEV, "no TDX module is loaded" },
	[TDXHOST_CODE_TRAP] = { -EACCES, "SEAMCALL faulted" },
	[TDXHOST_CODE_NO_KEYIDS] = { -ENODEV, "firmware set no private KeyIDs aside" },
	[TDXHOST_CODE_ONE_KEYID] = { -ENODEV, "firmware set only one private KeyID aside" },
	[TDXHOST_CODE_NO_VMX] = { -ENODEV, "the CPU has no VMX" },
	[TDXHOST_CODE_VMX_LOCKED_OFF] = { -EOPNOTSUPP, "firmware has locked VMX off" },
	[TDXHOST_CODE_VMXON_FAILED] = { -EIO, "VMXON failed" },
	[TDXHOST_CODE_NO_SEAMRR] = { -EOPNOTSUPP, "the SEAM range is not enabled" },
	[TDXHOST_CODE_CPU_NOT_ENABLED] = { -ENXIO, "an online CPU is not enabled" },
	[TDXHOST_CODE_CPU_OFFLINE] = { -ENXIO, "the CPU is offline" },
	[TDXHOST_CODE_BAD_METADATA] = { -EINVAL, "the TDX module's metadata makes no sense" },
	[TDXHOST_CODE_NO_CMRS] = { -EINVAL, "the TDX module lists no convertible memory" },
	[TDXHOST_CODE_RAM_OUTSIDE_CMR] = { -ERANGE, "System RAM outside every CMR" },
	[TDXHOST_CODE_TOO_MANY_TDMRS] = { -ENOSPC, "memory needs too many TDMRs" },
	[TDXHOST_CODE_TOO_MANY_RESERVED] = { -ENOSPC, "a TDMR needs too many reserved areas" },
	[TDXHOST_CODE_NO_MEMORY] = { -ENOMEM, "out of memory" },
	[TDXHOST_CODE_PACKAGE_OFFLINE] = { -ENXIO, "no CPU of the package is online" },
	[TDXHOST_CODE_EARLIER_FAILURE] = { -EINVAL, "it has failed before" },
	[TDXHOST_CODE_FINAL] = { -EINVAL, "only a reboot or another TDX module can help" },
	[TDXHOST_CODE_INTERRUPTED] = { -EINTR, "a signal came" },
	[TDXHOST_CODE_NO_MOVDIR64B] = { -ENODEV, "the CPU has no MOVDIR64B" },
	[TDXHOST_CODE_KERNEL] = { -EIO, "the kernel's own initialisation failed" },
	[TDXHOST_CODE_VMX_BUSY] = { -EBUSY, "VMX was just being turned on or off" },
};

static const struct {
	u64 leaf;
	const char *prefix;
} leaves[] = {
	{ TDH_PHYMEM_PAGE_RDMD, "TDH.PHYMEM.PAGE.RDMD: " },
	{ TDH_SYS_KEY_CONFIG, "TDH.SYS.KEY.CONFIG: " },
	{ TDH_SYS_INIT, "TDH.SYS.INIT: " },
	{ TDH_SYS_RD, "TDH.SYS.RD: " },
	{ TDH_SYS_LP_INIT, "TDH.SYS.LP.INIT: " },
	{ TDH_SYS_TDMR_INIT, "TDH.SYS.TDMR.INIT: " },
	{ TDH_SYS_CONFIG, "TDH.SYS.CONFIG: " },
};

/**
 * struct known_status - a completion status that bring-up may meet
 * @status: its upper half
 * @name: as Intel spells it
 * @error: the errno that goes with it, 0 for that of TDXHOST_CODE_SEAMCALL
 */
struct known_status {
	u64 status;
	const char *name;
	int error;
};

/* Intel TDX Module ABI Specification, "Function Completion Status Codes". */
static const struct known_status statuses[] = {
	{ 0xC000010000000000ULL, "TDX_OPERAND_INVALID" },
	{ TDX_OPERAND_BUSY, "TDX_OPERAND_BUSY", -EBUSY },
	{ TDX_SYS_BUSY, "TDX_SYS_BUSY", -EBUSY },
	{ TDX_RND_NO_ENTROPY, "TDX_RND_NO_ENTROPY", -EAGAIN },
	{ TDX_SYS_INIT_NOT_PENDING, "TDX_SYS_INIT_NOT_PENDING" },
	{ 0xC000050200000000ULL, "TDX_SYS_LP_INIT_NOT_DONE" },
	{ TDX_SYS_LP_INIT_DONE, "TDX_SYS_LP_INIT_DONE" },
	{ TDX_SYS_NOT_READY, "TDX_SYS_NOT_READY" },
	{ TDX_SYS_SHUTDOWN, "TDX_SYS_SHUTDOWN" },
	{ 0xC000050700000000ULL, "TDX_SYS_KEY_CONFIG_NOT_PENDING" },
	{ 0xC000050800000000ULL, "TDX_SYS_STATE_INCORRECT" },
	{ 0xC000050900000000ULL, "TDX_SYS_INVALID_HANDOFF" },
	{ 0xC000050A00000000ULL, "TDX_SYS_INCOMPATIBLE_SIGSTRUCT" },
	{ 0xC000050B00000000ULL, "TDX_SYS_LP_INIT_NOT_PENDING" },
	{ TDX_SYS_CONFIG_NOT_PENDING, "TDX_SYS_CONFIG_NOT_PENDING" },
	{ 0xC000050D00000000ULL, "TDX_INCOMPATIBLE_SEAM_CAPABILITIES" },
	{ TDX_KEY_GENERATION_FAILED, "TDX_KEY_GENERATION_FAILED", -EAGAIN },
	{ 0xC000082500000000ULL, "TDX_NUM_ACTIVATED_HKIDS_NOT_SUPPORTED" },
	{ 0xC000090000000000ULL, "TDX_INCORRECT_CPUID_VALUE" },
	{ 0xC000090100000000ULL, "TDX_LIMIT_CPUID_MAXVAL_SET" },
	{ 0xC000090200000000ULL, "TDX_INCONSISTENT_CPUID_FIELD" },
	{ 0xC000090400000000ULL, "TDX_CPUID_LEAF_1F_FORMAT_UNRECOGNIZED" },
	{ 0xC000090500000000ULL, "TDX_INVALID_WBINVD_SCOPE" },
	{ 0xC000090600000000ULL, "TDX_INVALID_PKG_ID" },
	{ 0xC000090800000000ULL, "TDX_CPUID_LEAF_NOT_SUPPORTED" },
	{ 0xC000091000000000ULL, "TDX_SMRR_NOT_LOCKED" },
	{ 0xC000091100000000ULL, "TDX_INVALID_SMRR_CONFIGURATION" },
	{ 0xC000091200000000ULL, "TDX_SMRR_OVERLAPS_CMR" },
	{ 0xC000091300000000ULL, "TDX_SMRR_LOCK_NOT_SUPPORTED" },
	{ 0xC000091400000000ULL, "TDX_SMRR_NOT_SUPPORTED" },
	{ 0xC000092000000000ULL, "TDX_INCONSISTENT_MSR" },
	{ 0xC000092100000000ULL, "TDX_INCORRECT_MSR_VALUE" },
	{ 0xC0000A0000000000ULL, "TDX_INVALID_TDMR" },
	{ 0xC0000A0100000000ULL, "TDX_NON_ORDERED_TDMR" },
	{ 0xC0000A0200000000ULL, "TDX_TDMR_OUTSIDE_CMRS" },
	{ 0xC0000A1000000000ULL, "TDX_INVALID_PAMT" },
	{ 0xC0000A1100000000ULL, "TDX_PAMT_OUTSIDE_CMRS" },
	{ 0xC0000A1200000000ULL, "TDX_PAMT_OVERLAP" },
	{ 0xC0000A2000000000ULL, "TDX_INVALID_RESERVED_IN_TDMR" },
	{ 0xC0000A2100000000ULL, "TDX_NON_ORDERED_RESERVED_IN_TDMR" },
	{ 0xC0000A2200000000ULL, "TDX_CMR_LIST_INVALID" },
	{ 0xC0000C0000000000ULL, "TDX_METADATA_FIELD_ID_INCORRECT" },
	{ 0xC0000C0200000000ULL, "TDX_METADATA_FIELD_NOT_READABLE" },
	{ 0xC0000C0400000000ULL, "TDX_METADATA_LIST_OVERFLOW" },
};

/* The leaf that failed, where one did, before what it came to. */
static const char *leaf_prefix(u64 leaf)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(leaves); i++)
		if (leaves[i].leaf == leaf)
			return leaves[i].prefix;
	return "";
}

static const struct known_status *find_status(u64 status)
{
	static const struct known_status unknown = { .name = "status" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(statuses); i++)
		if (statuses[i].status == tdxhost_status_code(status))
			return &statuses[i];
	return &unknown;
}

/**
 * tdxhost_code_errno() - the errno that goes with a finding
 * @code: TDXHOST_CODE_*
 *
 * Context: any.
 * Return: 0 for TDXHOST_CODE_NONE, otherwise a negative errno.
 */
int tdxhost_code_errno(u32 code)
{
	return code < ARRAY_SIZE(codes) ? codes[code].error : -EIO;
}

/**
 * tdxhost_code_text() - what a finding means, for the log
 * @code: TDXHOST_CODE_*
 *
 * Context: any.
 * Return: a constant string.
 */
const char *tdxhost_code_text(u32 code)
{
	return code < ARRAY_SIZE(codes) ? codes[code].text : "unknown";
}

/**
 * tdxhost_call_errno() - what a SEAMCALL came to, as an errno
 * @call: a SEAMCALL that was made
 *
 * Context: any.
 * Return: 0 for every status of success class, otherwise a negative errno.
 */
int tdxhost_call_errno(const struct tdxhost_call *call)
{
	int error = 0;

	if (call->code == TDXHOST_CODE_SEAMCALL)
		error = find_status(call->status)->error;
	return error ? error : tdxhost_code_errno(call->code);
}

static void describe_cpus(char *text, size_t room, u32 cpu, u32 others)
{
	if (cpu == TDXHOST_NONE)
		*text = '\0';
	else if (others)
		scnprintf(text, room, " on CPU %u and %u more", cpu, others);
	else
		scnprintf(text, room, " on CPU %u", cpu);
}

static void describe_reason(char *text, size_t room, const struct tdxhost_step_result *failure)
{
	if (failure->code == TDXHOST_CODE_SEAMCALL)
		scnprintf(text, room, "%s 0x%016llx", find_status(failure->seam_status)->name,
			  failure->seam_status);
	else if (failure->trap)
		scnprintf(text, room, "%s, trap %u", tdxhost_code_text(failure->code),
			  failure->trap);
	else
		scnprintf(text, room, "%s", tdxhost_code_text(failure->code));
}

/**
 * tdxhost_log_failure() - log a failure, in one line
 * @what: what has failed
 * @failure: how; its step does not matter
 * @others: CPUs besides that of @failure that have failed in the same way
 *
 * Context: any.
 */
void tdxhost_log_failure(const char *what, const struct tdxhost_step_result *failure, u32 others)
{
	/* Enough for a validation run, and an end to a program that asks in a loop. */
	static DEFINE_RATELIMIT_STATE(lines, 5 * HZ, 200);
	char cpus[48], reason[96];

	if (!__ratelimit(&lines))
		return;
	describe_cpus(cpus, sizeof(cpus), failure->cpu, others);
	describe_reason(reason, sizeof(reason), failure);
	pr_err("%s failed%s: %s%s (%d)\n", what, cpus, leaf_prefix(failure->leaf), reason,
	       -(int)failure->error);
}
