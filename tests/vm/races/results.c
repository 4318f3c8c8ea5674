// SPDX-License-Identifier: GPL-2.0-or-later
/* What is wrong with a single answer, or with one that comes after others. */
#include <errno.h>

#include "races.h"

#define NONE (~0u)

/* Remembers the first value, which every later one has to be. */
static bool is_same(_Atomic uint64_t *fact, uint64_t value)
{
	uint64_t expected = 0;

	return atomic_compare_exchange_strong(fact, &expected, value + 1) || expected == value + 1;
}

void raise_to(_Atomic uint64_t *fact, uint64_t value)
{
	uint64_t seen = *fact;

	while (seen < value && !atomic_compare_exchange_weak(fact, &seen, value))
		;
}

static void count_code(struct caller *caller, uint32_t code)
{
	if (code >= NR_CODES)
		fail(caller, "code %u", code);
	caller->codes[code]++;
}

/* The package of a CPU that was never online while the driver is there is not known. */
static void check_identity(struct caller *caller, const struct tdxhost_cpu_result *result,
			   unsigned int cpu)
{
	struct facts *facts = &caller->race->facts;

	if (result->cpu != cpu || cpu >= caller->race->cpus)
		fail(caller, "the result of CPU %u says %u", cpu, result->cpu);
	if (!is_same(&facts->apic_ids[cpu], result->apic_id) ||
	    (result->package != NONE && !is_same(&facts->packages[cpu], result->package)))
		fail(caller, "CPU %u has become another: package %u, APIC id %u", cpu,
		     result->package, result->apic_id);
}

/* What a call to enable a CPU came to; @enabled: CPUs that were so before. */
void check_cpu_result(struct caller *caller, const struct tdxhost_cpu_result *result,
		      unsigned int cpu, uint64_t enabled)
{
	bool offline = result->code == TDXHOST_CODE_CPU_OFFLINE;
	uint32_t state = TDXHOST_CPU_ENABLED;

	check_identity(caller, result, cpu);
	count_code(caller, result->code);
	if (result->error)
		state = offline ? TDXHOST_CPU_OFFLINE : TDXHOST_CPU_FAILED;
	if (result->state != state || !result->error != !result->code)
		fail(caller, "CPU %u: error %u, code %u, state %u", cpu, result->error,
		     result->code, result->state);
	if (result->error && !offline && enabled >> cpu & 1)
		fail(caller, "CPU %u was enabled, and now has error %u", cpu, result->error);
	if (!result->error)
		atomic_fetch_or(&caller->race->facts.enabled, 1ull << cpu);
}

/* What GET_CPUS tells of a CPU. */
void check_cpu_state(struct caller *caller, const struct tdxhost_cpu_result *result,
		     unsigned int cpu, uint64_t enabled)
{
	bool ok = result->state == TDXHOST_CPU_ENABLED || result->state == TDXHOST_CPU_OFFLINE;

	check_identity(caller, result, cpu);
	if (enabled >> cpu & 1 && (!ok || result->error))
		fail(caller, "CPU %u was enabled, and now has state %u, error %u", cpu,
		     result->state, result->error);
	if (result->state > TDXHOST_CPU_OFFLINE)
		fail(caller, "CPU %u has state %u", cpu, result->state);
}

static void check_module(struct caller *caller, const struct tdxhost_status *status,
			 const struct facts *before)
{
	bool up = status->module_status == TDXHOST_MODULE_INITIALIZED;

	if (before->initialized && !up)
		fail(caller, "INITIALIZED has become %u", status->module_status);
	if (up && (status->error || status->code || status->running || !status->pamt_bytes ||
		   status->step != TDXHOST_STEP_TDMR_INIT))
		fail(caller, "INITIALIZED with error %u, running %u, step %u", status->error,
		     status->running, status->step);
	if (status->module_status == TDXHOST_MODULE_ERROR && (!status->error || !status->code))
		fail(caller, "ERROR without a reason");
	if (up)
		raise_to(&caller->race->facts.initialized, 1);
}

/* @before: what was so before it was asked for */
void check_status(struct caller *caller, const struct tdxhost_status *status,
		  const struct facts *before)
{
	struct facts *facts = &caller->race->facts;

	if (status->generation < before->generation)
		fail(caller, "generation %llu after %lu", status->generation, before->generation);
	if (status->cpus_enabled < before->counted || status->cpus_enabled > caller->race->cpus)
		fail(caller, "%u CPUs enabled, after %lu", status->cpus_enabled, before->counted);
	if (status->cpus_enabled < (unsigned int)__builtin_popcountll(before->enabled))
		fail(caller, "%u CPUs enabled, and these were: %#lx", status->cpus_enabled,
		     before->enabled);
	if (status->step > NR_STEPS || status->running > 1 || status->module_status > 2)
		fail(caller, "step %u, running %u, module status %u", status->step,
		     status->running, status->module_status);
	check_module(caller, status, before);
	raise_to(&facts->generation, status->generation);
	raise_to(&facts->counted, status->cpus_enabled);
}

