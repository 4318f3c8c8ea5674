// SPDX-License-Identifier: GPL-2.0-only
/* Provider "direct": TDH.SYS.CONFIG, and keys: from here on nothing can be undone. */
#include <linux/bitmap.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include <asm/smp.h>

#include "compat.h"
#include "direct.h"
#include "direct_crew.h"
#include "seamcall.h"
#include "tdxhost.h"

/* TDMR_INFO and the array of their addresses, Intel TDX Module ABI Specification. */
#define TDMR_INFO_ALIGN 512

struct tdmr_info {
	u64 base;
	u64 size;
	u64 pamt_1g_base;
	u64 pamt_1g_size;
	u64 pamt_2m_base;
	u64 pamt_2m_size;
	u64 pamt_4k_base;
	u64 pamt_4k_size;
	struct {
		u64 offset;
		u64 size;
	} reserved[];
};

/* Packages that have their key, by Linux's number; written by tdx_enable() alone. */
static DECLARE_BITMAP(keyed, MAX_LOCAL_APIC);
static bool all_keyed;

/* Of the cache flush: one member, from TDH.SYS.CONFIG to the step of its own. */
static struct crew flushers;

/**
 * tdxhost_keys_pending() - whether a package still has to get its key
 *
 * Context: any; exact where tdx_enable() can't run, as in a CPU hotplug callback.
 * Return: true from TDH.SYS.CONFIG on until the last TDH.SYS.KEY.CONFIG.
 */
bool tdxhost_keys_pending(void)
{
	return tdxhost_module_holds_memory() && !READ_ONCE(all_keyed);
}

static void fill_tdmr_info(struct tdmr_info *info, const struct tdmr *tdmr)
{
	u32 i;

	info->base = tdmr->base;
	info->size = tdmr->size;
	info->pamt_1g_base = tdmr->pamt[TDMR_PAMT_1G].base;
	info->pamt_1g_size = tdmr->pamt[TDMR_PAMT_1G].size;
	info->pamt_2m_base = tdmr->pamt[TDMR_PAMT_2M].base;
	info->pamt_2m_size = tdmr->pamt[TDMR_PAMT_2M].size;
	info->pamt_4k_base = tdmr->pamt[TDMR_PAMT_4K].base;
	info->pamt_4k_size = tdmr->pamt[TDMR_PAMT_4K].size;
	for (i = 0; i < tdmr->nr_reserved; i++) {
		info->reserved[i].offset = tdmr->reserved[i].base - tdmr->base;
		info->reserved[i].size = tdmr->reserved[i].size;
	}
}

static void flush(struct crew *crew)
{
	wbinvd_on_all_cpus();
}

/* On another CPU, if there is one: this one makes a SEAMCALL meanwhile. */
static void start_flushing(void)
{
	unsigned int here = raw_smp_processor_id(), cpu = cpumask_any_but(cpu_online_mask, here);

	crew_gather(&flushers, flush);
	crew_send(&flushers, cpu < nr_cpu_ids ? cpu : here);
}

static int config(struct tdxhost_step_result *result, u64 array_pa, u32 nr)
{
	struct tdxhost_platform platform;
	struct tdxhost_call call = {
		.leaf = TDH_SYS_CONFIG,
		.in = { .rcx = array_pa, .rdx = nr },
	};
	int ret;

	tdxhost_platform_get(&platform);
	call.in.r8 = platform.keyid_first;
	start_flushing();
	ret = tdxhost_step_call(result, &call);
	if (ret)
		crew_wait(&flushers);
	if (tdxhost_status_code(call.status) == TDX_SYS_CONFIG_NOT_PENDING)
		tdxhost_cpus_log_missing();
	return ret;
}

/**
 * direct_config() - step 7: tell the TDX module its TDMRs, its PAMTs and its KeyID
 * @result: of the step
 * @flags: unused
 *
 * The cache flush begins here: nobody has anything to do with the PAMTs any more.
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_config(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	struct tdmr_info *info = NULL;
	size_t stride, bytes;
	void *infos;
	u64 *array;
	int ret;
	u32 i;

	/* tdx_enable() alone changes the map, so it may be read without the lock. */
	tdxhost_map_unlock();
	stride = ALIGN(struct_size(info, reserved, map->metadata.limits.max_reserved),
		       TDMR_INFO_ALIGN);
	bytes = stride * map->nr_tdmrs;
	/* Whole pages are aligned to more than the 512 bytes that both need. */
	infos = alloc_pages_exact(bytes, GFP_KERNEL | __GFP_ZERO);
	array = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!infos || !array) {
		ret = tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
		goto out;
	}
	for (i = 0; i < map->nr_tdmrs; i++) {
		info = infos + i * stride;
		fill_tdmr_info(info, &map->tdmrs[i]);
		array[i] = __pa(info);
	}
	ret = config(result, __pa(array), map->nr_tdmrs);
out:
	/* The TDX module has made copies. */
	free_page((unsigned long)array);
	if (infos)
		free_pages_exact(infos, bytes);
	return ret;
}

/**
 * direct_flush_caches() - step 8: no line of a PAMT stays dirty without its KeyID
 * @result: of the step
 * @flags: unused
 *
 * Written back after TDH.SYS.KEY.CONFIG such a line would destroy what the TDX
 * module has put there. It has begun beside TDH.SYS.CONFIG, and ends here.
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0.
 */
int direct_flush_caches(struct tdxhost_step_result *result, u32 flags)
{
	crew_wait(&flushers);
	return 0;
}

static int config_key(void *data)
{
	struct tdxhost_call *call = data;
	unsigned long flags;
	int ret;

	local_irq_save(flags);
	ret = tdxhost_seamcall_atomic(call);
	local_irq_restore(flags);
	return ret;
}

static int config_package_key(struct tdxhost_step_result *result, unsigned int cpu, u32 package)
{
	struct tdxhost_call call = {
		.leaf = TDH_SYS_KEY_CONFIG,
		/* What it stays at should the CPU not get to run it. */
		.code = TDXHOST_CODE_CPU_OFFLINE,
		.cpu = cpu,
	};
	int ret;

	/* The wait is here, where a signal to the caller is seen. */
	do {
		smp_call_on_cpu(cpu, config_key, &call, false);
	} while (tdxhost_wait_again(call.again));
	ret = tdxhost_step_took(result, &call);
	if (!ret)
		__set_bit(package, keyed);
	return ret;
}

static u32 package_of(int cpu)
{
	struct tdxhost_cpu_result result;

	tdxhost_cpu_result(cpu, &result);
	return result.package;
}

/**
 * direct_config_keys() - step 9: one key for the TDX module, on every package
 * @result: of the step
 * @flags: unused
 *
 * One package after the other: the TDX module does not take two at once.
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_config_keys(struct tdxhost_step_result *result, u32 flags)
{
	u32 nr_packages = tdxhost_cpus_packages();
	int cpu, ret;

	for_each_present_cpu(cpu) {
		u32 package = package_of(cpu);

		if (package >= MAX_LOCAL_APIC || test_bit(package, keyed))
			continue;
		if (tdxhost_package_online(package, nr_cpu_ids) >= nr_cpu_ids)
			return tdxhost_step_fail(result, TDXHOST_CODE_PACKAGE_OFFLINE, cpu);
		if (!cpu_online(cpu))
			continue;
		ret = config_package_key(result, cpu, package);
		if (ret)
			return ret;
		tdxhost_status_progress(bitmap_weight(keyed, MAX_LOCAL_APIC), nr_packages);
	}
	WRITE_ONCE(all_keyed, true);
	return 0;
}
