// SPDX-License-Identifier: GPL-2.0-only
/* tdx_cpu_enable(), what it came to on every CPU, and CPUs that come and go. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/cpumask.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/lockdep.h>
#include <linux/percpu.h>
#include <linux/printk.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/topology.h>

#include <asm/smp.h>

#include "compat.h"
#include "provider.h"
#include "seamcall.h"
#include "tdxhost.h"

/**
 * struct cpu_record - what is known of one CPU
 * @lock: makes @last one picture for other CPUs. Raw: it is taken with interrupts
 *	off by tdx_cpu_enable(), which must stay atomic on PREEMPT_RT too.
 * @last: identity of the CPU, and how the last try to enable it has ended
 */
struct cpu_record {
	raw_spinlock_t lock;
	struct tdxhost_cpu_result last;
};

static DEFINE_PER_CPU(struct cpu_record, records);

/*
 * CPUs on which TDH.SYS.LP.INIT has succeeded, and those on which the last try has
 * failed; they stay so while they are offline. Each CPU writes its own bit: counting
 * them is cheap, as GET_STATUS is asked often.
 */
static struct cpumask enabled_cpus;
static struct cpumask failed_cpus;

static enum cpuhp_state hotplug_state;

/* How often a CPU has come online. */
static atomic_t arrivals;

/* How often a try to enable a CPU came to something else than the one before. */
static atomic_t changes;

/* The CPU's own idea of who it is: a CPU that was never online can't be asked. */
static void identify(struct tdxhost_cpu_result *result)
{
	int cpu = smp_processor_id(), node = cpu_to_node(cpu);

	result->cpu = cpu;
	result->package = topology_physical_package_id(cpu);
	result->apic_id = per_cpu(x86_cpu_to_apicid, cpu);
	result->node = node == NUMA_NO_NODE ? TDXHOST_NONE : node;
}

static bool alike(const struct tdxhost_cpu_result *a, const struct tdxhost_cpu_result *b)
{
	return a->error == b->error && a->code == b->code && a->trap == b->trap &&
	       a->leaf == b->leaf && a->seam_status == b->seam_status;
}

static void remember(struct cpu_record *record, const struct tdxhost_cpu_result *result)
{
	if (record->last.state != result->state || !alike(&record->last, result))
		atomic_inc(&changes);
	raw_spin_lock(&record->lock);
	record->last = *result;
	raw_spin_unlock(&record->lock);
}

static void mark(int cpu, bool enabled)
{
	if (enabled) {
		cpumask_clear_cpu(cpu, &failed_cpus);
		cpumask_set_cpu(cpu, &enabled_cpus);
	} else {
		cpumask_set_cpu(cpu, &failed_cpus);
	}
}

static void begin(struct tdxhost_cpu_result *result)
{
	*result = (struct tdxhost_cpu_result){ .start_ns = ktime_get_ns() };
	identify(result);
}

/**
 * tdxhost_cpu_took() - record a SEAMCALL that was made to enable a CPU
 * @result: of the CPU
 * @call: the SEAMCALL, with all of its tries
 *
 * Context: any.
 */
void tdxhost_cpu_took(struct tdxhost_cpu_result *result, const struct tdxhost_call *call)
{
	result->leaf = call->leaf;
	result->seam_status = call->status;
	result->code = call->code;
	result->trap = call->trap;
	result->rcx = call->out.rcx;
	result->rdx = call->out.rdx;
	result->r8 = call->out.r8;
	result->r9 = call->out.r9;
	result->r10 = call->out.r10;
	result->r11 = call->out.r11;
}

static int enable_in_vmx(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	struct tdxhost_cpu_result *result = &attempt->result;
	struct tdxhost_vmx vmx = {};
	int ret;

	attempt->again = false;
	result->code = tdxhost_vmx_enter(&vmx);
	result->trap = vmx.trap;
	if (result->code)
		return tdxhost_code_errno(result->code);
	ret = tdxhost_provider->cpu_enable(request, attempt);
	tdxhost_vmx_leave(&vmx);
	return ret;
}

/* Whether there is nothing to do on this CPU; @result is then what was done. */
static bool done_before(struct tdxhost_cpu_result *result)
{
	int cpu = smp_processor_id();

	if (!tdxhost_cpu_enabled(cpu))
		return false;
	tdxhost_cpu_result(cpu, result);
	result->flags |= TDXHOST_CPU_WAS_DONE;
	return true;
}

/**
 * tdxhost_cpu_enable() - tdx_cpu_enable(): make the TDX module usable on this CPU
 * @request: the request
 * @attempt: what it does on this CPU
 *
 * Does the global initialisation first where that has not been done. Does
 * nothing on a CPU that is enabled. A failure is remembered, and can be tried again.
 *
 * Context: interrupts and preemption off.
 * Return: 0 or a negative errno, -ENODEV on a host without TDX.
 */
