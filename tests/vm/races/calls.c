// SPDX-License-Identifier: GPL-2.0-or-later
/* Every call, with arguments by chance. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "races.h"

#define MOST_RANGES 512

const char *const kind_names[NR_KINDS] = {
	[KIND_NONE] = "none",
	[KIND_CPU_ENABLE] = "cpu_enable",
	[KIND_CPUS_ENABLE] = "cpus_enable",
	[KIND_ENABLE] = "enable",
	[KIND_ENABLE_CPUS] = "enable_cpus",
	[KIND_RETRY] = "retry",
	[KIND_RETRY_CPUS] = "retry_cpus",
	[KIND_GET_INFO] = "get_info",
	[KIND_GET_STATUS] = "get_status",
	[KIND_GET_CPUS] = "get_cpus",
	[KIND_GET_STEPS] = "get_steps",
	[KIND_GET_MEMORY] = "get_memory",
	[KIND_SYS_RD] = "sys_rd",
};

/* MAX_TDMRS, MAX_RESERVED_PER_TDMR, NUM_CMRS: the same whatever the TDX module does. */
static const uint64_t field_ids[NR_FIELDS] = {
	0x9100000100000008,
	0x9100000100000009,
	0x9000000100000000,
};

/* 0 or an errno; any that is not one of the two is a failure. */
static int device_call(struct caller *caller, unsigned long command, void *arg, int allowed)
{
	int error = ioctl(caller->fd, command, arg) ? errno : 0;

	caller->errnos[error]++;
	if (error && error != allowed)
		fail(caller, "errno %d (%s)", error, strerror(error));
	return error;
}

/* Runs on one CPU if that is there to run on. */
static bool pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

static void unpin(void)
{
	cpu_set_t set;

	memset(&set, 0xff, sizeof(set));
	sched_setaffinity(0, sizeof(set), &set);
}

/* Which CPU it has to be is known while none comes or goes. */
static void call_cpu_enable(struct caller *caller, uint32_t flags)
{
	struct facts *facts = &caller->race->facts;
	unsigned int cpu = pick(&caller->random, caller->race->cpus);
	uint64_t enabled = facts->enabled, hotplug = facts->hotplug;
	bool pinned = pin(cpu);
	struct tdxhost_cpu_result result;
	struct tdxhost_cpu_enable enable = {
		.size = sizeof(enable),
		.result = (uintptr_t)&result,
		.entry_size = sizeof(result),
	};

	(void)flags;
	memset(&result, 0xcc, sizeof(result));
	device_call(caller, TDXHOST_CPU_ENABLE, &enable, 0);
	if (!pinned || hotplug % 2 || hotplug != facts->hotplug)
		cpu = result.cpu;
	unpin();
	check_cpu_result(caller, &result, cpu, enabled);
}

/* All online CPUs, or some that can exist. */
static uint64_t random_mask(struct caller *caller)
{
	uint64_t all = ~0ull >> (MOST_CPUS - caller->race->cpus);

	return pick(&caller->random, 3) ? pick(&caller->random, 1ull << 62) & all : 0;
}

static void call_cpus_enable(struct caller *caller, uint32_t flags)
{
	struct tdxhost_cpu_result results[MOST_CPUS];
	uint64_t enabled = caller->race->facts.enabled, mask = random_mask(caller);
	unsigned int cpu = 0;
	struct tdxhost_cpus cpus = {
		.size = sizeof(cpus),
		.mask = mask ? (uintptr_t)&mask : 0,
		.mask_bytes = mask ? (caller->race->cpus + 7) / 8 : 0,
		.results = (uintptr_t)results,
		.count = MOST_CPUS,
		.entry_size = sizeof(*results),
	};

	(void)flags;
	memset(results, 0xcc, sizeof(results));
	device_call(caller, TDXHOST_CPUS_ENABLE, &cpus, 0);
	if (mask && cpus.count != (unsigned int)__builtin_popcountll(mask))
		fail(caller, "%u results for the CPUs of %#lx", cpus.count, mask);
	for (unsigned int i = 0; i < cpus.count; i++, cpu++) {
		/* Without a mask the ones that are online are known to the driver alone. */
		while (mask && !(mask >> cpu & 1))
			cpu++;
		if (!mask && i && results[i].cpu < cpu)
			fail(caller, "CPU %u comes after CPU %u", results[i].cpu, cpu - 1);
		cpu = mask ? cpu : results[i].cpu;
		check_cpu_result(caller, &results[i], cpu, enabled);
	}
}

static void remember(struct caller *caller, const struct answer *answer)
{
	if (caller->nr_answers == MOST_ANSWERS)
		fail(caller, "more than %d answers in a round", MOST_ANSWERS);
	caller->answers[caller->nr_answers++] = *answer;
}

static void call_enable(struct caller *caller, uint32_t flags)
{
	struct answer answer = {
		.flags = flags,
		.enable = { .size = sizeof(answer.enable), .flags = flags },
	};
	bool initialized = caller->race->facts.initialized;

	answer.start_ns = now_ns();
	if (device_call(caller, TDXHOST_ENABLE, &answer.enable,
			caller->interruptible ? EINTR : 0))
		return;
	answer.end_ns = now_ns();
	check_enable(caller, &answer.enable, flags, initialized);
	if (caller->race->numbered)
		remember(caller, &answer);
}

