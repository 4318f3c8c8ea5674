/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Single bits, as kernel code writes them. */
#ifndef VTDX_BITS_H
#define VTDX_BITS_H

#define BIT(n) (1u << (n))
#define BIT_ULL(n) (1ull << (n))

#endif /* VTDX_BITS_H */
