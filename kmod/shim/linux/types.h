/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_TYPES_H
#define TDXHOST_SHIM_TYPES_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned int u32;
typedef unsigned long long u64;

#endif /* TDXHOST_SHIM_TYPES_H */
