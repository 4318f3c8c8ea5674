/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_ERRNO_H
#define TDXHOST_SHIM_ERRNO_H

#include_next <linux/errno.h>

#endif /* TDXHOST_SHIM_ERRNO_H */