static void call_get_info(struct caller *caller, uint32_t flags)
{
	struct tdxhost_info info = { .size = sizeof(info) };
	bool initialized = caller->race->facts.initialized;

	(void)flags;
	device_call(caller, TDXHOST_GET_INFO, &info, 0);
	if (info.nr_cpus != caller->race->cpus || info.code)
		fail(caller, "%u CPUs, code %u", info.nr_cpus, info.code);
	if (initialized && !(info.valid & TDXHOST_INFO_MODULE))
		fail(caller, "initialised, and no version of the TDX module");
}

static void call_get_status(struct caller *caller, uint32_t flags)
{
	struct tdxhost_status status = { .size = sizeof(status) };
	struct facts before = caller->race->facts;

	(void)flags;
	device_call(caller, TDXHOST_GET_STATUS, &status, 0);
	check_status(caller, &status, &before);
}

static void call_get_cpus(struct caller *caller, uint32_t flags)
{
	struct tdxhost_cpu_result results[MOST_CPUS];
	uint64_t enabled = caller->race->facts.enabled;
	struct tdxhost_cpus cpus = {
		.size = sizeof(cpus),
		.results = (uintptr_t)results,
		.count = MOST_CPUS,
		.entry_size = sizeof(*results),
	};

	(void)flags;
	memset(results, 0xcc, sizeof(results));
	device_call(caller, TDXHOST_GET_CPUS, &cpus, 0);
	if (cpus.count != caller->race->cpus)
		fail(caller, "results of %u CPUs", cpus.count);
	for (unsigned int i = 0; i < cpus.count; i++)
		check_cpu_state(caller, &results[i], i, enabled);
}

static void call_get_steps(struct caller *caller, uint32_t flags)
{
	struct tdxhost_step_result results[NR_STEPS];
	struct facts before = caller->race->facts;
	struct tdxhost_steps steps = {
		.size = sizeof(steps),
		.results = (uintptr_t)results,
		.count = NR_STEPS,
		.entry_size = sizeof(*results),
	};

	(void)flags;
	memset(results, 0xcc, sizeof(results));
	device_call(caller, TDXHOST_GET_STEPS, &steps, 0);
	check_steps(caller, results, &before);
}

static void call_get_memory(struct caller *caller, uint32_t flags)
{
	struct tdxhost_range ranges[MOST_RANGES];
	bool initialized = caller->race->facts.initialized;
	struct tdxhost_memory memory = {
		.size = sizeof(memory),
		.ranges = (uintptr_t)ranges,
		.count = MOST_RANGES,
		.entry_size = sizeof(*ranges),
	};

	(void)flags;
	memset(ranges, 0xcc, sizeof(ranges));
	device_call(caller, TDXHOST_GET_MEMORY, &memory, 0);
	check_memory(caller, ranges, memory.count, memory.pamt_bytes, initialized);
}

static void check_field(struct caller *caller, const struct tdxhost_field *field, unsigned int i)
{
	uint64_t expected = 0, seen = field->value + 1;

	if (field->error)
		fail(caller, "field %#llx: error %u, status %#llx", field->id, field->error,
		     field->seam_status);
	if (!atomic_compare_exchange_strong(&caller->race->facts.fields[i], &expected, seen) &&
	    expected != seen)
		fail(caller, "field %#llx was %lu, is %lu", field->id, expected - 1, seen - 1);
}

/* CPU 0 never goes, so once it is enabled there is one to ask on. */
static void call_sys_rd(struct caller *caller, uint32_t flags)
{
	struct tdxhost_field fields[NR_FIELDS];
	struct tdxhost_sys_rd rd = {
		.size = sizeof(rd),
		.fields = (uintptr_t)fields,
		.count = NR_FIELDS,
		.entry_size = sizeof(*fields),
	};
	bool served = caller->race->facts.enabled & 1;

	(void)flags;
	memset(fields, 0, sizeof(fields));
	for (unsigned int i = 0; i < NR_FIELDS; i++)
		fields[i].id = field_ids[i];
	if (device_call(caller, TDXHOST_SYS_RD, &rd, served ? 0 : ENXIO))
		return;
	if (rd.cpu >= caller->race->cpus)
		fail(caller, "asked on CPU %u", rd.cpu);
	for (unsigned int i = 0; i < NR_FIELDS; i++)
		check_field(caller, &fields[i], i);
}

static const struct {
	void (*call)(struct caller *caller, uint32_t flags);
	uint32_t flags;
} kinds[NR_KINDS] = {
	[KIND_CPU_ENABLE] = { call_cpu_enable },
	[KIND_CPUS_ENABLE] = { call_cpus_enable },
	[KIND_ENABLE] = { call_enable },
	[KIND_ENABLE_CPUS] = { call_enable, TDXHOST_ENABLE_CPUS },
	[KIND_RETRY] = { call_enable, TDXHOST_ENABLE_RETRY },
	[KIND_RETRY_CPUS] = { call_enable, TDXHOST_ENABLE_RETRY | TDXHOST_ENABLE_CPUS },
	[KIND_GET_INFO] = { call_get_info },
	[KIND_GET_STATUS] = { call_get_status },
	[KIND_GET_CPUS] = { call_get_cpus },
	[KIND_GET_STEPS] = { call_get_steps },
	[KIND_GET_MEMORY] = { call_get_memory },
	[KIND_SYS_RD] = { call_sys_rd },
};

void call_one(struct caller *caller, enum kind kind)
{
	caller->kind = kind;
	kinds[kind].call(caller, kinds[kind].flags);
	caller->calls[kind]++;
	caller->made++;
	caller->kind = KIND_NONE;
}

void call_random(struct caller *caller)
{
	call_one(caller, caller->race->mix[pick(&caller->random, caller->race->nr_mix)]);
}