static void check_step(struct caller *caller, const struct tdxhost_step_result *step,
		       unsigned int number, const struct facts *before)
{
	if (step->step != number)
		fail(caller, "result %u is of step %u", number, step->step);
	if (step->runs < before->runs[number - 1])
		fail(caller, "step %u was begun %u times, after %lu", number, step->runs,
		     before->runs[number - 1]);
	if (!step->runs != !step->start_ns || (!step->error != !step->code))
		fail(caller, "step %u: runs %u, start %llu, error %u, code %u", number, step->runs,
		     step->start_ns, step->error, step->code);
	if (before->initialized && (step->error || !step->runs))
		fail(caller, "initialised, and step %u has error %u", number, step->error);
	if (step->cpu != NONE && step->cpu >= caller->race->cpus)
		fail(caller, "step %u is about CPU %u", number, step->cpu);
	raise_to(&caller->race->facts.runs[number - 1], step->runs);
}

/* @before: what was so before they were asked for */
void check_steps(struct caller *caller, const struct tdxhost_step_result *steps,
		 const struct facts *before)
{
	for (unsigned int i = 0; i < NR_STEPS; i++)
		check_step(caller, &steps[i], i + 1, before);
}

static bool is_pamt(const struct tdxhost_range *range)
{
	return range->kind >= TDXHOST_RANGE_PAMT_4K && range->kind <= TDXHOST_RANGE_PAMT_1G;
}

static bool overlap(const struct tdxhost_range *a, const struct tdxhost_range *b)
{
	return a->base_pa < b->base_pa + b->bytes && b->base_pa < a->base_pa + a->bytes;
}

static void check_pamt(struct caller *caller, const struct tdxhost_range *ranges, unsigned int i)
{
	for (unsigned int k = 0; k < i; k++)
		if (is_pamt(&ranges[k]) && overlap(&ranges[k], &ranges[i]))
			fail(caller, "PAMTs at %#llx and %#llx overlap", ranges[k].base_pa,
			     ranges[i].base_pa);
}

/* @initialized: the TDX module was so before they were asked for */
void check_memory(struct caller *caller, const struct tdxhost_range *ranges, unsigned int nr,
		  uint64_t pamt_bytes, bool initialized)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < nr; i++) {
		if (is_pamt(&ranges[i])) {
			check_pamt(caller, ranges, i);
			bytes += ranges[i].bytes;
		}
		if (i && (ranges[i].kind < ranges[i - 1].kind ||
			  (ranges[i].kind == ranges[i - 1].kind &&
			   ranges[i].base_pa < ranges[i - 1].base_pa + ranges[i - 1].bytes)))
			fail(caller, "range %u is out of order", i);
	}
	/* Some is to spare until all PAMTs are there. */
	if (bytes > pamt_bytes || (initialized && bytes < pamt_bytes))
		fail(caller, "PAMTs of %lu bytes are listed, and %lu said to be held", bytes,
		     pamt_bytes);
}

/* @initialized: the TDX module was so before the call */
void check_enable(struct caller *caller, const struct tdxhost_enable *enable, uint32_t flags,
		  bool initialized)
{
	bool up = enable->module_status == TDXHOST_MODULE_INITIALIZED;
	bool interrupted = enable->code == TDXHOST_CODE_INTERRUPTED;
	uint32_t failed = interrupted ? TDXHOST_MODULE_UNKNOWN : TDXHOST_MODULE_ERROR;

	count_code(caller, enable->code);
	if (!up != !!enable->error || !enable->error != !enable->code)
		fail(caller, "module status %u, error %u, code %u", enable->module_status,
		     enable->error, enable->code);
	if (initialized && !up)
		fail(caller, "INITIALIZED has become %u", enable->module_status);
	if (!up && enable->module_status != failed)
		fail(caller, "module status %u with code %u", enable->module_status, enable->code);
	if (interrupted && !caller->interruptible)
		fail(caller, "interrupted by nothing");
	if (enable->code == TDXHOST_CODE_EARLIER_FAILURE && flags & TDXHOST_ENABLE_RETRY)
		fail(caller, "RETRY was not tried");
	if (up)
		raise_to(&caller->race->facts.initialized, 1);
}
