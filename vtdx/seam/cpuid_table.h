/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUID leaves that the TDX module looks at, in its order: what TDH.SYS.INIT wants
 * ((value & mask) == want) and which bits TDH.SYS.LP.INIT compares between LPs.
 */
#ifndef VTDX_CPUID_TABLE_H
#define VTDX_CPUID_TABLE_H

#include <stdint.h>

#define NO_SUBLEAF 0xffffffffu

#define ALL_BITS { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }

#define NR_CPUID_ROWS 55

static const struct cpuid_row {
	uint32_t leaf, subleaf;
	uint32_t mask[4], want[4], same[4]; /* EAX, EBX, ECX, EDX */
} cpuid_rows[NR_CPUID_ROWS] = {
	{ 0x1, NO_SUBLEAF, .mask = { 0, 0xff00, 0x47faa217, 0x1fa9fbff },
	  .want = { 0, 0x800, 0x47faa217, 0x1fa9fbff },
	  .same = { 0xf000c000, 0xffff, 0xf7ffff9f, 0xffffffff } },
	{ 0x4, 0x0, .mask = { 0, 0xfff, 0, 0 }, .want = { 0, 0x3f, 0, 0 }, .same = ALL_BITS },
	{ 0x4, 0x1, .mask = { 0, 0xfff, 0, 0 }, .want = { 0, 0x3f, 0, 0 }, .same = ALL_BITS },
	{ 0x4, 0x2, .mask = { 0, 0xfff, 0, 0 }, .want = { 0, 0x3f, 0, 0 }, .same = ALL_BITS },
	{ 0x4, 0x3, .mask = { 0xe0, 0xfff, 0, 0x1 }, .want = { 0x60, 0x3f, 0, 0 },
	  .same = ALL_BITS },
	{ 0x7, 0x0, .mask = { 0xffffffff, 0x219424c3, 0x99000000, 0xfc082600 },
	  .want = { 0x2, 0x219424c3, 0x99000000, 0xfc080400 },
	  .same = { 0xffffffff, 0xfffffffb, 0xbfc1ff6f, 0xffebffff } },
	{ 0x7, 0x1, .same = ALL_BITS },
	{ 0xa, NO_SUBLEAF, .mask = { 0xff00, 0, 0xffffff80, 0x8000 },
	  .want = { 0x800, 0, 0, 0x8000 }, .same = ALL_BITS },
	{ 0x1c, NO_SUBLEAF, .same = ALL_BITS },
	{ 0x80000008, NO_SUBLEAF, .mask = { 0xff, 0x200, 0, 0 }, .want = { 0x34, 0x200, 0, 0 },
	  .same = ALL_BITS },
	{ 0x0, NO_SUBLEAF, .mask = { 0, 0xffffffff, 0xffffffff, 0xffffffff },
	  .want = { 0, 0x756e6547, 0x6c65746e, 0x49656e69 }, .same = ALL_BITS },
	{ 0x4, 0x4, .mask = { 0x1f, 0, 0, 0 }, .want = { 0, 0, 0, 0 }, .same = ALL_BITS },
	{ 0x6, NO_SUBLEAF, .mask = { 0x800000, 0, 0, 0 }, .want = { 0, 0, 0, 0 },
	  .same = { 0x800000, 0, 0, 0 } },
	{ 0x7, 0x2, .mask = { 0, 0, 0, 0x17 }, .want = { 0, 0, 0, 0x17 }, .same = ALL_BITS },
	{ 0xd, 0x0, .mask = { 0x3, 0, 0, 0 }, .want = { 0x3, 0, 0, 0 },
	  .same = { 0xffffffff, 0, 0xffffffff, 0xffffffff } },
	{ 0xd, 0x1, .mask = { 0xf, 0, 0x1800, 0 }, .want = { 0xf, 0, 0x1800, 0 },
	  .same = { 0xffffffff, 0, 0xffffffff, 0xffffffff } },
	{ 0xd, 0x2, .same = ALL_BITS },
	{ 0xd, 0x3, .same = ALL_BITS },
	{ 0xd, 0x4, .same = ALL_BITS },
	{ 0xd, 0x5, .same = ALL_BITS },
	{ 0xd, 0x6, .same = ALL_BITS },
	{ 0xd, 0x7, .same = ALL_BITS },
	{ 0xd, 0x8, .same = ALL_BITS },
	{ 0xd, 0x9, .same = ALL_BITS },
	{ 0xd, 0xa, .same = ALL_BITS },
	{ 0xd, 0xb, .same = ALL_BITS },
	{ 0xd, 0xc, .same = ALL_BITS },
	{ 0xd, 0xd, .same = ALL_BITS },
	{ 0xd, 0xe, .same = ALL_BITS },
	{ 0xd, 0xf, .same = ALL_BITS },
	{ 0xd, 0x10, .same = ALL_BITS },
	{ 0xd, 0x11, .same = ALL_BITS },
	{ 0xd, 0x12, .same = ALL_BITS },
	{ 0x14, 0x0, .mask = { 0xffffffff, 0, 0, 0 }, .want = { 0x1, 0, 0, 0 }, .same = ALL_BITS },
	{ 0x14, 0x1, .same = ALL_BITS },
	{ 0x15, NO_SUBLEAF, .same = ALL_BITS },
	{ 0x19, NO_SUBLEAF, .same = { 0xffffffff, 0xfffffffe, 0xffffffff, 0xffffffff } },
	{ 0x1d, 0x0, .same = ALL_BITS },
	{ 0x1d, 0x1, .same = ALL_BITS },
	{ 0x1e, NO_SUBLEAF, .same = ALL_BITS },
	{ 0x1f, 0x0, .same = { 0xffffffff, 0xffffffff, 0xffffffff, 0 } },
	{ 0x1f, 0x1, .same = { 0xffffffff, 0xffffffff, 0xffffffff, 0 } },
	{ 0x1f, 0x2, .same = { 0xffffffff, 0xffffffff, 0xffffffff, 0 } },
	{ 0x1f, 0x3, .same = { 0xffffffff, 0xffffffff, 0xffffffff, 0 } },
	{ 0x1f, 0x4, .same = { 0xffffffff, 0xffffffff, 0xffffffff, 0 } },
	{ 0x1f, 0x5, .mask = { 0, 0, 0xff00, 0 }, .want = { 0, 0, 0, 0 },
	  .same = { 0xffffffff, 0xffffffff, 0xffffffff, 0 } },
	{ 0x80000000, NO_SUBLEAF, .same = ALL_BITS },
	{ 0x80000001, NO_SUBLEAF, .mask = { 0, 0, 0x121, 0x2c100800 },
	  .want = { 0, 0, 0x121, 0x2c100800 }, .same = ALL_BITS },
	{ 0x80000006, NO_SUBLEAF, .mask = { 0, 0, 0xff, 0 }, .want = { 0, 0, 0x40, 0 },
	  .same = { 0, 0, 0xff, 0 } },
	{ 0x80000007, NO_SUBLEAF, .mask = { 0, 0, 0, 0x100 }, .want = { 0, 0, 0, 0x100 },
	  .same = { 0, 0, 0, 0x100 } },
	{ 0x23, 0x0, .same = ALL_BITS },
	{ 0x23, 0x1, .mask = { 0xffffff00, 0xfffffff0, 0, 0 }, .want = { 0, 0, 0, 0 },
	  .same = ALL_BITS },
	{ 0x23, 0x2, .same = ALL_BITS },
	{ 0x23, 0x3, .same = ALL_BITS },
	{ 0x5, NO_SUBLEAF, .same = ALL_BITS },
};

#endif /* VTDX_CPUID_TABLE_H */
