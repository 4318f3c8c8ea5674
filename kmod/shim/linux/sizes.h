/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_SHIM_SIZES_H
#define TDXHOST_SHIM_SIZES_H

#define SZ_4K 0x1000
#define SZ_2M 0x200000
#define SZ_1G 0x40000000

#endif /* TDXHOST_SHIM_SIZES_H */
