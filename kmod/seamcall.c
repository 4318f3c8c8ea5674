// SPDX-License-Identifier: GPL-2.0-only
/* SEAMCALL: the instruction, what it may answer, and what is tried again. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bits.h>
#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/tdxhost.h>

#include <asm/asm.h>
#include <asm/trapnr.h>

#include "seamcall.h"
#include "tdxhost.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/* How long SEAMCALLs may follow each other before interrupts have their turn. */
#define IRQS_OFF_NS (100 * NSEC_PER_USEC)

/* How long they have it before a SEAMCALL is repeated. */
#define PAUSE_LEAST_US 100
#define PAUSE_MOST_US 1000

/* How the instruction ended, besides by a fault. */
#define SEAMCALL_RETURNED 0
#define SEAMCALL_VMFAIL 1
#define SEAMCALL_FAULTED 2

/* What is worth another try, and how often: bounds, not promises of the TDX module's. */
static const struct {
	u64 status;
	unsigned int tries;
	int error;
} passing[] = {
	/* As often as the kernel tries RDRAND itself (RDRAND_RETRY_LOOPS). */
	{ TDX_RND_NO_ENTROPY, 10, -EAGAIN },
	{ TDX_KEY_GENERATION_FAILED, 10, -EAGAIN },
	/* Another CPU holds a lock of the TDX module's for the length of one leaf. */
	{ TDX_SYS_BUSY, 100, -EBUSY },
	{ TDX_OPERAND_BUSY, 100, -EBUSY },
};

/* The driver's findings: the errno that goes with each, and what the log says. */
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
};

static const struct {
	u64 leaf;
	const char *name;
} leaf_names[] = {
	{ TDH_SYS_KEY_CONFIG, "TDH.SYS.KEY.CONFIG" },
	{ TDH_SYS_INIT, "TDH.SYS.INIT" },
	{ TDH_SYS_RD, "TDH.SYS.RD" },
	{ TDH_SYS_LP_INIT, "TDH.SYS.LP.INIT" },
	{ TDH_SYS_TDMR_INIT, "TDH.SYS.TDMR.INIT" },
	{ TDH_SYS_CONFIG, "TDH.SYS.CONFIG" },
};

static const struct {
	u64 status;
	const char *name;
} status_names[] = {
	{ 0xC000010000000000ULL, "TDX_OPERAND_INVALID" },
	{ TDX_OPERAND_BUSY, "TDX_OPERAND_BUSY" },
	{ TDX_SYS_BUSY, "TDX_SYS_BUSY" },
	{ TDX_RND_NO_ENTROPY, "TDX_RND_NO_ENTROPY" },
	{ TDX_SYS_INIT_NOT_PENDING, "TDX_SYS_INIT_NOT_PENDING" },
	{ 0xC000050200000000ULL, "TDX_SYS_LP_INIT_NOT_DONE" },
	{ TDX_SYS_LP_INIT_DONE, "TDX_SYS_LP_INIT_DONE" },
	{ 0xC000050500000000ULL, "TDX_SYS_NOT_READY" },
	{ 0xC000050600000000ULL, "TDX_SYS_SHUTDOWN" },
	{ 0xC000050700000000ULL, "TDX_SYS_KEY_CONFIG_NOT_PENDING" },
	{ 0xC000050B00000000ULL, "TDX_SYS_LP_INIT_NOT_PENDING" },
	{ 0xC000050C00000000ULL, "TDX_SYS_CONFIG_NOT_PENDING" },
	{ TDX_KEY_GENERATION_FAILED, "TDX_KEY_GENERATION_FAILED" },
	{ 0xC000090000000000ULL, "TDX_INCORRECT_CPUID_VALUE" },
	{ 0xC000090200000000ULL, "TDX_INCONSISTENT_CPUID_FIELD" },
	{ 0xC000092000000000ULL, "TDX_INCONSISTENT_MSR" },
	{ 0xC000092100000000ULL, "TDX_INCORRECT_MSR_VALUE" },
	{ 0xC0000A0200000000ULL, "TDX_TDMR_OUTSIDE_CMRS" },
	{ 0xC0000A1100000000ULL, "TDX_PAMT_OUTSIDE_CMRS" },
	{ 0xC0000A1200000000ULL, "TDX_PAMT_OVERLAP" },
	{ 0xC0000C0000000000ULL, "TDX_METADATA_FIELD_ID_INCORRECT" },
};