int tdxhost_cpu_enable(struct tdxhost_request *request, struct tdxhost_attempt *attempt)
{
	struct cpu_record *record = this_cpu_ptr(&records);
	struct tdxhost_cpu_result *result = &attempt->result;
	int ret;

	lockdep_assert_irqs_disabled();
	lockdep_assert_preemption_disabled();

	if (done_before(result)) {
		attempt->again = false;
		return 0;
	}

	if (!attempt->again)
		begin(result);
	ret = enable_in_vmx(request, attempt);
	result->state = ret ? TDXHOST_CPU_FAILED : TDXHOST_CPU_ENABLED;
	result->error = -ret;
	result->duration_ns = ktime_get_ns() - result->start_ns;
	if (!tdxhost_provider->acts) {
		result->start_ns = 0;
		result->duration_ns = 0;
	}
	remember(record, result);
	mark(smp_processor_id(), !ret);
	return ret;
}

/* @others: CPUs that have failed in the same way */
static void log_cpu(const struct tdxhost_cpu_result *result, u32 others)
{
	const struct tdxhost_step_result failure = {
		.error = result->error,
		.code = result->code,
		.trap = result->trap,
		.cpu = result->cpu,
		.leaf = result->leaf,
		.seam_status = result->seam_status,
	};

	tdxhost_log_failure("enabling", &failure, others);
}

/* One line for all CPUs that have failed in the same way: there may be hundreds. */
static void log_cpus(const struct cpumask *cpus, const struct tdxhost_attempt *attempts)
{
	int cpu, other;

	for_each_cpu_and(cpu, cpus, cpu_online_mask) {
		const struct tdxhost_cpu_result *result = &attempts[cpu].result;
		bool said = false;
		u32 others = 0;

		if (!result->error)
			continue;
		for_each_cpu_and(other, cpus, cpu_online_mask) {
			bool same = other != cpu && alike(result, &attempts[other].result);

			said |= same && other < cpu;
			others += same;
		}
		if (!said)
			log_cpu(result, others);
	}
}

static noinline_for_stack void enable_here(struct tdxhost_cpu_result *result)
{
	struct tdxhost_request request = {};
	struct tdxhost_attempt attempt = {};
	unsigned long flags;

	do {
		request.pass++;
		local_irq_save(flags);
		tdxhost_cpu_enable(&request, &attempt);
		local_irq_restore(flags);
	} while (tdxhost_wait_again(attempt.again));
	*result = attempt.result;
	if (result->error)
		log_cpu(result, 0);
}

/**
 * tdxhost_cpu_enable_here() - enable the CPU that the caller runs on
 * @result: what it came to
 *
 * Context: task that stays on its CPU, may sleep.
 */
void tdxhost_cpu_enable_here(struct tdxhost_cpu_result *result)
{
	if (!done_before(result))
		enable_here(result);
}

static void enable_for(void *data)
{
	struct tdxhost_request *request = data;

	tdxhost_cpu_enable(request, &request->attempts[smp_processor_id()]);
}

static bool is_due(int cpu, void *data)
{
	const struct tdxhost_request *request = data;

	return request->pass == 1 || request->attempts[cpu].again;
}

static bool any_again(const struct cpumask *cpus, const struct tdxhost_request *request)
{
	int cpu;

	for_each_cpu_and(cpu, cpus, cpu_online_mask)
		if (request->attempts[cpu].again)
			return true;
	return false;
}

/**
 * tdxhost_cpus_enable() - enable CPUs in parallel, by IPIs
 * @cpus: which; the ones that are not online are passed over
 * @request: has room for every possible CPU, and is zeroed otherwise
 *
 * What the TDX module turns away for the moment is tried again, with interrupts
 * on in between: no CPU is held up for longer than by a few SEAMCALLs.
 *
 * Context: task, may sleep. CPU hotplug lock held.
 */
void tdxhost_cpus_enable(const struct cpumask *cpus, struct tdxhost_request *request)
{
	tdxhost_assert_cpus_held();

	do {
		request->pass++;
		on_each_cpu_cond_mask(is_due, enable_for, request, true, cpus);
	} while (tdxhost_wait_again(any_again(cpus, request)));
	log_cpus(cpus, request->attempts);
}

/**
 * tdxhost_cpus_arrivals() - tell whether CPUs have come online
 *
 * Context: any.
 * Return: a number that grows when one does.
 */
u32 tdxhost_cpus_arrivals(void)
{
	return atomic_read(&arrivals);
}

/**
 * tdxhost_cpus_changes() - tell whether tries to enable CPUs came to anything new
 *
 * Context: any.
 * Return: a number that grows when one does.
 */
u32 tdxhost_cpus_changes(void)
{
	return atomic_read(&changes);
}

/**
 * tdxhost_cpu_result() - what the last try to enable a CPU came to
 * @cpu: a possible CPU
 * @result: filled
 *
 * Context: any.
 */
void tdxhost_cpu_result(int cpu, struct tdxhost_cpu_result *result)
{
	struct cpu_record *record = per_cpu_ptr(&records, cpu);
	unsigned long flags;

	raw_spin_lock_irqsave(&record->lock, flags);
	*result = record->last;
	raw_spin_unlock_irqrestore(&record->lock, flags);
	if (!cpu_online(cpu))
		result->state = TDXHOST_CPU_OFFLINE;
}

