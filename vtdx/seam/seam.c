// SPDX-License-Identifier: GPL-2.0-or-later
/* Life of a module, and the dispatcher: from RAX to a leaf with its lock held. */
#include <stdlib.h>
#include <string.h>

#include "module.h"

#define RAX_LEAF(rax) ((uint16_t)(rax))
#define RAX_VERSION(rax) ((uint8_t)((rax) >> 16))
#define RAX_RESERVED 0xffffffffff000000ull
#define RAX_PSEAMLDR BIT_ULL(63)

enum leaf_lock {
	LOCK_NONE,
	LOCK_SHARED,
	LOCK_EXCLUSIVE,
	LOCK_OWN, /* the leaf locks, and then calls seam_hold() */
};

/* Registers that a leaf clears as soon as it runs, whatever comes after. */
#define CLEAR_RCX 1u
#define CLEAR_RDX 2u
#define CLEAR_R8 4u
#define CLEAR_R9 8u
#define CLEAR_R10 16u

/*
 * TDX module ABI spec, host-side interface functions. Leaves with before_ready
 * pass the dispatcher in every state but shutdown. TD leaves are not modelled:
 * they are answered like unknown ones, which differs once the module is ready.
 */
static const struct leaf {
	uint16_t number;
	bool before_ready;
	uint8_t later_version; /* highest version that modules after 1.5.01 take */
	enum leaf_lock lock;
	unsigned int clear;
	uint64_t (*run)(struct call *call);
} leaves[] = {
	{ 31, true, 0, LOCK_EXCLUSIVE, 0, tdh_sys_key_config },
	{ 32, true, 0, LOCK_NONE, CLEAR_RDX | CLEAR_R9, tdh_sys_info },
	{ 33, true, 1, LOCK_EXCLUSIVE, CLEAR_RCX | CLEAR_RDX | CLEAR_R8 | CLEAR_R9 | CLEAR_R10,
	  tdh_sys_init },
	{ 34, true, 0, LOCK_NONE, 0, tdh_sys_rd },
	{ 35, true, 0, LOCK_SHARED, CLEAR_RCX | CLEAR_RDX | CLEAR_R8, tdh_sys_lp_init },
	{ 36, false, 0, LOCK_OWN, CLEAR_RDX, tdh_sys_tdmr_init },
	{ 37, true, 0, LOCK_NONE, 0, tdh_sys_rdall },
	{ 44, true, 0, LOCK_NONE, 0, tdh_sys_lp_shutdown },
	{ 45, true, 1, LOCK_EXCLUSIVE, 0, tdh_sys_config },
	{ 52, false, 0, LOCK_OWN, 0, tdh_sys_shutdown },
	{ 53, true, 1, LOCK_EXCLUSIVE, 0, tdh_sys_update },
	{ 69, true, 0, LOCK_OWN, 0, tdh_sys_disable },
};

#define LEAF_LP_SHUTDOWN 44
#define LEAF_DISABLE 69

/* TDH.SYS.RD, RDALL, SHUTDOWN and UPDATE came with 1.5. */
static const uint16_t not_in_1_0[] = { 34, 37, 52, 53 };

static const uint16_t versioned[] = { 3, 11, 23, 26, 30 };
static const uint16_t versioned_later[] = { 22, 33, 45, 53 };

static bool in_list(const uint16_t *list, size_t count, uint16_t leaf)
{
	for (size_t i = 0; i < count; i++)
		if (list[i] == leaf)
			return true;
	return false;
}

static bool takes_versions(const struct seam *seam, uint16_t leaf)
{
	return in_list(versioned, ARRAY_SIZE(versioned), leaf) ||
	       (is_later(seam) && in_list(versioned_later, ARRAY_SIZE(versioned_later), leaf));
}

static bool has_disable(const struct seam *seam)
{
	return seam_features0(seam) & FEATURES0_SYS_DISABLE;
}

static const struct leaf *find_leaf(const struct seam *seam, uint16_t number)
{
	if (number == LEAF_DISABLE && !has_disable(seam))
		return NULL;
	if (is_1_0(seam) && in_list(not_in_1_0, ARRAY_SIZE(not_in_1_0), number))
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		if (leaves[i].number == number)
			return &leaves[i];
	return NULL;
}

/**
 * seam_hold() - let the modelled time of a leaf pass
 * @seam: module
 * @lp: caller; holds the locks of its leaf
 * @leaf: leaf number, for P-SEAMLDR all of RAX
 */
void seam_hold(struct seam *seam, uint32_t lp, uint64_t leaf)
{
	if (seam->ops.hold)
		seam->ops.hold(seam->opaque, lp, leaf);
}

/**
 * seam_features0() - TDX_FEATURES0 of the module
 * @seam: module
 */
uint64_t seam_features0(const struct seam *seam)
{
	if (seam->config.tdx_features0)
		return seam->config.tdx_features0;
	return FEATURES0_1_5_01 | (is_later(seam) ? FEATURES0_TOPOLOGY_ENUM : 0);
}

static void clear_outputs(struct seam_regs *regs, unsigned int clear)
{
	if (clear & CLEAR_RCX)
		regs->rcx = 0;
	if (clear & CLEAR_RDX)
		regs->rdx = 0;
	if (clear & CLEAR_R8)
		regs->r8 = 0;
	if (clear & CLEAR_R9)
		regs->r9 = 0;
	if (clear & CLEAR_R10)
		regs->r10 = 0;
}

