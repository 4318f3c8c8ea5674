/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_LIMITS_H
#define TDXHOST_SHIM_LIMITS_H

#define U64_MAX (~0ULL)

#endif /* TDXHOST_SHIM_LIMITS_H */
