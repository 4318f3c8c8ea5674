/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef VTDX_PROBE_H
#define VTDX_PROBE_H

#include <linux/bits.h>
#include <linux/seq_file.h>
#include <linux/types.h>
#include <asm/asm.h>
#include <asm/msr.h>
#include <asm/page.h>

/* 6.16 renamed these. */
#ifndef rdmsrq
#define rdmsrq_safe(msr, value) rdmsrl_safe(msr, value)
#define wrmsrq_safe(msr, value) wrmsrl_safe(msr, value)
#endif

#define FLAG_CF BIT(0)
#define FLAG_ZF BIT(6)

/* What an instruction came to: a trap number, or flags. */
struct outcome {
	int trap;
	unsigned long flags;
};

/* EX_TYPE_FAULT leaves the trap number in RAX; -1 stands for none. */
#define RUN(outcome, insn, ...)                                                   \
	do {                                                                      \
		unsigned long rax_ = -1UL, flags_;                                \
		asm volatile("1: " insn "\n\tpushf\n\tpop %1\n\tmov $-1, %0\n"    \
			     "\tjmp 3f\n2:\txor %k1, %k1\n3:\n"                   \
			     _ASM_EXTABLE_TYPE(1b, 2b, EX_TYPE_FAULT)             \
			     : "=&a"(rax_), "=&r"(flags_)                         \
			     : __VA_ARGS__                                        \
			     : "cc", "memory", "rcx", "rdx", "r8", "r9", "r10",   \
			       "r11");                                            \
		(outcome)->trap = (int)rax_;                                      \
		(outcome)->flags = flags_;                                        \
	} while (0)

/* vmcs.c: the instructions that are about a VMCS, or are for one who has VMs. */
int vmcs_init(u32 revision);
void vmcs_exit(void);
void vmcs_probe_outside(void);
void vmcs_probe_inside(u64 vmxon_pa);
void vmcs_show(struct seq_file *file, int cpu);

#endif /* VTDX_PROBE_H */
