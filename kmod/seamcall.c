// SPDX-License-Identifier: GPL-2.0-only
/* SEAMCALL: the instruction, and what is tried again. */
#include <linux/bits.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
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
} passing[] = {
	/* As often as the kernel tries RDRAND itself (RDRAND_RETRY_LOOPS). */
	{ TDX_RND_NO_ENTROPY, 10 },
	{ TDX_KEY_GENERATION_FAILED, 10 },
	/* Another CPU holds a lock of the TDX module's for the length of one leaf. */
	{ TDX_SYS_BUSY, 100 },
	{ TDX_OPERAND_BUSY, 100 },
};

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
	u64 took = ktime_get_ns() - start;

	call->ns += took;
	call->cpu = smp_processor_id();
	call->calls++;
	call->retries += call->again;
	call->tries = call->again ? call->tries + 1 : 1;
	call->status = end == SEAMCALL_RETURNED ? rax : 0;
	call->trap = end == SEAMCALL_FAULTED ? rax : 0;
	call->code = ending_code(call, end);
	call->again = passes(call);
	trace_seamcall(call, took);
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
	struct tdxhost_vmx vmx = {};

	call->cpu = smp_processor_id();
	call->code = tdxhost_vmx_enter(&vmx);
	if (call->code) {
		call->trap = vmx.trap;
		call->again = false;
		/* The TDX module was not reached this time. */
		call->status = 0;
		call->out = (struct tdxhost_regs){};
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
 * Return: true when it is to be repeated now; false when it is not, or the caller is stopped.
 */
bool tdxhost_wait_again(bool again)
{
	might_sleep();

	if (!again || tdxhost_is_stopped())
		return false;
	usleep_range(PAUSE_LEAST_US, PAUSE_MOST_US);
	return true;
}

/**
 * tdxhost_seamcall_stretch() - a SEAMCALL that advances by many calls, for a while
 * @call: what to call; holds the outcome of the last call afterwards
 * @rdx_end: the work is done when RDX has come here
 *
 * Returns after some calls, done or not, so that the caller can look around. Where @call->again
 * is set it is to be called once more, after tdxhost_wait_again().
 *
 * Context: task, may sleep. The CPU must be enabled.
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_seamcall_stretch(struct tdxhost_call *call, u64 rdx_end)
{
	unsigned long flags;

	local_irq_save(flags);
	seamcall_windowed(call, rdx_end);
	local_irq_restore(flags);
	return tdxhost_call_errno(call);
}

/**
 * tdxhost_seamcall() - SEAMCALL on the CPU that the caller runs on
 * @call: what to call; holds the outcome afterwards
 *
 * A caller that is stopped tries no more, which leaves @call->again set.
 *
 * Context: task, may sleep. The CPU must be enabled.
 * Return: 0 for a status of success class, otherwise a negative errno.
 */
int tdxhost_seamcall(struct tdxhost_call *call)
{
	int ret;

	do {
		ret = tdxhost_seamcall_stretch(call, 0);
	} while (tdxhost_wait_again(call->again));
	return ret;
}
