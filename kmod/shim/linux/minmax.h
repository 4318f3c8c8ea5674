/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_MINMAX_H
#define TDXHOST_SHIM_MINMAX_H

#include <linux/types.h>

/* Of unsigned numbers, which is all that tdmr*.c have. */
static inline u64 min(u64 x, u64 y)
{
	return x < y ? x : y;
}

static inline u64 max(u64 x, u64 y)
{
	return x > y ? x : y;
}

#define min_t(type, x, y) ((type)min(x, y))

#endif /* TDXHOST_SHIM_MINMAX_H */