static const char *leaf_name(u64 leaf)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(leaf_names); i++)
		if (leaf_names[i].leaf == leaf)
			return leaf_names[i].name;
	return "SEAMCALL";
}

static const char *status_name(u64 status)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(status_names); i++)
		if (status_names[i].status == tdxhost_status_code(status))
			return status_names[i].name;
	return "status";
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
	size_t i;

	if (call->code == TDXHOST_CODE_SEAMCALL)
		for (i = 0; i < ARRAY_SIZE(passing); i++)
			if (passing[i].status == tdxhost_status_code(call->status))
				return passing[i].error;
	return tdxhost_code_errno(call->code);
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
	const char *leaf = failure->leaf ? leaf_name(failure->leaf) : "";
	int error = -(int)failure->error;
	char cpu[48] = "";

	if (!__ratelimit(&lines))
		return;
	if (failure->cpu != TDXHOST_NONE && others)
		scnprintf(cpu, sizeof(cpu), " on CPU %u and %u more", failure->cpu, others);
	else if (failure->cpu != TDXHOST_NONE)
		scnprintf(cpu, sizeof(cpu), " on CPU %u", failure->cpu);
	if (failure->code == TDXHOST_CODE_SEAMCALL)
		pr_err("%s failed%s: %s: %s 0x%016llx (%d)\n", what, cpu, leaf,
		       status_name(failure->seam_status), failure->seam_status, error);
	else if (failure->trap)
		pr_err("%s failed%s: %s, trap %u (%d)\n", what, cpu,
		       tdxhost_code_text(failure->code), failure->trap, error);
	else
		pr_err("%s failed%s: %s (%d)\n", what, cpu, tdxhost_code_text(failure->code),
		       error);
}

/* Returns SEAMCALL_*; on a fault @rax holds the vector, put there by the fixup. */
static u32 seamcall(u64 *rax, const struct tdxhost_regs *in, struct tdxhost_regs *out)
{
	u64 rcx = in->rcx, rdx = in->rdx, in8 = in->r8, in9 = in->r9;
	u64 in10 = in->r10, in11 = in->r11, ax = *rax;
	u32 end = SEAMCALL_FAULTED;
	/* Nothing that the compiler may turn into a call can stand from here to the asm. */
	register u64 r8 asm("r8") = in8;
	register u64 r9 asm("r9") = in9;
	register u64 r10 asm("r10") = in10;
	register u64 r11 asm("r11") = in11;

	/* SEAMCALL is 66 0F 01 CF; assemblers before binutils 2.38 have no name for it. */
	asm volatile("1:	.byte	0x66, 0x0f, 0x01, 0xcf\n"
		     "	jc	2f\n"
		     "	movl	%[returned], %[end]\n"
		     "	jmp	3f\n"
		     "2:	movl	%[vmfail], %[end]\n"
		     "3:\n" _ASM_EXTABLE_TYPE(1b, 3b, EX_TYPE_FAULT)
		     : "+a"(ax), "+c"(rcx), "+d"(rdx), "+r"(r8), "+r"(r9), "+r"(r10),
		       "+r"(r11), [end] "+r"(end)
		     : [returned] "i"(SEAMCALL_RETURNED), [vmfail] "i"(SEAMCALL_VMFAIL)
		     : "cc", "memory");
	*rax = ax;
	*out = (struct tdxhost_regs){ rcx, rdx, r8, r9, r10, r11 };
	return end;
}

/* Whether the SEAMCALL that was just made is worth another. */
static bool passes(const struct tdxhost_call *call)
{
	size_t i;

	if (call->code != TDXHOST_CODE_SEAMCALL)
		return false;
	for (i = 0; i < ARRAY_SIZE(passing); i++)
		if (passing[i].status == tdxhost_status_code(call->status))
			return call->tries < passing[i].tries;
	return false;
}

static u32 ending_code(const struct tdxhost_call *call, u32 end)
{
	if (end == SEAMCALL_VMFAIL)
		return TDXHOST_CODE_NO_MODULE;
	if (end == SEAMCALL_FAULTED)
		/* In VMX root operation #GP leaves one reason: the SEAM range is not enabled. */
		return call->trap == X86_TRAP_GP ? TDXHOST_CODE_NO_SEAMRR : TDXHOST_CODE_TRAP;
	if (call->status & (TDX_STATUS_ERROR | TDX_STATUS_NON_RECOVERABLE))
		return TDXHOST_CODE_SEAMCALL;
	return TDXHOST_CODE_NONE;
}

