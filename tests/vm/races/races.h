/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Many callers of /dev/tdxhost at once, and what each of them can check by itself. */
#ifndef RACES_RACES_H
#define RACES_RACES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/tdxhost.h>

/* One word holds a set of CPUs. */
#define MOST_CPUS 64
#define MOST_CALLERS 64
#define MOST_ANSWERS 32
#define NR_STEPS TDXHOST_STEP_TDMR_INIT
#define NR_CODES (TDXHOST_CODE_NO_MOVDIR64B + 1)
#define NR_ERRNOS 134
#define NR_FIELDS 3

/* One caller makes no more calls than this before the others are waited for. */
enum kind {
	KIND_NONE,
	KIND_CPU_ENABLE,
	KIND_CPUS_ENABLE,
	KIND_ENABLE,
	KIND_ENABLE_CPUS,
	KIND_RETRY,
	KIND_RETRY_CPUS,
	KIND_GET_INFO,
	KIND_GET_STATUS,
	KIND_GET_CPUS,
	KIND_GET_STEPS,
	KIND_GET_MEMORY,
	KIND_SYS_RD,
	NR_KINDS,
};

/**
 * struct facts - what has been true once and has to stay so
 * @generation: highest that GET_STATUS told
 * @initialized: the TDX module was INITIALIZED
 * @enabled: CPUs that were seen enabled
 * @counted: most CPUs that GET_STATUS counted as enabled
 * @runs: of each step
 * @packages: package of each CPU, plus one; 0 for not seen
 * @apic_ids: likewise
 * @fields: value of each metadata field, plus one; 0 for not read
 * @hotplug: grows before and after a CPU changes, so it is odd meanwhile
 */
struct facts {
	_Atomic uint64_t generation;
	_Atomic uint64_t initialized;
	_Atomic uint64_t enabled;
	_Atomic uint64_t counted;
	_Atomic uint64_t runs[NR_STEPS];
	_Atomic uint64_t packages[MOST_CPUS];
	_Atomic uint64_t apic_ids[MOST_CPUS];
	_Atomic uint64_t fields[NR_FIELDS];
	_Atomic uint64_t hotplug;
};

/**
 * struct answer - what a caller of ENABLE was told, and when
 * @start_ns: before the call
 * @end_ns: after it
 * @flags: of the call
 * @enable: the answer
 */
struct answer {
	uint64_t start_ns;
	uint64_t end_ns;
	uint32_t flags;
	struct tdxhost_enable enable;
};

/**
 * struct caller - one thread or process that calls
 * @race: all of them
 * @number: which one
 * @fd: the device
 * @random: state of its random numbers
 * @interruptible: signals come, so that EINTR is an answer
 * @kind: of the call that it is in, for the watchdog
 * @made: calls in all, for the watchdog
 * @calls: by kind
 * @errnos: what the calls came to
 * @codes: TDXHOST_CODE_* in results and answers
 * @answers: of ENABLE, in this round
 * @nr_answers: how many
 */
struct caller {
	struct race *race;
	unsigned int number;
	int fd;
	uint64_t random;
	bool interruptible;
	_Atomic int kind;
	_Atomic uint64_t made;
	uint64_t calls[NR_KINDS];
	uint64_t errnos[NR_ERRNOS];
	uint64_t codes[NR_CODES];
	struct answer answers[MOST_ANSWERS];
	unsigned int nr_answers;
};

/**
 * struct race - everything that callers share; in shared memory
 * @cpus: CPUs of the machine
 * @seed: of all random numbers
 * @rounds: how often all callers start together
 * @each: calls of a caller in a round
 * @nr_callers: how many there are
 * @mix: kinds of calls to choose from
 * @nr_mix: how many
 * @hotplug_us: pause between two changes of CPUs, 0 for no changes
 * @most_us: longest time until a caller is killed
 * @numbered: each attempt fails with a higher number than the one before
 * @until_up: rounds end when the TDX module is INITIALIZED
 * @module: file to load the driver from
 * @facts: what has to stay true
 * @over: the end has come
 * @counts: what happened, by name, for the report
 */
struct race {
	unsigned int cpus;
	uint64_t seed;
	uint64_t rounds;
	uint64_t each;
	uint64_t nr_callers;
	enum kind mix[64];
	unsigned int nr_mix;
	uint64_t hotplug_us;
	uint64_t most_us;
	bool numbered;
	bool until_up;
	const char *module;
	struct facts facts;
	_Atomic bool over;
	struct {
		uint64_t rounds;
		uint64_t shared;
		uint64_t attempts;
		_Atomic uint64_t offline;
		_Atomic uint64_t online;
		_Atomic uint64_t held;
		uint64_t killed;
		uint64_t inside;
		uint64_t loads;
		uint64_t refused;
		uint64_t opens;
		uint64_t gone;
	} counts;
	struct caller callers[MOST_CALLERS];
};

/* main.c */
__attribute__((format(printf, 2, 3), noreturn)) void fail(const struct caller *caller,
							   const char *format, ...);
uint64_t now_ns(void);
uint64_t pick(uint64_t *random, uint64_t below);
void pause_us(uint64_t us);
int device_open(void);
void caller_init(struct race *race, unsigned int number);

/* calls.c */
extern const char *const kind_names[NR_KINDS];
void call_one(struct caller *caller, enum kind kind);
void call_random(struct caller *caller);

/* results.c */
void check_cpu_result(struct caller *caller, const struct tdxhost_cpu_result *result,
		      unsigned int cpu, uint64_t enabled);
void check_cpu_state(struct caller *caller, const struct tdxhost_cpu_result *result,
		     unsigned int cpu, uint64_t enabled);
void check_status(struct caller *caller, const struct tdxhost_status *status,
		  const struct facts *before);
void check_steps(struct caller *caller, const struct tdxhost_step_result *steps,
		 const struct facts *before);
void check_memory(struct caller *caller, const struct tdxhost_range *ranges, unsigned int nr,
		  uint64_t pamt_bytes, bool initialized);
void check_enable(struct caller *caller, const struct tdxhost_enable *enable, uint32_t flags,
		  bool initialized);
void raise_to(_Atomic uint64_t *fact, uint64_t value);

/* answers.c */
void check_answers(struct race *race, uint64_t *floor);

/* hotplug.c */
void hotplug_start(struct race *race);
void hotplug_stop(struct race *race);

/* The commands. */
void rounds(struct race *race);
void unload(struct race *race);
void kills(struct race *race);

#endif /* RACES_RACES_H */
