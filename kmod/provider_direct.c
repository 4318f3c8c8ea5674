// SPDX-License-Identifier: GPL-2.0-only
/* Provider "direct": the kernel knows nothing of TDX, so all of it is done here. */
#include <linux/lockdep.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "direct.h"
#include "direct_crew.h"
#include "provider.h"
#include "seamcall.h"
#include "steps.h"
#include "tdxhost.h"

/*
 * The global initialisation of the TDX module, by whichever CPU comes first.
 *
 * The lock is held over TDH.SYS.INIT, by CPUs that have interrupts off and wait
 * for it in an IPI. Raw: a spinlock_t sleeps on PREEMPT_RT.
 */
static DEFINE_RAW_SPINLOCK(global_lock);

/* TDH.SYS.INIT has succeeded, now or before this driver was loaded. */
static bool global_done;

/* VMX is on */
static void call_for(struct tdxhost_request *request, struct tdxhost_attempt *attempt,
		     struct tdxhost_call *call)
{
	u32 calls = call->calls, retries = call->retries;

	tdxhost_seamcall_in_vmx(call);
	atomic_add(call->calls - calls, &request->seamcalls);
	atomic_add(call->retries - retries, &request->retries);
	attempt->result.retries += call->retries - retries;
	tdxhost_cpu_took(&attempt->result, call);
	attempt->again = call->again;
}

/* VMX is on */
static int call_init(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	struct tdxhost_call *init = &request->init;

	lockdep_assert_held(&global_lock);

	init->leaf = TDH_SYS_INIT;
	request->init_pass = request->pass;
	call_for(request, attempt, init);
	if (!init->code)
		attempt->result.flags |= TDXHOST_CPU_DID_GLOBAL_INIT;
	/* Done by an earlier load of this driver, or by a kernel that kexec'ed this one. */
	else if (tdxhost_status_code(init->status) != TDX_SYS_INIT_NOT_PENDING)
		return tdxhost_call_errno(init);
	global_done = true;
	return 0;
}

/* VMX is on */
static int global_init_locked(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	const struct tdxhost_call *init = &request->init;

	lockdep_assert_held(&global_lock);

	if (global_done)
		return 0;
	/* A fault is about the CPU that it came on: the TDX module was not reached. */
	if (request->init_pass != request->pass || init->trap)
		return call_init(request, attempt);
	/* Another CPU has just asked, in vain. */
	tdxhost_cpu_took(&attempt->result, init);
	attempt->again = init->again;
	return tdxhost_call_errno(init);
}

static int global_init(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	int ret;

	raw_spin_lock(&global_lock);
	ret = global_init_locked(request, attempt);
	raw_spin_unlock(&global_lock);
	return ret;
}

/* VMX is on */
static int lp_init(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	struct tdxhost_call *call = &attempt->lp_init;

	call->leaf = TDH_SYS_LP_INIT;
	call_for(request, attempt, call);
	if (tdxhost_status_code(call->status) != TDX_SYS_LP_INIT_DONE)
		return tdxhost_call_errno(call);
	/* By an earlier load of this driver: as good as done now. */
	attempt->result.code = TDXHOST_CODE_NONE;
	attempt->result.flags |= TDXHOST_CPU_WAS_DONE;
	return 0;
}

static int direct_cpu_enable(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	int ret = global_init(request, attempt);

	return ret ? ret : lp_init(request, attempt);
}

static const char *direct_refuse(void)
{
	if (tdxhost_kernel_owns_tdx())
		return "the kernel owns TDX on this host (INTEL_TDX_HOST)";
	return NULL;
}

static int direct_init(void)
{
	int ret = tdxhost_vmx_init();

	if (ret)
		return ret;
	ret = tdxhost_memory_init();
	if (ret)
		goto vmx_exit;
	ret = crew_init();
	if (ret)
		goto memory_exit;
	ret = tdxhost_power_init();
	if (ret)
		goto exit_crew;
	return 0;

exit_crew:
	crew_exit();
memory_exit:
	tdxhost_memory_exit();
vmx_exit:
	tdxhost_vmx_exit();
	return ret;
}

static void direct_exit(void)
{
	tdxhost_power_exit();
	crew_exit();
	tdxhost_memory_exit();
	tdxhost_vmx_exit();
}

/*
 * Until TDH.SYS.CONFIG has succeeded a failure gives all memory back, so that it
 * has to be found and laid out anew.
 */
static const struct tdxhost_step direct_steps[] = {
	{ TDXHOST_STEP_PLATFORM, "platform check", steps_check_platform, TDXHOST_STEP_PLATFORM },
	{ TDXHOST_STEP_CPUS, "enabling CPUs", steps_enable_cpus, TDXHOST_STEP_CPUS },
	{ TDXHOST_STEP_MODULE_INFO, "module information", steps_read_metadata,
	  TDXHOST_STEP_MODULE_INFO },
	{ TDXHOST_STEP_MEMORY, "finding TDX memory", direct_find_memory, TDXHOST_STEP_MEMORY },
	{ TDXHOST_STEP_TDMR_LAYOUT, "TDMR layout", direct_lay_out_tdmrs, TDXHOST_STEP_MEMORY },
	{ TDXHOST_STEP_PAMT_ALLOC, "PAMT allocation", direct_alloc_pamts, TDXHOST_STEP_MEMORY },
	{ TDXHOST_STEP_CONFIG, "configuration", direct_config, TDXHOST_STEP_MEMORY,
	  .no_way_back = true },
	{ TDXHOST_STEP_CACHE_FLUSH, "cache flush", direct_flush_caches, TDXHOST_STEP_CACHE_FLUSH,
	  .no_way_back = true },
	{ TDXHOST_STEP_KEY_CONFIG, "key configuration", direct_config_keys, TDXHOST_STEP_KEY_CONFIG,
	  .no_way_back = true },
	{ TDXHOST_STEP_TDMR_INIT, "TDMR initialisation", direct_init_tdmrs, TDXHOST_STEP_TDMR_INIT,
	  .no_way_back = true },
};

const struct tdxhost_provider tdxhost_provider_direct = {
	.id = TDXHOST_PROVIDER_DIRECT,
	.name = "direct",
	.refuse = direct_refuse,
	.features = TDXHOST_FEATURE_RETRY | TDXHOST_FEATURE_SKIP_NON_CMR,
	.init = direct_init,
	.exit = direct_exit,
	.acts = true,
	.owns_pamts = true,
	.cpu_enable = direct_cpu_enable,
	.steps = direct_steps,
	.nr_steps = ARRAY_SIZE(direct_steps),
	.undo = direct_undo,
};
