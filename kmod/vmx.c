// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMX operation, which SEAMCALL needs, for as long as interrupts are off.
 *
 * Nobody keeps count of who wants VMX on a CPU: KVM turns it on and off with its
 * own first and last VM. So tdxhost never leaves it on. A window opens with
 * interrupts off and is closed before they go on again; nothing else on the CPU
 * can see CR4.VMXE set meanwhile, and KVM can come and go at any time. Where KVM's
 * VMX operation is used it has not changed afterwards, nor has KVM's VMCS.
 */
#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/tdxhost.h>
#include <linux/topology.h>

#include <asm/asm.h>
#include <asm/io.h>
#include <asm/msr.h>
#include <asm/special_insns.h>
#include <asm/trapnr.h>

#include "compat.h"
#include "seamcall.h"

#define VMXON_DONE 0
/* No vector: above every number that a fault can put into its place. */
#define VMXON_VMFAIL 256

/* IA32_VMX_BASIC[30:0]: what the first word of a VMXON region has to hold. SDM 3C, A.1 */
#define VMX_BASIC_REVISION GENMASK_ULL(30, 0)

static DEFINE_PER_CPU(struct page *, vmxon_page);

/* Returns VMXON_DONE, VMXON_VMFAIL, or the vector of the fault. */
static u32 vmx_on(u64 pa)
{
	u64 end;

	asm volatile("1:	vmxon	%[pa]\n"
		     "	jbe	2f\n"
		     "	movl	%[done], %%eax\n"
		     "	jmp	3f\n"
		     "2:	movl	%[vmfail], %%eax\n"
		     "3:\n" _ASM_EXTABLE_TYPE(1b, 3b, EX_TYPE_FAULT)
		     : "=&a"(end)
		     : [pa] "m"(pa), [done] "i"(VMXON_DONE), [vmfail] "i"(VMXON_VMFAIL)
		     : "cc", "memory");
	return end;
}

/*
 * CR4.VMXE does not say. VMXON would, but its failure is written to the current VMCS,
 * where KVM may be about to read why a VM entry of its own has failed. VMPTRST is #UD
 * outside VMX operation and changes nothing in it.
 */
static bool in_vmx_operation(void)
{
	bool in = false;
	u64 pa;

	asm volatile("1:	vmptrst	%[pa]\n"
		     "	movb	$1, %[in]\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     : [pa] "=m"(pa), [in] "+qm"(in)
		     :
		     : "cc");
	return in;
}

static void vmx_off(void)
{
	asm volatile("1:	vmxoff\n"
		     "2:\n" _ASM_EXTABLE(1b, 2b)
		     :
		     :
		     : "cc", "memory");
}

/*
 * Neither cr4_set_bits() nor its irqsoff variant: the kernel's copy of CR4 must
 * not learn of a bit that is gone before anybody may look.
 */
static void set_cr4(unsigned long cr4)
{
	asm volatile("mov	%0, %%cr4" : : "r"(cr4) : "memory");
}

static void set_vmxe(const struct tdxhost_vmx *vmx)
{
	if (vmx->update_cr4)
		vmx->update_cr4(X86_CR4_VMXE, 0);
	else
		set_cr4(vmx->cr4 | X86_CR4_VMXE);
}

/* Where the kernel had VMXE set itself it is not ours to clear. */
static void restore_vmxe(const struct tdxhost_vmx *vmx)
{
	if (!vmx->update_cr4)
		set_cr4(vmx->cr4);
	else if (!(vmx->cr4 & X86_CR4_VMXE))
		vmx->update_cr4(0, X86_CR4_VMXE);
}

static u32 vmxon_page_prepare(u64 *pa)
{
	struct page *page = this_cpu_read(vmxon_page);
	u64 basic;

	if (rdmsrq_safe(MSR_IA32_VMX_BASIC, &basic))
		return TDXHOST_CODE_NO_VMX;
	*(u32 *)page_address(page) = basic & VMX_BASIC_REVISION;
	*pa = page_to_phys(page);
	return TDXHOST_CODE_NONE;
}

static u32 why_vmxon_faulted(void)
{
	const u64 wanted = FEAT_CTL_LOCKED | FEAT_CTL_VMX_ENABLED_OUTSIDE_SMX;
	u64 feat_ctl;

	if (rdmsrq_safe(MSR_IA32_FEAT_CTL, &feat_ctl) || (feat_ctl & wanted) != wanted)
		return TDXHOST_CODE_VMX_LOCKED_OFF;
	return TDXHOST_CODE_VMXON_FAILED;
}

/**
 * tdxhost_vmx_enter() - go into VMX operation on this CPU
 * @vmx: zeroed but for @update_cr4; what tdxhost_vmx_leave() needs afterwards; says why
 *	where it failed
 *
 * Where VMX is on already it is somebody else's, and used as it is. In the moments
 * in which KVM has set CR4.VMXE but is not in VMX operation yet, or has left it and
 * not cleared the bit, the window is our own and the bit stays set.
 *
 * Context: interrupts off, until after tdxhost_vmx_leave().
 * Return: 0, or the TDXHOST_CODE_* that says why there is no VMX operation.
 */
u32 tdxhost_vmx_enter(struct tdxhost_vmx *vmx)
{
	u32 end;
	u64 pa;

	lockdep_assert_irqs_disabled();

	*vmx = (struct tdxhost_vmx){ .update_cr4 = vmx->update_cr4, .cr4 = __read_cr4() };
	vmx->borrowed = vmx->cr4 & X86_CR4_VMXE && in_vmx_operation();
	if (vmx->borrowed)
		return 0;
	vmx->code = vmxon_page_prepare(&pa);
	if (vmx->code)
		return vmx->code;

	if (!(vmx->cr4 & X86_CR4_VMXE))
		set_vmxe(vmx);
	end = vmx_on(pa);
	if (end == VMXON_DONE)
		return 0;

	restore_vmxe(vmx);
	vmx->trap = end == VMXON_VMFAIL ? 0 : end;
	vmx->code = vmx->trap ? why_vmxon_faulted() : TDXHOST_CODE_VMXON_FAILED;
	return vmx->code;
}

/**
 * tdxhost_vmx_leave() - leave VMX operation on this CPU, unless it was on before
 * @vmx: filled by tdxhost_vmx_enter(), which returned 0
 *
 * Context: interrupts off since before tdxhost_vmx_enter().
 */
void tdxhost_vmx_leave(const struct tdxhost_vmx *vmx)
{
	lockdep_assert_irqs_disabled();

	if (vmx->borrowed)
		return;
	vmx_off();
	restore_vmxe(vmx);
}

/**
 * tdxhost_vmx_exit() - give back the VMXON regions
 *
 * Context: task. No window is open and none will be opened.
 */
void tdxhost_vmx_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		if (per_cpu(vmxon_page, cpu))
			__free_page(per_cpu(vmxon_page, cpu));
		per_cpu(vmxon_page, cpu) = NULL;
	}
}

/**
 * tdxhost_vmx_init() - get a VMXON region for every CPU that can ever be
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOMEM.
 */
int tdxhost_vmx_init(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct page *page = alloc_pages_node(cpu_to_node(cpu), GFP_KERNEL | __GFP_ZERO, 0);

		if (!page) {
			tdxhost_vmx_exit();
			return -ENOMEM;
		}
		per_cpu(vmxon_page, cpu) = page;
	}
	return 0;
}