/**
 * tdxhost_cpu_enabled() - whether a CPU can make SEAMCALLs
 * @cpu: a possible CPU
 *
 * Context: any.
 * Return: true once TDH.SYS.LP.INIT has succeeded on it.
 */
bool tdxhost_cpu_enabled(int cpu)
{
	return cpumask_test_cpu(cpu, &enabled_cpus);
}

/**
 * tdxhost_cpus_log_missing() - log which CPUs the TDX module may be waiting for
 *
 * It counts those that firmware has enabled, whether the kernel uses them or not.
 *
 * Context: task, may sleep. Every online CPU is enabled.
 */
void tdxhost_cpus_log_missing(void)
{
	cpumask_var_t missing;
	int cpu;

	if (!zalloc_cpumask_var(&missing, GFP_KERNEL))
		return;
	for_each_present_cpu(cpu)
		if (!tdxhost_cpu_enabled(cpu))
			cpumask_set_cpu(cpu, missing);
	if (cpumask_empty(missing))
		pr_err("every CPU known here is enabled: was TDX in use before, or is nr_cpus= set?\n");
	else
		pr_err("CPUs %*pbl are missing: TDX takes every CPU that firmware has enabled\n",
		       cpumask_pr_args(missing));
	free_cpumask_var(missing);
}

/**
 * tdxhost_cpus_count() - count CPUs by their state
 * @status: its counts of CPUs are filled
 *
 * Context: any.
 */
void tdxhost_cpus_count(struct tdxhost_status *status)
{
	int cpu;

	status->cpus_online = num_online_cpus();
	status->cpus_enabled = cpumask_weight(&enabled_cpus);
	status->cpus_failed = 0;
	for_each_cpu_and(cpu, &failed_cpus, cpu_online_mask)
		status->cpus_failed++;
}

static u32 package_of(int cpu)
{
	return READ_ONCE(per_cpu_ptr(&records, cpu)->last.package);
}

/* Whether no CPU below @cpu is in the package of @cpu. */
static bool first_of_package(int cpu)
{
	int other;

	for_each_present_cpu(other) {
		if (other >= cpu)
			break;
		if (package_of(other) == package_of(cpu))
			return false;
	}
	return true;
}

/**
 * tdxhost_cpus_packages() - count packages that have had a CPU online
 *
 * Context: any.
 * Return: their number.
 */
u32 tdxhost_cpus_packages(void)
{
	u32 nr = 0;
	int cpu;

	for_each_present_cpu(cpu)
		nr += package_of(cpu) != TDXHOST_NONE && first_of_package(cpu);
	return nr;
}

/**
 * tdxhost_package_online() - find an online CPU of a package
 * @package: physical package
 * @but: a CPU that does not count
 *
 * Context: CPU hotplug lock held, or in a CPU hotplug callback.
 * Return: a CPU, or nr_cpu_ids or more where there is none.
 */
unsigned int tdxhost_package_online(u32 package, unsigned int but)
{
	unsigned int cpu;

	for_each_online_cpu(cpu)
		if (cpu != but && package_of(cpu) == package)
			break;
	return cpu;
}

/* Runs on the CPU that has come online, and at load on every CPU. */
static int cpu_online_callback(unsigned int cpu)
{
	struct cpu_record *record = per_cpu_ptr(&records, cpu);
	struct tdxhost_cpu_result result;
	unsigned long flags;

	raw_spin_lock_irqsave(&record->lock, flags);
	identify(&record->last);
	raw_spin_unlock_irqrestore(&record->lock, flags);
	atomic_inc(&arrivals);

	/* The CPU is good for everything but TDX, whatever comes of it. */
	if (tdxhost_module_wants_cpus()) {
		tdxhost_cpu_enable_here(&result);
		tdxhost_status_cpus_changed();
	}
	return 0;
}

static int cpu_offline_callback(unsigned int cpu)
{
	if (!tdxhost_keys_pending() || tdxhost_package_online(package_of(cpu), cpu) < nr_cpu_ids)
		return 0;
	pr_warn_ratelimited("CPU %u stays online: its package has no TDX key yet\n", cpu);
	return -EBUSY;
}

/**
 * tdxhost_cpu_init() - learn who the CPUs are, and follow them as they come and go
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno.
 */
int tdxhost_cpu_init(void)
{
	int cpu, ret;

	for_each_possible_cpu(cpu) {
		struct cpu_record *record = per_cpu_ptr(&records, cpu);

		raw_spin_lock_init(&record->lock);
		record->last.cpu = cpu;
		record->last.package = TDXHOST_NONE;
		record->last.apic_id = per_cpu(x86_cpu_to_apicid, cpu);
		record->last.node = TDXHOST_NONE;
	}
	ret = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "tdxhost:online", cpu_online_callback,
				cpu_offline_callback);
	if (ret < 0)
		return ret;
	hotplug_state = ret;
	return 0;
}

/**
 * tdxhost_cpu_exit() - stop following CPUs
 *
 * Context: task, may sleep.
 */
void tdxhost_cpu_exit(void)
{
	cpuhp_remove_state_nocalls(hotplug_state);
}
