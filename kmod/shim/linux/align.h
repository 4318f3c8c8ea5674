/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_ALIGN_H
#define TDXHOST_SHIM_ALIGN_H

#include <linux/types.h>

/* Of 64-bit numbers, to powers of two. */
static inline u64 ALIGN_DOWN(u64 x, u64 unit)
{
	return x & ~(unit - 1);
}

static inline u64 ALIGN(u64 x, u64 unit)
{
	return ALIGN_DOWN(x + (unit - 1), unit);
}

#endif /* TDXHOST_SHIM_ALIGN_H */