static bool lock_for(struct seam *seam, enum leaf_lock lock)
{
	switch (lock) {
	case LOCK_SHARED:
		return seam_trylock_shared(&seam->lock);
	case LOCK_EXCLUSIVE:
		return seam_trylock(&seam->lock);
	default:
		return true;
	}
}

static void unlock_for(struct seam *seam, enum leaf_lock lock)
{
	if (lock == LOCK_SHARED)
		seam_unlock_shared(&seam->lock);
	else if (lock == LOCK_EXCLUSIVE)
		seam_unlock(&seam->lock);
}

static uint64_t run_leaf(struct call *call, const struct leaf *leaf)
{
	uint64_t status;

	clear_outputs(call->regs, leaf->clear);
	if (!lock_for(call->seam, leaf->lock))
		return TDX_SYS_BUSY;
	if (leaf->lock != LOCK_OWN)
		seam_hold(call->seam, call->lp, call->leaf);
	status = leaf->run(call);
	unlock_for(call->seam, leaf->lock);
	return status;
}

/*
 * TDX module ABI spec, SEAMCALL: these checks come before any leaf's own. disabling
 * is read before sys: TDH.SYS.DISABLE ends with a new state, then with disabling
 * clear, so that nobody gets in with the old state.
 */
static uint64_t dispatch(struct call *call)
{
	const struct leaf *leaf = find_leaf(call->seam, call->leaf);
	bool disabling = atomic_load(&call->seam->disabling);
	unsigned int sys = atomic_load(&call->seam->sys);

	if (call->regs->rax & RAX_RESERVED)
		return operand_invalid(OPERAND_RAX);
	if (call->version && !takes_versions(call->seam, call->leaf))
		return operand_invalid(OPERAND_RAX);
	if (sys == SEAM_SYS_SHUTDOWN && call->leaf != LEAF_LP_SHUTDOWN)
		return TDX_SYS_SHUTDOWN;
	if (sys < SEAM_SYS_READY && !(leaf && leaf->before_ready))
		return TDX_SYS_NOT_READY;
	if (!leaf || call->version > leaf->later_version)
		return operand_invalid(OPERAND_RAX);
	if (disabling && call->leaf != LEAF_DISABLE)
		return TDX_SYS_BUSY;
	return run_leaf(call, leaf);
}

static int call_module(struct seam *seam, uint32_t lp, struct seam_regs *regs)
{
	const struct seam_regs in = *regs;
	struct call call = {
		.seam = seam,
		.in = &in,
		.regs = regs,
		.lp = lp,
		.leaf = RAX_LEAF(regs->rax),
		.version = RAX_VERSION(regs->rax),
	};
	uint64_t status;

	atomic_fetch_add(&seam->inside, 1);
	status = dispatch(&call);
	atomic_fetch_sub(&seam->inside, 1);
	if (call.fatal) {
		atomic_store(&seam->stopped, true);
		return SEAM_FATAL;
	}
	regs->rax = status;
	return SEAM_DONE;
}

int seam_call(struct seam *seam, uint32_t lp, struct seam_regs *regs)
{
	if (lp >= SEAM_MAX_LPS)
		return SEAM_VMFAILINVALID;
	if (atomic_load(&seam->stopped))
		return SEAM_FATAL;
	if (regs->rax & RAX_PSEAMLDR)
		return seam_call_pseamldr(seam, lp, regs);
	if (!seam->config.loaded)
		return SEAM_VMFAILINVALID;
	return call_module(seam, lp, regs);
}

uint32_t seam_abi_version(void)
{
	return SEAM_ABI_VERSION;
}

static bool config_is_sane(const struct seam_config *config)
{
	return config->size == sizeof(*config) && config->lps && config->lps <= SEAM_MAX_LPS &&
	       config->packages && config->packages <= SEAM_MAX_PACKAGES &&
	       config->nr_cmrs <= SEAM_MAX_CMRS;
}

static bool ops_are_sane(const struct seam_ops *ops)
{
	return ops->size == sizeof(*ops) && ops->read_pa && ops->write_pa && ops->rdmsr &&
	       ops->cpuid && ops->rdrand && ops->pconfig && ops->seam_capabilities;
}

struct seam *seam_create(const struct seam_config *config, const struct seam_ops *ops, void *opaque)
{
	struct seam *seam;

	if (!config_is_sane(config) || !ops_are_sane(ops))
		return NULL;
	seam = calloc(1, sizeof(*seam));
	if (!seam)
		return NULL;
	seam->config = *config;
	seam->ops = *ops;
	seam->opaque = opaque;
	return seam;
}

void seam_destroy(struct seam *seam)
{
	free(seam);
}

void seam_reload(struct seam *seam, int keep_handoff)
{
	const struct seam_config config = seam->config;
	const struct seam_ops ops = seam->ops;
	const struct handoff handoff = seam->handoff;
	bool valid = keep_handoff && atomic_load(&seam->handoff_valid);
	bool pseamldr_seeded = seam->pseamldr_seeded;
	void *opaque = seam->opaque;

	memset(seam, 0, sizeof(*seam));
	seam->config = config;
	seam->ops = ops;
	seam->opaque = opaque;
	if (keep_handoff)
		seam->handoff = handoff;
	seam->pseamldr_seeded = pseamldr_seeded;
	atomic_store(&seam->handoff_valid, valid);
}

void seam_get_state(struct seam *seam, struct seam_state *state)
{
	struct seam_state now = {
		.size = sizeof(now),
		.sys = atomic_load(&seam->sys),
		.lps = atomic_load(&seam->lps_done),
		.packages = atomic_load(&seam->packages_done),
	};

	*state = now;
}
