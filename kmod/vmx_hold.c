// SPDX-License-Identifier: GPL-2.0-only
/*
 * VMX operation on every CPU, for as long as the kernel's own tdx_enable() runs.
 *
 * It makes SEAMCALLs on CPUs of its choice and sleeps in between, so that no window
 * would do. Where KVM is in VMX operation its is used, and /dev/kvm is kept open: KVM
 * can't be unloaded then. Elsewhere VMX is turned on here. Should KVM come meanwhile it
 * finds CR4.VMXE set by somebody else, and refuses to be loaded with -EBUSY.
 *
 * There is no hold on a KVM that was told to be in VMX operation only while there are
 * VMs (kvm.enable_virt_at_load=0): the last VM takes it away.
 */
#include <linux/cpu.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fcntl.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/percpu.h>
#include <linux/sched/signal.h>
#include <linux/smp.h>
#include <linux/tdxhost.h>

#include "compat.h"
#include "seamcall.h"
#include "tdxhost.h"

/* How often, and how long apart, to look again at a KVM that is coming or going. */
#define KVM_TRIES 50
#define KVM_PAUSE_MS 20

static tdxhost_cr4_update_t update_cr4;

/* Written by the CPU itself, from an IPI; the whole by tdx_enable() alone. */
static DEFINE_PER_CPU(struct tdxhost_vmx, holds);

/* Open while KVM's VMX operation is used. */
static struct file *kvm;

static void hold_here(void *data)
{
	struct tdxhost_vmx *vmx = this_cpu_ptr(&holds);

	*vmx = (struct tdxhost_vmx){ .update_cr4 = update_cr4 };
	if (tdxhost_vmx_enter(vmx))
		return;
	/* CR4.VMXE without VMX operation: KVM is about to go into it, or has just left. */
	if (vmx->cr4 & X86_CR4_VMXE && !vmx->borrowed) {
		tdxhost_vmx_leave(vmx);
		vmx->code = TDXHOST_CODE_VMX_BUSY;
	}
}

static void release_here(void *data)
{
	struct tdxhost_vmx *vmx = this_cpu_ptr(&holds);

	if (!vmx->code)
		tdxhost_vmx_leave(vmx);
	vmx->code = TDXHOST_CODE_VMX_BUSY;
}

/* The first CPU that could not be held, and why; nr_cpu_ids or more where there is none. */
static unsigned int first_failed(struct tdxhost_vmx *why)
{
	unsigned int cpu;

	for_each_online_cpu(cpu) {
		*why = per_cpu(holds, cpu);
		if (why->code)
			break;
	}
	return cpu;
}

static bool any_borrowed(void)
{
	unsigned int cpu;

	for_each_online_cpu(cpu)
		if (per_cpu(holds, cpu).borrowed)
			return true;
	return false;
}

static void open_kvm(void)
{
	struct file *file = filp_open("/dev/kvm", O_RDWR | O_CLOEXEC, 0);

	kvm = IS_ERR(file) ? NULL : file;
}

/**
 * tdxhost_vmx_release() - end what tdxhost_vmx_hold() began
 *
 * Context: task, may sleep. CPU hotplug lock held since before tdxhost_vmx_hold().
 */
void tdxhost_vmx_release(void)
{
	on_each_cpu(release_here, NULL, true);
	if (kvm)
		fput(kvm);
	kvm = NULL;
}

static int try_hold(struct tdxhost_step_result *result)
{
	struct tdxhost_vmx why = {};
	unsigned int cpu;

	open_kvm();
	on_each_cpu(hold_here, NULL, true);
	cpu = first_failed(&why);
	if (cpu >= nr_cpu_ids && any_borrowed() && !kvm) {
		/* KVM was loaded since its device was looked for. */
		why.code = TDXHOST_CODE_VMX_BUSY;
		cpu = TDXHOST_NONE;
	}
	if (!why.code)
		return 0;
	tdxhost_vmx_release();
	result->trap = why.trap;
	return tdxhost_step_fail(result, why.code, cpu);
}

/**
 * tdxhost_vmx_hold() - be in VMX operation on every online CPU until further notice
 * @result: of the step
 *
 * Context: task, may sleep. CPU hotplug lock held until after tdxhost_vmx_release().
 * Return: 0 or a negative errno, with the reason in @result.
 */
int tdxhost_vmx_hold(struct tdxhost_step_result *result)
{
	int tries = KVM_TRIES, ret;

	tdxhost_assert_cpus_held();

	ret = try_hold(result);
	while (ret && result->code == TDXHOST_CODE_VMX_BUSY && --tries &&
	       !signal_pending(current)) {
		msleep(KVM_PAUSE_MS);
		ret = try_hold(result);
	}
	if (!ret)
		tdxhost_step_fail(result, TDXHOST_CODE_NONE, TDXHOST_NONE);
	return ret;
}

/**
 * tdxhost_vmx_hold_init() - find what it takes to hold VMX operation
 *
 * Context: task, may sleep.
 * Return: 0 or -ENOENT.
 */
int tdxhost_vmx_hold_init(void)
{
	update_cr4 = tdxhost_cr4_update_get();
	return update_cr4 ? 0 : -ENOENT;
}

/**
 * tdxhost_vmx_hold_exit() - let go of that
 *
 * Context: task, may sleep.
 */
void tdxhost_vmx_hold_exit(void)
{
	tdxhost_cr4_update_put();
}
