// SPDX-License-Identifier: GPL-2.0-only
/* tdx_enable(): its steps one after the other, and what is remembered of them. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/printk.h>
#include <linux/sched/signal.h>

#include "compat.h"
#include "provider.h"
#include "seamcall.h"
#include "tdxhost.h"

/* Makes callers take turns, and protects all of state. */
static DEFINE_MUTEX(enable_lock);

static struct {
	/*
	 * UNKNOWN until an attempt has come to an end, INITIALIZED for good once
	 * every step has succeeded, ERROR while the last attempt has failed.
	 */
	u32 module_status;
	/* Steps before this one have no way back. */
	unsigned int first;
	/* The step that the next attempt begins with, going by how the last one ended. */
	unsigned int next;
	/* CPUs had come online so often when they were looked at. */
	u32 arrivals;
	/* Attempts that have ended: tells a caller that it was waiting for one. */
	u64 attempts;
	/* The machine goes down, for good: no attempt begins or goes on. Read without lock. */
	bool ended;
	/* The TDX module has memory of ours, so this module must stay. */
	bool holds_memory;
	/* How often each step was begun. */
	u32 runs[TDXHOST_NR_STEPS];
	/* The last step that ran, and what it came to. */
	struct tdxhost_step_result last;
} state = { .last.cpu = TDXHOST_NONE };

/**
 * tdxhost_module_holds_memory() - whether PAMTs belong to the TDX module
 *
 * Context: any.
 * Return: true once TDH.SYS.CONFIG has succeeded.
 */
bool tdxhost_module_holds_memory(void)
{
	return READ_ONCE(state.holds_memory);
}

/**
 * tdxhost_module_wants_cpus() - whether a CPU that comes online has to be enabled
 *
 * Context: any.
 * Return: true once the TDX module is configured.
 */
bool tdxhost_module_wants_cpus(void)
{
	return tdxhost_module_holds_memory() ||
	       READ_ONCE(state.module_status) == TDXHOST_MODULE_INITIALIZED;
}

/**
 * tdxhost_is_stopped() - whether what the caller does has to end here
 *
 * Context: task.
 * Return: true when a signal waits for the caller, or the machine goes down.
 */
bool tdxhost_is_stopped(void)
{
	return signal_pending(current) || READ_ONCE(state.ended);
}

/**
 * tdxhost_step_fail() - let a step fail by a finding of the driver's own
 * @result: of the step
 * @code: TDXHOST_CODE_*
 * @cpu: CPU that it is about, or TDXHOST_NONE
 *
 * Context: any.
 * Return: the errno that goes with @code.
 */
int tdxhost_step_fail(struct tdxhost_step_result *result, u32 code, u32 cpu)
{
	int ret = tdxhost_code_errno(code);

	result->code = code;
	result->cpu = cpu;
	result->error = -ret;
	return ret;
}

/**
 * tdxhost_step_took() - record a SEAMCALL that a step has made
 * @result: of the step
 * @call: the SEAMCALL, with all of its tries
 *
 * Context: any.
 * Return: what the SEAMCALL came to.
 */
int tdxhost_step_took(struct tdxhost_step_result *result, const struct tdxhost_call *call)
{
	int ret = tdxhost_call_errno(call);

	result->leaf = call->leaf;
	result->seam_status = call->status;
	result->rcx = call->out.rcx;
	result->rdx = call->out.rdx;
	result->r8 = call->out.r8;
	result->r9 = call->out.r9;
	result->r10 = call->out.r10;
	result->r11 = call->out.r11;
	result->seamcalls += call->calls;
	result->retries += call->retries;
	result->chain_ns += call->ns;
	if (!ret)
		return 0;
	/* Stopped before the tries were used up. */
	if (call->again)
		return tdxhost_step_fail(result, TDXHOST_CODE_INTERRUPTED, call->cpu);
	result->trap = call->trap;
	tdxhost_step_fail(result, call->code, call->cpu);
	result->error = -ret;
	return ret;
}

/**
 * tdxhost_step_call() - make a SEAMCALL for a step
 * @result: of the step
 * @call: the SEAMCALL
 *
 * Context: task, may sleep. The CPU that it runs on is enabled.
 * Return: what the SEAMCALL came to.
 */
int tdxhost_step_call(struct tdxhost_step_result *result, struct tdxhost_call *call)
{
	tdxhost_seamcall(call);
	return tdxhost_step_took(result, call);
}

/* A call that the TDX module rules out for good, on inputs that can't change any more. */
static bool ruled_out(const struct tdxhost_step_result *result)
{
	return state.holds_memory && result->code == TDXHOST_CODE_SEAMCALL &&
	       result->seam_status & TDX_STATUS_NON_RECOVERABLE;
}

static int run_step(const struct tdxhost_step *step, u32 flags, struct tdxhost_step_result *result)
{
	int ret;

	*result = (struct tdxhost_step_result){
		.step = step->id,
		.runs = ++state.runs[step->id - 1],
		.cpu = TDXHOST_NONE,
		.start_ns = ktime_get_ns(),
	};
	tdxhost_status_step(result, true);
	ret = tdxhost_is_stopped() ?
		      tdxhost_step_fail(result, TDXHOST_CODE_INTERRUPTED, TDXHOST_NONE) :
		      step->run(result, flags);
	result->duration_ns = ktime_get_ns() - result->start_ns;
	if (ruled_out(result))
		result->flags |= TDXHOST_STEPF_FINAL;
	tdxhost_status_step(result, false);
	return ret;
}

