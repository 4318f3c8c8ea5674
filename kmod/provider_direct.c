// SPDX-License-Identifier: GPL-2.0-only
/* Provider "direct": the kernel knows nothing of TDX, so all of it is done here. */
#include <linux/spinlock.h>

#include "compat.h"
#include "direct.h"
#include "provider.h"
#include "seamcall.h"
#include "tdxhost.h"

/*
 * The global initialisation of the TDX module, by whichever CPU comes first.
 *
 * The lock is held over TDH.SYS.INIT, by CPUs that have interrupts off and wait
 * for it in an IPI. Raw: a spinlock_t sleeps on PREEMPT_RT.
 */
static struct {
	raw_spinlock_t lock;
	/* TDH.SYS.INIT has succeeded, now or before this driver was loaded. */
	bool done;
	/* The request in which it has failed last, and how. */
	u64 failed_round;
	struct tdxhost_call failure;
} global = {
	.lock = __RAW_SPIN_LOCK_UNLOCKED(global.lock),
};

static void take(struct tdxhost_cpu_result *result, const struct tdxhost_call *call)
{
	result->leaf = call->leaf;
	result->seam_status = call->status;
	result->code = call->code;
	result->trap = call->trap;
	result->retries += call->retries;
	result->rcx = call->out.rcx;
	result->rdx = call->out.rdx;
	result->r8 = call->out.r8;
	result->r9 = call->out.r9;
	result->r10 = call->out.r10;
	result->r11 = call->out.r11;
}

/* global.lock is held, VMX is on */
static int global_init_locked(struct tdxhost_round *round, struct tdxhost_cpu_result *result)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_INIT };
	int ret;

	if (global.done)
		return 0;
	if (global.failed_round == round->id) {
		call = global.failure;
		call.retries = 0;
		take(result, &call);
		return tdxhost_call_errno(&call);
	}

	ret = tdxhost_seamcall_in_vmx(&call);
	atomic_add(call.calls, &round->seamcalls);
	take(result, &call);
	if (!ret)
		result->flags |= TDXHOST_CPU_DID_GLOBAL_INIT;
	/* Done by an earlier load of this driver, or by a kernel that kexec'ed this one. */
	else if (tdxhost_status_code(call.status) == TDX_SYS_INIT_NOT_PENDING)
		ret = 0;
	global.done = !ret;
	if (ret) {
		global.failed_round = round->id;
		global.failure = call;
	}
	return ret;
}

static int global_init(struct tdxhost_round *round, struct tdxhost_cpu_result *result)
{
	int ret;

	raw_spin_lock(&global.lock);
	ret = global_init_locked(round, result);
	raw_spin_unlock(&global.lock);
	return ret;
}

/* VMX is on */
static int lp_init(struct tdxhost_round *round, struct tdxhost_cpu_result *result)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_LP_INIT };
	int ret = tdxhost_seamcall_in_vmx(&call);

	atomic_add(call.calls, &round->seamcalls);
	take(result, &call);
	if (ret && tdxhost_status_code(call.status) == TDX_SYS_LP_INIT_DONE) {
		/* By an earlier load of this driver: as good as done now. */
		result->code = TDXHOST_CODE_NONE;
		result->flags |= TDXHOST_CPU_WAS_DONE;
		ret = 0;
	}
	return ret;
}

static int direct_cpu_enable(struct tdxhost_round *round, struct tdxhost_cpu_result *result)
{
	struct tdxhost_vmx vmx;
	int ret;

	result->code = tdxhost_vmx_enter(&vmx);
	result->trap = vmx.trap;
	if (result->code)
		return tdxhost_code_errno(result->code);
	ret = global_init(round, result);
	if (!ret)
		ret = lp_init(round, result);
	tdxhost_vmx_leave(&vmx);
	return ret;
}

static const char *direct_refuse(void)
{
	if (tdxhost_kernel_owns_tdx())
		return "the kernel owns TDX on this host (INTEL_TDX_HOST)";
	return NULL;
}

static const struct tdxhost_step direct_steps[] = {
	{ TDXHOST_STEP_PLATFORM, "platform check", direct_check_platform },
	{ TDXHOST_STEP_CPUS, "enabling CPUs", direct_enable_cpus },
	{ TDXHOST_STEP_MODULE_INFO, "module information", direct_read_metadata },
	{ TDXHOST_STEP_MEMORY, "finding TDX memory", direct_find_memory },
	{ TDXHOST_STEP_TDMR_LAYOUT, "TDMR layout", direct_lay_out_tdmrs },
	{ TDXHOST_STEP_PAMT_ALLOC, "PAMT allocation", direct_alloc_pamts },
	{ TDXHOST_STEP_CONFIG, "configuration", direct_config, .no_way_back = true },
	{ TDXHOST_STEP_CACHE_FLUSH, "cache flush", direct_flush_caches, .no_way_back = true },
	{ TDXHOST_STEP_KEY_CONFIG, "key configuration", direct_config_keys, .no_way_back = true },
	{ TDXHOST_STEP_TDMR_INIT, "TDMR initialisation", direct_init_tdmrs, .no_way_back = true },
};

const struct tdxhost_provider tdxhost_provider_direct = {
	.id = TDXHOST_PROVIDER_DIRECT,
	.name = "direct",
	.refuse = direct_refuse,
	.init = tdxhost_vmx_init,
	.exit = tdxhost_vmx_exit,
	.cpu_enable = direct_cpu_enable,
	.sys_rd = tdxhost_seamcall_atomic,
	.steps = direct_steps,
	.nr_steps = ARRAY_SIZE(direct_steps),
	.undo = direct_undo,
};