static void seamcall_once(struct tdxhost_call *call)
{
	u64 rax = call->leaf, start = ktime_get_ns();
	u32 end = seamcall(&rax, &call->in, &call->out);

	call->cpu = smp_processor_id();
	call->calls++;
	call->retries += call->again;
	call->tries = call->again ? call->tries + 1 : 1;
	call->status = end == SEAMCALL_RETURNED ? rax : 0;
	call->trap = end == SEAMCALL_FAULTED ? rax : 0;
	call->code = ending_code(call, end);
	call->again = passes(call);
	trace_seamcall(call, ktime_get_ns() - start);
}

/* Whether one more SEAMCALL is due: a repeated one, or one that moves RDX on towards @rdx_end. */
static bool more(const struct tdxhost_call *call, u64 rdx_end)
{
	return call->again || (!call->code && !call->status && call->out.rdx < rdx_end);
}

/* SEAMCALL for as long as there is more to do, but no longer than interrupts may wait. */
static void seamcall_burst(struct tdxhost_call *call, u64 rdx_end)
{
	u64 start = ktime_get_ns();

	seamcall_once(call);
	while (more(call, rdx_end) && ktime_get_ns() - start < IRQS_OFF_NS) {
		cpu_relax();
		seamcall_once(call);
	}
}

/**
 * tdxhost_seamcall_in_vmx() - SEAMCALL inside VMX operation
 * @call: what to call; holds the outcome afterwards
 *
 * Repeats it for as long as interrupts may wait; @call->again says whether it is
 * to be called once more when they have had their turn.
 *
 * Context: interrupts off, between tdxhost_vmx_enter() and tdxhost_vmx_leave().
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_seamcall_in_vmx(struct tdxhost_call *call)
{
	lockdep_assert_irqs_disabled();

	seamcall_burst(call, 0);
	return tdxhost_call_errno(call);
}

/* One window of VMX operation, and a burst of SEAMCALLs in it. */
static void seamcall_windowed(struct tdxhost_call *call, u64 rdx_end)
{
	struct tdxhost_vmx vmx;

	call->cpu = smp_processor_id();
	call->code = tdxhost_vmx_enter(&vmx);
	if (call->code) {
		call->trap = vmx.trap;
		call->again = false;
		return;
	}
	seamcall_burst(call, rdx_end);
	tdxhost_vmx_leave(&vmx);
}

/**
 * tdxhost_seamcall_atomic() - SEAMCALL with interrupts off
 * @call: what to call; holds the outcome afterwards, as for tdxhost_seamcall_in_vmx()
 *
 * Context: interrupts off.
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_seamcall_atomic(struct tdxhost_call *call)
{
	lockdep_assert_irqs_disabled();

	seamcall_windowed(call, 0);
	return tdxhost_call_errno(call);
}

/**
 * tdxhost_wait_again() - wait before a SEAMCALL is repeated
 * @again: whether it is to be
 *
 * Interrupts are on meanwhile, so a lock that stays busy in the TDX module keeps
 * the caller waiting and nobody else.
 *
 * Context: task, may sleep.
 * Return: true when it is to be repeated now; false when it is not, or a signal came.
 */
bool tdxhost_wait_again(bool again)
{
	might_sleep();

	if (!again || signal_pending(current))
		return false;
	usleep_range(PAUSE_LEAST_US, PAUSE_MOST_US);
	return true;
}

/**
 * tdxhost_seamcall_stretch() - a SEAMCALL that advances by many calls, for a while
 * @call: what to call; holds the outcome of the last call afterwards
 * @rdx_end: the work is done when RDX has come here
 *
 * Returns after some calls, done or not, so that the caller can look around. A
 * signal ends the tries, and leaves @call->again set.
 *
 * Context: task, may sleep. The CPU must be enabled.
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_seamcall_stretch(struct tdxhost_call *call, u64 rdx_end)
{
	unsigned long flags;

	do {
		local_irq_save(flags);
		seamcall_windowed(call, rdx_end);
		local_irq_restore(flags);
	} while (tdxhost_wait_again(call->again));
	return tdxhost_call_errno(call);
}

/**
 * tdxhost_seamcall() - SEAMCALL on the CPU that the caller runs on
 * @call: what to call; holds the outcome afterwards
 *
 * Context: task, may sleep. The CPU must be enabled.
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_seamcall(struct tdxhost_call *call)
{
	return tdxhost_seamcall_stretch(call, 0);
}
