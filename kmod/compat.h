/* SPDX-License-Identifier: GPL-2.0-only */
/* Every difference between the kernels that tdxhost builds on. */
#ifndef TDXHOST_COMPAT_H
#define TDXHOST_COMPAT_H

#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/module.h>
#include <linux/workqueue.h>

#include <asm/cpufeature.h>
#include <asm/msr.h>
#include <asm/processor.h>
#include <asm/tlbflush.h>

/* cpuid_ecx() has a header of its own since 6.16, which processor.h includes no more in 7.3. */
#ifdef TDXHOST_HAVE_ASM_CPUID_API
#include <asm/cpuid/api.h>
#endif

/* 6.16 renamed rdmsrl() to rdmsrq(): c435e608cf59 ("x86/msr: Rename 'rdmsrl()' to 'rdmsrq()'") */
#ifndef rdmsrq
#define rdmsrq_safe(msr, value) rdmsrl_safe(msr, value)
#endif

/* Since 6.8, and set only by a kernel that has INTEL_TDX_HOST on. */
#ifdef X86_FEATURE_TDX_HOST_PLATFORM
#define tdxhost_kernel_owns_tdx() boot_cpu_has(X86_FEATURE_TDX_HOST_PLATFORM)
#else
#define tdxhost_kernel_owns_tdx() false
#endif

/*
 * alloc_contig_range() wanted a migrate type and has wanted flags since 6.17 ("Make
 * MIGRATE_ISOLATE a standalone bit"), where the number of MIGRATE_MOVABLE asks for CMA's
 * memory.
 */
#ifdef ACR_FLAGS_NONE
#define TDXHOST_CONTIG_ORDINARY ACR_FLAGS_NONE
#else
#define TDXHOST_CONTIG_ORDINARY MIGRATE_MOVABLE
#endif

/*
 * lockdep_assert_cpus_held() is for modules since 6.15, where Hyper-V came to need it:
 * 7c0db8a4f59d ("cpu: export lockdep_assert_cpus_held()").
 * Before, what is left of the contract is that callers may sleep.
 */
#ifdef TDXHOST_HAVE_LOCKDEP_ASSERT_CPUS_HELD
#define tdxhost_assert_cpus_held() lockdep_assert_cpus_held()
#else
#define tdxhost_assert_cpus_held() might_sleep()
#endif

/*
 * How the kernel changes CR4. Since 6.19 the export is for KVM's modules alone: 6276c67f2bc4
 * ("x86: Restrict KVM-induced symbol exports to KVM modules where obvious/possible").
 * symbol_get() looks at a symbol's licence and not at the modules that it is exported for,
 * and takes no symbol that was exported to everyone, as this one was before.
 */
typedef void (*tdxhost_cr4_update_t)(unsigned long set, unsigned long clear);

#ifdef TDXHOST_HAVE_CR4_UPDATE_IRQSOFF
static inline tdxhost_cr4_update_t tdxhost_cr4_update_get(void)
{
	return &cr4_update_irqsoff;
}

static inline void tdxhost_cr4_update_put(void)
{
}
#else
static inline tdxhost_cr4_update_t tdxhost_cr4_update_get(void)
{
	return (tdxhost_cr4_update_t)__symbol_get("cr4_update_irqsoff");
}

static inline void tdxhost_cr4_update_put(void)
{
	__symbol_put("cr4_update_irqsoff");
}
#endif

/* Since 6.17, where queues are to say so: 930c2ea566af ("workqueue: Add new WQ_PERCPU flag"). */
#ifdef TDXHOST_HAVE_WQ_PERCPU
#define TDXHOST_WQ_PERCPU WQ_PERCPU
#else
#define TDXHOST_WQ_PERCPU 0
#endif

/* From 6.19 (the same commit) to 7.0 tdx_enable() is exported to KVM's modules alone. */
#ifdef TDXHOST_TDX_ENABLE_IS_KVMS
#define TDXHOST_TDX_ENABLE_OWNER "the kernel exports tdx_enable() to KVM alone"
#else
#define TDXHOST_TDX_ENABLE_OWNER NULL
#endif

#endif /* TDXHOST_COMPAT_H */
