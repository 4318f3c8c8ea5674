/* SPDX-License-Identifier: GPL-2.0-only */
/* A provider is the code that initialises TDX on this kernel. */
#ifndef TDXHOST_PROVIDER_H
#define TDXHOST_PROVIDER_H

#include <linux/types.h>
#include <linux/tdxhost.h>

struct tdxhost_attempt;
struct tdxhost_call;
struct tdxhost_request;

/**
 * struct tdxhost_step - one step of tdx_enable()
 * @id: TDXHOST_STEP_*
 * @name: for the log
 * @run: does it; records SEAMCALLs and failure in the result; gets TDXHOST_ENABLE_* flags
 * @again_from: TDXHOST_STEP_* that another attempt begins with after it has failed
 * @no_way_back: once it has succeeded nothing before it can be done again, and
 *	what the steps have allocated belongs to the TDX module
 */
struct tdxhost_step {
	u32 id;
	const char *name;
	int (*run)(struct tdxhost_step_result *result, u32 flags);
	u32 again_from;
	bool no_way_back;
};

/**
 * struct tdxhost_provider - what a provider does
 * @id: TDXHOST_PROVIDER_*
 * @name: for people
 * @refuse: why it can't be used on this kernel, or NULL where it can
 * @init: get what it needs
 * @exit: give that back
 * @cpu_enable: enable the local CPU, interrupts off; fills the attempt; NULL
 *	where the provider can't
 * @sys_rd: TDH.SYS.RD on the local CPU, interrupts off; NULL where it can't
 * @steps: steps of tdx_enable() in order; NULL where it can't
 * @nr_steps: how many
 * @undo: give back what the steps have allocated, after a failure
 */
struct tdxhost_provider {
	u32 id;
	const char *name;
	const char *(*refuse)(void);
	int (*init)(void);
	void (*exit)(void);
	int (*cpu_enable)(struct tdxhost_request *request, struct tdxhost_attempt *attempt);
	int (*sys_rd)(struct tdxhost_call *call);
	const struct tdxhost_step *steps;
	unsigned int nr_steps;
	void (*undo)(void);
};

extern const struct tdxhost_provider *tdxhost_provider;
extern const struct tdxhost_provider tdxhost_provider_direct;

#endif /* TDXHOST_PROVIDER_H */
