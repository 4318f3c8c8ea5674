// SPDX-License-Identifier: GPL-2.0-only
/* Provider "direct": the steps before TDH.SYS.CONFIG, all of which can be undone. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "compat.h"
#include "direct.h"
#include "seamcall.h"
#include "tdxhost.h"

/* Goes into VMX operation and out again: the only way to know that it can be done. */
static void try_vmx(void *data)
{
	struct tdxhost_vmx *vmx = data;

	if (!tdxhost_vmx_enter(vmx))
		tdxhost_vmx_leave(vmx);
}

/**
 * direct_check_platform() - step 1: what needs no TDX module
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_check_platform(struct tdxhost_step_result *result, u32 flags)
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

		if (attempt->result.error && !ret)
			ret = cpu_failed(result, attempt);
	}
	kvfree(request.attempts);
	return ret;
}

/**
 * direct_enable_cpus() - step 2: every online CPU is enabled
 * @result: of the step
 * @flags: with TDXHOST_ENABLE_CPUS those that are not are enabled here
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_enable_cpus(struct tdxhost_step_result *result, u32 flags)
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
 * direct_read_metadata() - step 3: what the TDX module says about itself
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_read_metadata(struct tdxhost_step_result *result, u32 flags)
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

/**
 * direct_find_memory() - step 4: which memory TDX can use
 * @result: of the step
 * @flags: with TDXHOST_ENABLE_SKIP_NON_CMR, RAM outside CMRs is no failure
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_find_memory(struct tdxhost_step_result *result, u32 flags)
{
	/* What comes online from here on would be missing in the TDMRs. */
	tdxhost_memory_hold(true);
	return tdxhost_memory_find(result, flags & TDXHOST_ENABLE_SKIP_NON_CMR);
}

static struct tdmr_memory memory_of(const struct tdxhost_map *map)
{
	return (struct tdmr_memory){
		.regions = map->tdx.list,
		.nr_regions = map->tdx.nr,
		.cmrs = map->metadata.cmrs,
		.nr_cmrs = map->metadata.nr_cmrs,
	};
}

static int too_many_tdmrs(struct tdxhost_step_result *result)
{
	if (result->bytes)
		pr_err("TDMR [%#llx, %#llx) has too many holes for one, and all %llu are in use\n",
		       result->base_pa, result->base_pa + result->bytes, result->limit);
	else
		pr_err("memory takes %llu TDMRs at least, and the TDX module has %llu\n",
		       result->needed, result->limit);
	return tdxhost_step_fail(result, TDXHOST_CODE_TOO_MANY_TDMRS, TDXHOST_NONE);
}

static int too_many_reserved(struct tdxhost_step_result *result)
{
	pr_err("memory at [%#llx, %#llx) takes %llu reserved areas, and a TDMR has %llu\n",
	       result->base_pa, result->base_pa + result->bytes, result->needed, result->limit);
	return tdxhost_step_fail(result, TDXHOST_CODE_TOO_MANY_RESERVED, TDXHOST_NONE);
}

/* @error: of tdmr_layout() or tdmr_fit() */
static int no_layout(struct tdxhost_step_result *result, int error,
		     const struct tdmr_misfit *misfit)
{
	result->base_pa = misfit->base;
	result->bytes = misfit->size;
	result->needed = misfit->needed;
	result->limit = misfit->limit;
	switch (error) {
	case -E2BIG:
		return too_many_tdmrs(result);
	case -ENOSPC:
		return too_many_reserved(result);
	default:
		return tdxhost_step_fail(result, TDXHOST_CODE_BAD_METADATA, TDXHOST_NONE);
	}
}

/**
 * direct_lay_out_tdmrs() - step 5: TDMRs over all TDX memory
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_lay_out_tdmrs(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	const struct tdmr_limits *limits = &map->metadata.limits;
	/* One more than there can be: tdmr_layout() wants it. */
	struct tdmr *tdmrs = kvcalloc(limits->max_tdmrs + 1UL, sizeof(*tdmrs), GFP_KERNEL);
	const struct tdmr_memory memory = memory_of(map);
	struct tdmr_misfit misfit = {};
	int ret = 0, nr;

	if (!tdmrs) {
		ret = tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
		goto out;
	}
	nr = tdmr_layout(tdmrs, &memory, limits, &misfit);
	if (nr < 0) {
		kvfree(tdmrs);
		ret = no_layout(result, nr, &misfit);
		goto out;
	}
	map->tdmrs = tdmrs;
	map->nr_tdmrs = nr;
