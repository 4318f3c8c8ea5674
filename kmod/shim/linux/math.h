/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_MATH_H
#define TDXHOST_SHIM_MATH_H

#include <linux/types.h>

static inline u64 DIV_ROUND_UP(u64 n, u64 d)
{
	return (n + d - 1) / d;
}

#endif /* TDXHOST_SHIM_MATH_H */
