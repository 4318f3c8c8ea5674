/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Faults on demand (README.md, "Faults"). */
#ifndef VTDX_FAULT_H
#define VTDX_FAULT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "platform.h"

enum fault_at {
	FAULT_AT_SEAMCALL,
	FAULT_AT_VMXON,
	FAULT_AT_RDMSR,
};

enum fault_answer {
	FAULT_NONE,
	FAULT_STATUS,
	FAULT_VALUE,
	FAULT_TRAP_UD,
	FAULT_TRAP_GP,
	FAULT_VMFAIL,
};

/* RCX, RDX, R8 to R11. */
#define FAULT_OUTPUTS 6

/**
 * struct fault - what a fault does
 * @number: its number in the log
 * @answer: what happens
 * @value: the completion status or the MSR's value
 * @has_output: a bit for each of @output that is given
 * @output: values of output registers
 */
struct fault {
	unsigned int number;
	enum fault_answer answer;
	uint64_t value;
	uint32_t has_output;
	uint64_t output[FAULT_OUTPUTS];
};

/**
 * struct fault_rule - a fault, and when it strikes
 * @fault: what it does
 * @at: which instruction
 * @any: any leaf
 * @target: leaf or MSR
 * @cpus: not 0 for each CPU that it is for, or NULL for all
 * @call: first matching call that it strikes, from 1
 * @times: how many it strikes, 0 for no end
 * @calls: matching calls so far (atomic)
 */
struct fault_rule {
	struct fault fault;
	enum fault_at at;
	bool any;
	uint64_t target;
	uint8_t *cpus;
	uint64_t call;
	uint64_t times;
	uint64_t calls;
};

GArray *fault_rules_new(void);
unsigned int fault_add(struct platform *platform, const struct seam_library *library,
		       unsigned int number, const char *spec, char **why);
void faults_clear(struct platform *platform);
bool fault_strike(struct platform *platform, enum fault_at at, uint64_t target, unsigned int cpu,
		  struct fault *struck);
void fault_outputs(const struct fault *fault, uint64_t leaf, struct seam_regs *regs);

#endif /* VTDX_FAULT_H */