/* Nothing of what the steps did can be undone from here on. */
static void cross_no_way_back(unsigned int next)
{
	state.first = next;
	state.next = next;
	if (state.holds_memory)
		return;
	__module_get(THIS_MODULE);
	WRITE_ONCE(state.holds_memory, true);
}

static unsigned int index_of(u32 id)
{
	unsigned int i;

	for (i = 0; i + 1 < tdxhost_provider->nr_steps; i++)
		if (tdxhost_provider->steps[i].id == id)
			break;
	return i;
}

/* A CPU that came online after the others were looked at has to be looked at too. */
static unsigned int begin_with(void)
{
	unsigned int cpus = index_of(TDXHOST_STEP_CPUS);

	if (state.next <= cpus || state.first > cpus || state.arrivals == tdxhost_cpus_arrivals())
		return state.next;
	return cpus;
}

static int run_steps(u32 flags)
{
	const struct tdxhost_provider *provider = tdxhost_provider;
	unsigned int i;

	for (i = begin_with(); i < provider->nr_steps; i++) {
		const struct tdxhost_step *step = &provider->steps[i];
		int ret;

		if (step->id == TDXHOST_STEP_CPUS)
			state.arrivals = tdxhost_cpus_arrivals();
		ret = run_step(step, flags, &state.last);
		if (ret) {
			state.next = index_of(step->again_from);
			tdxhost_log_failure(step->name, &state.last, 0);
			return ret;
		}
		if (step->no_way_back)
			cross_no_way_back(i + 1);
	}
	return 0;
}

static void attempt(u32 flags)
{
	u32 module_status;
	int ret;

	tdxhost_status_running();
	ret = run_steps(flags);
	if (!ret)
		module_status = TDXHOST_MODULE_INITIALIZED;
	else if (state.last.code != TDXHOST_CODE_INTERRUPTED)
		module_status = TDXHOST_MODULE_ERROR;
	else
		module_status = TDXHOST_MODULE_UNKNOWN;
	WRITE_ONCE(state.module_status, module_status);
	if (ret && !state.holds_memory && tdxhost_provider->undo)
		tdxhost_provider->undo();
	WRITE_ONCE(state.attempts, state.attempts + 1);
	tdxhost_status_module(state.module_status, &state.last);
	if (!ret)
		pr_info("TDX module initialized\n");
}

static void answer_last(struct tdxhost_enable *answer)
{
	const struct tdxhost_step_result *last = &state.last;

	answer->module_status = state.module_status;
	answer->step = last->step;
	answer->error = last->error;
	answer->code = last->code;
	answer->trap = last->trap;
	answer->cpu = last->cpu;
	answer->leaf = last->error ? last->leaf : 0;
	answer->seam_status = last->error ? last->seam_status : 0;
}

/* The last failure, under the reason that nothing was done about it. */
static void answer_refused(struct tdxhost_enable *answer, u32 code)
{
	answer_last(answer);
	answer->code = code;
	answer->error = -tdxhost_code_errno(code);
}

/* @seen: attempts when the caller came */
static void serve(u32 flags, u64 seen, struct tdxhost_enable *answer)
{
	bool waited = state.attempts != seen && state.last.code != TDXHOST_CODE_INTERRUPTED;

	lockdep_assert_held(&enable_lock);

	if (state.module_status == TDXHOST_MODULE_INITIALIZED || waited) {
		answer_last(answer);
	} else if (state.module_status == TDXHOST_MODULE_ERROR && !(flags & TDXHOST_ENABLE_RETRY)) {
		answer_refused(answer, TDXHOST_CODE_EARLIER_FAILURE);
	} else if (state.last.flags & TDXHOST_STEPF_FINAL) {
		answer_refused(answer, TDXHOST_CODE_FINAL);
	} else {
		attempt(flags);
		answer_last(answer);
	}
}

/**
 * tdxhost_enable() - tdx_enable(): initialise the TDX module
 * @flags: TDXHOST_ENABLE_*
 * @answer: what it came to
 *
 * Many may call at once: one does the work, and all get the same answer. After a
 * failure only a call with TDXHOST_ENABLE_RETRY tries again, at the step that
 * failed or at the one that has to be done again for it (see struct tdxhost_step).
 *
 * Context: task, may sleep. CPU hotplug lock held.
 * Return: 0 when @answer was filled, -EINTR on a signal before anything was started.
 */
int tdxhost_enable(u32 flags, struct tdxhost_enable *answer)
{
	u64 seen = READ_ONCE(state.attempts);
	int ret = 0;

	tdxhost_assert_cpus_held();

	if (mutex_lock_interruptible(&enable_lock))
		return -EINTR;
	if (state.ended)
		ret = -EINTR;
	else
		serve(flags, seen, answer);
	mutex_unlock(&enable_lock);
	return ret;
}

/**
 * tdxhost_enable_end() - stop the attempt under way, and let none follow
 *
 * For a machine that goes down. The attempt ends as by a signal, after the
 * SEAMCALL that runs or the PAMT that is being allocated.
 *
 * Context: task, may sleep.
 */
void tdxhost_enable_end(void)
{
	WRITE_ONCE(state.ended, true);
	/* Whoever holds it is in an attempt. */
	mutex_lock(&enable_lock);
	mutex_unlock(&enable_lock);
}