out:
	tdxhost_map_unlock();
	return ret;
}

static int no_room(struct tdxhost_step_result *result, const struct tdmr *tdmr)
{
	result->base_pa = tdmr->base;
	result->bytes = tdmr->size;
	result->needed = tdmr_pamt_bytes(tdmr);
	pr_err("no %llu contiguous bytes for the PAMTs of TDMR [%#llx, %#llx)\n", result->needed,
	       tdmr->base, tdmr->base + tdmr->size);
	return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
}

/* Publishes a piece, and where in it the PAMTs of its TDMR are so far. */
static void add_piece(struct tdxhost_map *map, const struct tdmr_piece *piece)
{
	tdxhost_map_lock();
	tdmr_place(&map->tdmrs[map->nr_pieces], piece->base);
	map->pieces[map->nr_pieces++] = *piece;
	map->pamt_bytes += piece->size;
	tdxhost_status_pamt(map->pamt_bytes);
	tdxhost_status_progress(map->nr_pieces, map->nr_tdmrs);
	tdxhost_map_unlock();
}

/* tdx_enable() alone changes the map, so it may be read without the lock. */
static int alloc_pieces(struct tdxhost_map *map, struct tdxhost_step_result *result)
{
	const struct tdmr_limits *limits = &map->metadata.limits;
	const struct tdmr_memory memory = memory_of(map);

	map->pieces = kvcalloc(map->nr_tdmrs, sizeof(*map->pieces), GFP_KERNEL);
	if (!map->pieces)
		return tdxhost_step_fail(result, TDXHOST_CODE_NO_MEMORY, TDXHOST_NONE);
	while (map->nr_pieces < map->nr_tdmrs) {
		const struct tdmr *tdmr = &map->tdmrs[map->nr_pieces];
		u64 bytes = tdmr_piece_bytes(tdmr, map->nr_tdmrs, &memory, limits);
		struct tdmr_piece piece;
		int ret = -EINTR;

		if (!tdxhost_is_stopped())
			ret = tdxhost_pamt_alloc(&piece, bytes, tdmr->node, &memory, limits);
		if (ret == -EINTR)
			return tdxhost_step_fail(result, TDXHOST_CODE_INTERRUPTED, TDXHOST_NONE);
		if (ret)
			return no_room(result, tdmr);
		add_piece(map, &piece);
	}
	return 0;
}

/* map_lock is held */
static void trim_pieces(struct tdxhost_map *map)
{
	u32 i;

	map->pamt_bytes = 0;
	for (i = 0; i < map->nr_pieces; i++) {
		tdxhost_pamt_trim(&map->pieces[i]);
		map->pamt_bytes += map->pieces[i].size;
	}
	tdxhost_status_pamt(map->pamt_bytes);
}

static int fit_tdmrs(struct tdxhost_map *map, struct tdxhost_step_result *result)
{
	const struct tdmr_memory memory = memory_of(map);
	struct tdmr_misfit misfit = {};
	int nr;

	tdxhost_map_lock();
	nr = tdmr_fit(map->tdmrs, map->pieces, map->nr_pieces, &memory, &map->metadata.limits,
		      &misfit);
	if (nr > 0) {
		map->nr_tdmrs = nr;
		trim_pieces(map);
	}
	tdxhost_map_unlock();
	return nr < 0 ? no_layout(result, nr, &misfit) : 0;
}

/**
 * direct_alloc_pamts() - step 6: memory for PAMTs, which makes reserved areas
 * @result: of the step
 * @flags: unused
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno, with the reason in @result.
 */
int direct_alloc_pamts(struct tdxhost_step_result *result, u32 flags)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	int ret;

	tdxhost_map_unlock();
	ret = alloc_pieces(map, result);
	return ret ? ret : fit_tdmrs(map, result);
}

/**
 * direct_undo() - give back what the steps have allocated
 *
 * Context: task, may sleep. TDH.SYS.CONFIG has not succeeded.
 */
void direct_undo(void)
{
	struct tdxhost_map *map = tdxhost_map_lock();
	u32 i;

	for (i = 0; i < map->nr_pieces; i++)
		tdxhost_pamt_free(&map->pieces[i]);
	tdxhost_map_unlock();
	tdxhost_map_forget_tdmrs();
	tdxhost_status_pamt(0);
	tdxhost_memory_hold(false);
}
