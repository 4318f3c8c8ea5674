// SPDX-License-Identifier: GPL-2.0-only
/* Steps of tdx_enable() that are the same whoever takes the others. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "seamcall.h"
#include "steps.h"
#include "tdxhost.h"

/* Goes into VMX operation and out again: the only way to know that it can be done. */
static void try_vmx(void *data)
{
	struct tdxhost_vmx *vmx = data;

	if (!tdxhost_vmx_enter(vmx))
		tdxhost_vmx_leave(vmx);
}

/**
 * steps_check_platform() - what needs no TDX module
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int steps_check_platform(struct tdxhost_step_result *result, u32 flags)
{
	u32 code = tdxhost_host_code(), done = 0;
	int cpu;

	if (code && code != TDXHOST_CODE_VMX_LOCKED_OFF)
		return tdxhost_step_fail(result, code, TDXHOST_NONE);
	for_each_online_cpu(cpu) {
		struct tdxhost_vmx vmx = {};

		smp_call_function_single(cpu, try_vmx, &vmx, true);
		if (vmx.code) {
			result->trap = vmx.trap;
			return tdxhost_step_fail(result, vmx.code, cpu);
		}
		tdxhost_status_progress(++done, num_online_cpus());
	}
	return 0;
}

/* Lets the step fail as the CPU did. */
static int cpu_failed(struct tdxhost_step_result *result, const struct tdxhost_attempt *attempt)
{
	const struct tdxhost_cpu_result *cpu = &attempt->result;

	result->trap = cpu->trap;
	result->leaf = cpu->leaf;
	result->seam_status = cpu->seam_status;
	result->rcx = cpu->rcx;
	result->rdx = cpu->rdx;
	result->r8 = cpu->r8;
	result->r9 = cpu->r9;
	result->r10 = cpu->r10;
	result->r11 = cpu->r11;
	/* Stopped before the tries were used up. */
	if (attempt->again)
		return tdxhost_step_fail(result, TDXHOST_CODE_INTERRUPTED, cpu->cpu);
	tdxhost_step_fail(result, cpu->code, cpu->cpu);
	result->error = cpu->error;
	return -(int)cpu->error;
}

static int enable_online_cpus(struct tdxhost_step_result *result)
{
	struct tdxhost_request request = {};
	u64 lp_init_ns = 0;
	int cpu, ret = 0;

	request.attempts = kvcalloc(nr_cpu_ids, sizeof(*request.attempts), GFP_KERNEL);
	if (!request.attempts)
		return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
	tdxhost_cpus_enable(cpu_online_mask, &request);
	tdxhost_status_cpus_changed();
	result->seamcalls = atomic_read(&request.seamcalls);
	/* Not those in the results: a CPU that was enabled before still shows its own. */
	result->retries = atomic_read(&request.retries);
	for_each_online_cpu(cpu) {
		const struct tdxhost_attempt *attempt = &request.attempts[cpu];

		lp_init_ns = max(lp_init_ns, attempt->lp_init.ns);
		if (attempt->result.error && !ret)
			ret = cpu_failed(result, attempt);
	}
	result->chain_ns = request.init.ns + lp_init_ns;
	kvfree(request.attempts);
	return ret;
}

/**
 * steps_enable_cpus() - every online CPU is enabled
 * @result: of the step
 * @flags: with TDXHOST_ENABLE_CPUS those that are not are enabled here
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int steps_enable_cpus(struct tdxhost_step_result *result, u32 flags)
{
	int cpu;

	if (flags & TDXHOST_ENABLE_CPUS)
		return enable_online_cpus(result);
	for_each_online_cpu(cpu)
		if (!tdxhost_cpu_enabled(cpu))
			return tdxhost_step_fail(result, TDXHOST_CODE_CPU_NOT_ENABLED, cpu);
	return 0;
}

/**
 * steps_read_metadata() - what the TDX module says about itself
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int steps_read_metadata(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_metadata *metadata = kmalloc(sizeof(*metadata), GFP_KERNEL);
	struct tdxhost_map *map;
	int ret;

	if (!metadata)
		return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
	ret = tdxhost_metadata_read(result, metadata);
	if (ret)
		goto out;
	map = tdxhost_map_lock();
	map->metadata = *metadata;
	map->has_metadata = true;
	tdxhost_map_unlock();
	pr_info("TDX module %u.%u.%02u, build %u\n", metadata->major, metadata->minor,
		metadata->update, metadata->build_date);
out:
	kfree(metadata);
	return ret;
}
