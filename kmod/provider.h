/* SPDX-License-Identifier: GPL-2.0-only */
/* A provider is the code that initialises TDX on this kernel. */
#ifndef TDXHOST_PROVIDER_H
#define TDXHOST_PROVIDER_H

#include <linux/types.h>
#include <linux/tdxhost.h>

struct tdxhost_attempt;
struct tdxhost_request;

/**
 * struct tdxhost_step - one step of tdx_enable()
 * @id: TDXHOST_STEP_*
 * @name: for the log
 * @run: does it; records SEAMCALLs and failure in the result, and whether that is final;
 *	gets TDXHOST_ENABLE_* flags
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
 * @warn: what to think of when it is used on this kernel, or NULL; may itself be NULL
 * @features: TDXHOST_FEATURE_*
 * @init: get what it needs
 * @exit: give that back
 * @acts: it can enable CPUs and initialise the TDX module; otherwise it looks at what
 *	the kernel did
 * @look: learn where things stand, before they are told; NULL where that is known
 * @owns_pamts: PAMTs are allocated here, not by the kernel
 * @cpu_enable: enable the local CPU, or look whether it is; in VMX operation, with
 *	interrupts off; fills the attempt
 * @steps: steps of tdx_enable() in order; NULL where it does not act
 * @nr_steps: how many
 * @undo: give back what the steps have allocated, after a failure; NULL where that is
 *	nothing
 */
struct tdxhost_provider {
	u32 id;
	const char *name;
	const char *(*refuse)(void);
	const char *(*warn)(void);
	u64 features;
	int (*init)(void);
	void (*exit)(void);
	bool acts;
	void (*look)(void);
	bool owns_pamts;
	int (*cpu_enable)(struct tdxhost_request *request, struct tdxhost_attempt *attempt);
	const struct tdxhost_step *steps;
	unsigned int nr_steps;
	void (*undo)(void);
};

/* provider_kernel.c */
bool tdxhost_kernel_has_tdx_enable(void);

extern const struct tdxhost_provider *tdxhost_provider;
extern const struct tdxhost_provider tdxhost_provider_direct;
extern const struct tdxhost_provider tdxhost_provider_kernel;
extern const struct tdxhost_provider tdxhost_provider_observer;

#endif /* TDXHOST_PROVIDER_H */
