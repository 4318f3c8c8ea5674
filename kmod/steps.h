/* SPDX-License-Identifier: GPL-2.0-only */
/* Steps of tdx_enable() that providers share; see struct tdxhost_step. */
#ifndef TDXHOST_STEPS_H
#define TDXHOST_STEPS_H

#include <linux/types.h>

struct tdxhost_step_result;

int steps_check_platform(struct tdxhost_step_result *result, u32 flags);
int steps_enable_cpus(struct tdxhost_step_result *result, u32 flags);
int steps_read_metadata(struct tdxhost_step_result *result, u32 flags);

#endif /* TDXHOST_STEPS_H */
