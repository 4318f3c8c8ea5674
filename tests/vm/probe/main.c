// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs the instructions that vtdx stands in for, one by one, on every CPU, and
 * tells in debugfs what each came to. A test reads it and knows what a Xeon
 * would have said (SDM vol. 3C, VMX instruction reference).
 */
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <asm/special_insns.h>

#include "probe.h"

#define ROUNDS 500

#define TDH_SYS_RD 34
#define FIRST_FIELD (~0ULL)

struct results {
	struct outcome ud_outside, vmxon_no_vmxe, vmxoff_outside, misaligned, revision, twice;
	struct outcome vmxe_off, movdir_misaligned, seamcall;
	int cr4_shows_vmxe, cr4_hides_vmxe, rdmsr_gp, wrmsr_locked, wrmsr_keyids, movdir_same;
	unsigned int wrong_jumps, wrong_sets, wrong_moves;
	unsigned long strange_flags;
	u64 status;
};

static struct results all[NR_CPUS];
static void *regions[NR_CPUS];
static struct dentry *folder;

static void run_vmxon(struct outcome *outcome, u64 pa)
{
	RUN(outcome, "vmxon %2", "m"(pa));
}

static void run_vmxoff(struct outcome *outcome)
{
	RUN(outcome, "vmxoff", "i"(0));
}

static void write_cr4(struct outcome *outcome, unsigned long value)
{
	RUN(outcome, "mov %2, %%cr4", "r"(value));
}

/* The carry flag is set or cleared beforehand: what is left of it must not show. */
static u64 seamcall_jump(bool carry, unsigned int *wrong)
{
	u64 rax = TDH_SYS_RD, rdx = FIRST_FIELD;
	int jumped = 0;

	asm volatile("bt $0, %k3\n\t.byte 0x66, 0x0f, 0x01, 0xcf\n\tjc 1f\n\tjmp 2f\n"
		     "1:\tmov $1, %2\n2:\n"
		     : "+a"(rax), "+d"(rdx), "+r"(jumped)
		     : "r"((unsigned long)carry)
		     : "cc", "memory", "rcx", "r8", "r9", "r10", "r11");
	*wrong += jumped;
	return rax;
}

static void seamcall_set(bool carry, unsigned int *wrong)
{
	u64 rax = TDH_SYS_RD, rdx = FIRST_FIELD;
	u8 set = 0x55;

	asm volatile("bt $0, %k3\n\t.byte 0x66, 0x0f, 0x01, 0xcf\n\tsetc %2\n"
		     : "+a"(rax), "+d"(rdx), "+r"(set)
		     : "r"((unsigned long)carry)
		     : "cc", "memory", "rcx", "r8", "r9", "r10", "r11");
	*wrong += set != 0;
}

static void seamcall_move(bool carry, unsigned int *wrong)
{
	u64 rax = TDH_SYS_RD, rdx = FIRST_FIELD;
	unsigned long moved = 0;

	asm volatile("bt $0, %k3\n\t.byte 0x66, 0x0f, 0x01, 0xcf\n\tcmovc %3, %2\n"
		     : "+a"(rax), "+d"(rdx), "+r"(moved)
		     : "r"((unsigned long)carry | 2)
		     : "cc", "memory", "rcx", "r8", "r9", "r10", "r11");
	*wrong += moved != 0;
}

static void probe_flags(struct results *mine)
{
	int round;

	for (round = 0; round < ROUNDS; round++) {
		mine->status = seamcall_jump(round & 1, &mine->wrong_jumps);
		seamcall_set(round & 1, &mine->wrong_sets);
		seamcall_move(round & 1, &mine->wrong_moves);
	}
}

/*
 * Flags that TCG holds as operands of the last sum, and that POPF had set before:
 * an emulator that loses track shows the operand's bits as TF, DF or IOPL.
 */
static unsigned long flags_after_mov_cr4(unsigned long cr4)
{
	unsigned long sum = 1, flags;

	asm volatile("pushf\n\tpopf\n\tadd %3, %0\n\tmov %2, %%cr4\n\tpushf\n\tpop %1\n"
		     : "+r"(sum), "=&r"(flags)
		     : "r"(cr4), "r"(0x7fffUL)
		     : "cc", "memory");
	return flags & (X86_EFLAGS_TF | X86_EFLAGS_DF | X86_EFLAGS_IOPL | X86_EFLAGS_NT);
}

static void probe_window(struct results *mine, unsigned long cr4, void *region)
{
	struct outcome ignored;
	u64 pa = __pa(region);

	write_cr4(&ignored, cr4 | X86_CR4_VMXE);
	mine->strange_flags = flags_after_mov_cr4(cr4 | X86_CR4_VMXE);
	mine->cr4_shows_vmxe = !!(native_read_cr4() & X86_CR4_VMXE);
	run_vmxon(&mine->misaligned, pa + 8);
	*(u32 *)region ^= 1;
	run_vmxon(&mine->revision, pa);
	*(u32 *)region ^= 1;
	run_vmxon(&ignored, pa);
	run_vmxon(&mine->twice, pa);
	vmcs_probe_inside(pa);
	write_cr4(&mine->vmxe_off, cr4);
	RUN(&mine->seamcall, ".byte 0x66, 0x0f, 0x01, 0xcf", "0"(TDH_SYS_RD));
	if (mine->seamcall.trap < 0)
		probe_flags(mine);
	run_vmxoff(&ignored);
	write_cr4(&ignored, cr4);
	mine->cr4_hides_vmxe = !(native_read_cr4() & X86_CR4_VMXE);
}

