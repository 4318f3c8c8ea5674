// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Another implementation of the seam ABI: a TDX module that refuses every leaf.
 * Bits 31:0 of its answer tell which leaf was asked for.
 */
#include "../../../vtdx/seam/seam.h"

#define TDX_OPERAND_INVALID 0xC000010000000000ull

/* seam_create() has to return something that is not NULL. */
static char here;

uint32_t seam_abi_version(void)
{
	return SEAM_ABI_VERSION;
}

struct seam *seam_create(const struct seam_config *config, const struct seam_ops *ops, void *opaque)
{
	(void)config;
	(void)ops;
	(void)opaque;
	return (struct seam *)&here;
}

void seam_destroy(struct seam *seam)
{
	(void)seam;
}

void seam_reload(struct seam *seam, int keep_handoff)
{
	(void)seam;
	(void)keep_handoff;
}

int seam_call(struct seam *seam, uint32_t lp, struct seam_regs *regs)
{
	(void)seam;
	(void)lp;
	regs->rax = TDX_OPERAND_INVALID | (uint32_t)regs->rax;
	return SEAM_DONE;
}

void seam_get_state(struct seam *seam, struct seam_state *state)
{
	(void)seam;
	state->sys = SEAM_SYSINIT_PENDING;
}

const char *seam_leaf_name(uint64_t rax)
{
	static const char *const names[] = {
		[31] = "TDH.SYS.KEY.CONFIG", [33] = "TDH.SYS.INIT",   [35] = "TDH.SYS.LP.INIT",
		[36] = "TDH.SYS.TDMR.INIT",  [45] = "TDH.SYS.CONFIG",
	};

	return rax < sizeof(names) / sizeof(names[0]) ? names[rax] : 0;
}

const char *seam_status_name(uint64_t status)
{
	(void)status;
	return 0;
}
