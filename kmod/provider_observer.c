// SPDX-License-Identifier: GPL-2.0-only
/*
 * Provider "observer": the kernel initialises TDX by itself and has nothing to call
 * (INTEL_TDX_HOST on, Linux 7.1 and newer), or others call it (KVM, from 6.16 to 7.0).
 * What was done shows in what the TDX module answers to leaves that change nothing.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/irqflags.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/smp.h>

#include "compat.h"
#include "provider.h"
#include "seamcall.h"
#include "steps.h"
#include "tdxhost.h"

/* Makes those who look take turns. Outside the CPU hotplug lock. */
static DEFINE_MUTEX(look_lock);

static const char *observer_refuse(void)
{
	if (!tdxhost_kernel_owns_tdx())
		return "the kernel has no TDX host support, or found no TDX";
	return NULL;
}

static int observer_init(void)
{
	tdxhost_status_pamt(TDXHOST_UNKNOWN_BYTES);
	return tdxhost_vmx_init();
}

/*
 * Only a CPU on which TDH.SYS.LP.INIT was done is told anything. That it was says nothing
 * of how; that it was not is what the failure shows.
 */
static int observer_cpu_look(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	struct tdxhost_call call = {};
	int ret = tdxhost_metadata_probe(&call);

	if (ret)
		tdxhost_cpu_took(&attempt->result, &call);
	else
		attempt->result.flags |= TDXHOST_CPU_BY_KERNEL;
	return ret;
}

static void look_here(void *data)
{
	struct tdxhost_request request = {};
	struct tdxhost_attempt attempt = {};

	tdxhost_cpu_enable(&request, &attempt);
}

static bool is_not_known(int cpu, void *data)
{
	return !tdxhost_cpu_enabled(cpu);
}

static void look_at_metadata(void)
{
	struct tdxhost_step_result result = {};
	struct tdxhost_map *map = tdxhost_map_lock();
	bool known = map->has_metadata;

	tdxhost_map_unlock();
	if (!known && !steps_read_metadata(&result, 0))
		tdxhost_memory_check(&result);
}

/* A leaf that only a TDX module takes that is initialised; it reads what a page is used for. */
static void ask_module(struct tdxhost_call *call)
{
	unsigned long flags;

	call->leaf = TDH_PHYMEM_PAGE_RDMD;
	local_irq_save(flags);
	tdxhost_seamcall_atomic(call);
	local_irq_restore(flags);
}

static bool is_initialised(const struct tdxhost_call *call)
{
	if (call->code != TDXHOST_CODE_NONE && call->code != TDXHOST_CODE_SEAMCALL)
		return false;
	switch (tdxhost_status_code(call->status)) {
	case TDX_SYS_NOT_READY:
	case TDX_SYS_SHUTDOWN:
	case TDX_SYS_BUSY:
		return false;
	default:
		return true;
	}
}

static void tell(u32 module_status, const struct tdxhost_step_result *result)
{
	struct tdxhost_status told = {};

	tdxhost_status_get(&told);
	if (told.module_status == module_status && told.seam_status == result->seam_status)
		return;
	tdxhost_status_module(module_status, result);
	if (module_status == TDXHOST_MODULE_INITIALIZED)
		pr_info("TDX module initialized, by the kernel\n");
	else if (module_status == TDXHOST_MODULE_ERROR)
		tdxhost_log_failure("initialisation by the kernel", result, 0);
}

/* Returns TDXHOST_MODULE_*. A kernel that was not asked to initialise TDX has not failed. */
static u32 look_at_module(void)
{
	struct tdxhost_step_result result = { .cpu = TDXHOST_NONE };
	u32 module_status = TDXHOST_MODULE_UNKNOWN;
	struct tdxhost_call call = {};

	ask_module(&call);
	if (is_initialised(&call)) {
		module_status = TDXHOST_MODULE_INITIALIZED;
	} else if (!tdxhost_kernel_has_tdx_enable()) {
		module_status = TDXHOST_MODULE_ERROR;
		tdxhost_step_took(&result, &call);
		tdxhost_step_fail(&result, TDXHOST_CODE_KERNEL, TDXHOST_NONE);
	}
	tell(module_status, &result);
	return module_status;
}

static void observer_look(void)
{
	mutex_lock(&look_lock);
	cpus_read_lock();
	if (look_at_module() != TDXHOST_MODULE_UNKNOWN)
		on_each_cpu_cond(is_not_known, look_here, NULL, true);
	if (tdxhost_cpu_enabled(raw_smp_processor_id()))
		look_at_metadata();
	cpus_read_unlock();
	tdxhost_status_cpus_changed();
	mutex_unlock(&look_lock);
}

const struct tdxhost_provider tdxhost_provider_observer = {
	.id = TDXHOST_PROVIDER_OBSERVER,
	.name = "observer",
	.refuse = observer_refuse,
	.init = observer_init,
	.exit = tdxhost_vmx_exit,
	.look = observer_look,
	.cpu_enable = observer_cpu_look,
};