static void probe_movdir64b(struct results *mine)
{
	static const u8 pattern[64] = "sixty-four bytes that travel together, or not at all, as one.";
	u8 room[192], *target = PTR_ALIGN(&room[0], 64);

	memset(room, 0, sizeof(room));
	RUN(&mine->movdir_misaligned, ".byte 0x66, 0x0f, 0x38, 0xf8, 0x3e", "D"(target + 8),
	    "S"(pattern));
	asm volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x3e" : : "D"(target), "S"(pattern) : "memory");
	mine->movdir_same = !memcmp(target, pattern, sizeof(pattern));
}

static void probe_cpu(void *unused)
{
	int cpu = smp_processor_id();
	struct results *mine = &all[cpu];
	unsigned long cr4 = native_read_cr4(), flags;
	u64 value;

	local_irq_save(flags);
	RUN(&mine->ud_outside, ".byte 0x66, 0x0f, 0x01, 0xcf", "0"(TDH_SYS_RD));
	run_vmxon(&mine->vmxon_no_vmxe, __pa(regions[cpu]));
	run_vmxoff(&mine->vmxoff_outside);
	vmcs_probe_outside();
	probe_window(mine, cr4, regions[cpu]);
	probe_movdir64b(mine);
	mine->rdmsr_gp = rdmsrq_safe(0x1401, &value);
	mine->wrmsr_locked = wrmsrq_safe(MSR_IA32_FEAT_CTL, 0);
	mine->wrmsr_keyids = wrmsrq_safe(0x87, 0);
	local_irq_restore(flags);
}

static void show_outcome(struct seq_file *file, const char *name, const struct outcome *outcome)
{
	seq_printf(file, "  %s: {trap: %d, cf: %d, zf: %d}\n", name, outcome->trap,
		   !!(outcome->flags & FLAG_CF), !!(outcome->flags & FLAG_ZF));
}

static int results_show(struct seq_file *file, void *unused)
{
	int cpu;

	for_each_online_cpu(cpu) {
		const struct results *mine = &all[cpu];

		seq_printf(file, "%d:\n", cpu);
		show_outcome(file, "seamcall_outside_vmx", &mine->ud_outside);
		show_outcome(file, "vmxon_without_vmxe", &mine->vmxon_no_vmxe);
		show_outcome(file, "vmxoff_outside_vmx", &mine->vmxoff_outside);
		show_outcome(file, "vmxon_misaligned", &mine->misaligned);
		show_outcome(file, "vmxon_wrong_revision", &mine->revision);
		show_outcome(file, "vmxon_twice", &mine->twice);
		show_outcome(file, "vmxe_cleared_in_vmx", &mine->vmxe_off);
		show_outcome(file, "seamcall", &mine->seamcall);
		show_outcome(file, "movdir64b_misaligned", &mine->movdir_misaligned);
		seq_printf(file, "  movdir64b_same: %d\n", mine->movdir_same);
		seq_printf(file, "  cr4_shows_vmxe: %d\n", mine->cr4_shows_vmxe);
		seq_printf(file, "  cr4_hides_vmxe: %d\n", mine->cr4_hides_vmxe);
		seq_printf(file, "  rdmsr_0x1401: %d\n", mine->rdmsr_gp);
		seq_printf(file, "  wrmsr_locked: %d\n", mine->wrmsr_locked);
		seq_printf(file, "  wrmsr_keyids: %d\n", mine->wrmsr_keyids);
		seq_printf(file, "  wrong_jumps: %u\n", mine->wrong_jumps);
		seq_printf(file, "  wrong_sets: %u\n", mine->wrong_sets);
		seq_printf(file, "  wrong_moves: %u\n", mine->wrong_moves);
		seq_printf(file, "  strange_flags: %lu\n", mine->strange_flags);
		seq_printf(file, "  status: %llu\n", mine->status);
		vmcs_show(file, cpu);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(results);

static void free_regions(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		free_page((unsigned long)regions[cpu]);
}

static int __init probe_init(void)
{
	u64 basic;
	int cpu, ret;

	if (rdmsrq_safe(MSR_IA32_VMX_BASIC, &basic))
		return -ENODEV;
	ret = vmcs_init((u32)basic & GENMASK(30, 0));
	if (ret)
		return ret;
	for_each_possible_cpu(cpu) {
		regions[cpu] = (void *)get_zeroed_page(GFP_KERNEL);
		if (!regions[cpu]) {
			free_regions();
			vmcs_exit();
			return -ENOMEM;
		}
		*(u32 *)regions[cpu] = (u32)basic & GENMASK(30, 0);
	}
	on_each_cpu(probe_cpu, NULL, 1);
	folder = debugfs_create_dir("vtdx_probe", NULL);
	debugfs_create_file("results", 0400, folder, NULL, &results_fops);
	return 0;
}

static void __exit probe_exit(void)
{
	debugfs_remove(folder);
	free_regions();
	vmcs_exit();
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_DESCRIPTION("What the instructions that vtdx stands in for come to");
MODULE_LICENSE("GPL");
