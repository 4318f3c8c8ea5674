// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provider "kernel": the kernel has tdx_cpu_enable() and tdx_enable(), and leaves it to
 * others when they are called (INTEL_TDX_HOST on, Linux 6.8 to 7.0).
 *
 * What they assume is done here: VMX operation, on one CPU for the first, on all for
 * the second, and CPU hotplug held off. They tell no more than an errno, and the kernel
 * keeps TDMRs and PAMTs to itself; what the TDX module tells everyone is read here.
 */
#include <linux/cpumask.h>
#include <linux/errno.h>
#include <linux/module.h>

#include "compat.h"
#include "provider.h"
#include "seamcall.h"
#include "steps.h"
#include "tdxhost.h"

static int (*cpu_enable)(void);
static int (*enable)(void);

static bool has_symbol(const char *name)
{
	if (!__symbol_get(name))
		return false;
	__symbol_put(name);
	return true;
}

/**
 * tdxhost_kernel_has_tdx_enable() - whether the kernel leaves it to others to call it
 *
 * Context: task, may sleep.
 * Return: true where tdx_cpu_enable() and tdx_enable() are there, for whomever.
 */
bool tdxhost_kernel_has_tdx_enable(void)
{
	return has_symbol("tdx_cpu_enable") && has_symbol("tdx_enable");
}

static const char *kernel_refuse(void)
{
	if (!tdxhost_kernel_owns_tdx())
		return "the kernel has no TDX host support, or found no TDX";
	if (!tdxhost_kernel_has_tdx_enable())
		return "the kernel exports no tdx_enable(): it initialises TDX by itself";
	return NULL;
}

static const char *kernel_warn(void)
{
	return TDXHOST_TDX_ENABLE_OWNER;
}

static void kernel_exit(void)
{
	tdxhost_vmx_hold_exit();
	__symbol_put("tdx_enable");
	__symbol_put("tdx_cpu_enable");
	tdxhost_vmx_exit();
}

static int kernel_init(void)
{
	int ret = tdxhost_vmx_init();

	if (ret)
		return ret;
	ret = -ENOENT;
	cpu_enable = __symbol_get("tdx_cpu_enable");
	if (!cpu_enable)
		goto vmx_exit;
	enable = __symbol_get("tdx_enable");
	if (!enable)
		goto put_cpu_enable;
	ret = tdxhost_vmx_hold_init();
	if (ret)
		goto put_enable;
	tdxhost_status_pamt(TDXHOST_UNKNOWN_BYTES);
	return 0;

put_enable:
	__symbol_put("tdx_enable");
put_cpu_enable:
	__symbol_put("tdx_cpu_enable");
vmx_exit:
	tdxhost_vmx_exit();
	return ret;
}

/* What an errno of theirs means (Linux 6.12 arch/x86/virt/vmx/tdx/tdx.c, seamcall_prerr()). */
static u32 code_of(int ret)
{
	switch (ret) {
	case 0:
		return TDXHOST_CODE_NONE;
	case -ENODEV:
		return TDXHOST_CODE_NO_MODULE;
	case -EOPNOTSUPP:
		return TDXHOST_CODE_NO_SEAMRR;
	default:
		return TDXHOST_CODE_KERNEL;
	}
}

static int kernel_cpu_enable(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	int ret = cpu_enable();

	attempt->result.flags |= TDXHOST_CPU_BY_KERNEL;
	attempt->result.code = code_of(ret);
	return ret;
}

/*
 * With a CPU missing that firmware has enabled, the TDX module would refuse its
 * configuration (TDX_SYS_CONFIG_NOT_PENDING), and the kernel does not try twice.
 */
static int check_none_missing(struct tdxhost_step_result *result)
{
	int cpu;

	for_each_present_cpu(cpu) {
		if (tdxhost_cpu_enabled(cpu))
			continue;
		tdxhost_cpus_log_missing();
		return tdxhost_step_fail(result, TDXHOST_CODE_CPU_OFFLINE, cpu);
	}
	return 0;
}

static int kernel_enable_cpus(struct tdxhost_step_result *result, u32 flags)
{
	int ret;

	result->flags |= TDXHOST_STEPF_BY_KERNEL;
	ret = steps_enable_cpus(result, flags);
	return ret ? ret : check_none_missing(result);
}

/*
 * The kernel takes all of its memory, and fails for good when some of it is outside
 * CMRs (TDX_TDMR_OUTSIDE_CMRS).
 */
static int kernel_check_memory(struct tdxhost_step_result *result, u32 flags)
{
	return tdxhost_memory_check(result);
}

static int kernel_enable(struct tdxhost_step_result *result, u32 flags)
{
	int ret = tdxhost_vmx_hold(result);

	if (ret)
		return ret;
	ret = enable();
	tdxhost_vmx_release();
	result->flags |= TDXHOST_STEPF_BY_KERNEL;
	if (!ret)
		return 0;
	/* It is done once a boot, whatever came of it. */
	result->flags |= TDXHOST_STEPF_FINAL;
	tdxhost_step_fail(result, code_of(ret), TDXHOST_NONE);
	result->error = -ret;
	return ret;
}

static const struct tdxhost_step kernel_steps[] = {
	{ TDXHOST_STEP_PLATFORM, "platform check", steps_check_platform, TDXHOST_STEP_PLATFORM },
	{ TDXHOST_STEP_CPUS, "enabling CPUs", kernel_enable_cpus, TDXHOST_STEP_CPUS },
	{ TDXHOST_STEP_MODULE_INFO, "module information", steps_read_metadata,
	  TDXHOST_STEP_MODULE_INFO },
	{ TDXHOST_STEP_MEMORY, "memory check", kernel_check_memory, TDXHOST_STEP_MEMORY },
	{ TDXHOST_STEP_KERNEL, "the kernel's tdx_enable()", kernel_enable, TDXHOST_STEP_KERNEL },
};

const struct tdxhost_provider tdxhost_provider_kernel = {
	.id = TDXHOST_PROVIDER_KERNEL,
	.name = "kernel",
	.refuse = kernel_refuse,
	.warn = kernel_warn,
	.features = TDXHOST_FEATURE_RETRY,
	.init = kernel_init,
	.exit = kernel_exit,
	.acts = true,
	.cpu_enable = kernel_cpu_enable,
	.steps = kernel_steps,
	.nr_steps = ARRAY_SIZE(kernel_steps),
};
