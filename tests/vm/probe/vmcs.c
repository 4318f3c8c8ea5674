// SPDX-License-Identifier: GPL-2.0-or-later
/* VMX instructions about a VMCS: without one, with one, and with two. */
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "probe.h"

#define MAX_STEPS 96
#define SHADOW BIT(31)
#define UNUSED 0x5555555555555555ULL

/* Fields of each width. SDM vol. 3D, appendix B */
#define VPID 0x0000
#define GUEST_CS 0x0802
#define IO_BITMAP_A 0x2000
#define IO_BITMAP_A_HIGH 0x2001
#define EPT_POINTER 0x201a
#define PROC_CONTROLS 0x4002
#define VM_INSTRUCTION_ERROR 0x4400
#define GUEST_CR0 0x6800
#define HOST_RIP 0x6c16
#define NO_FIELD 0x6bfe

#define SEAMLDR_INFO 0x8000000000000000ULL

/* Write-back, four levels. */
#define GOOD_EPTP 0x1eULL

/* @error: VM-instruction error, where there is one; @value: what was read, or UNUSED */
struct step {
	const char *name;
	struct outcome outcome;
	u64 error, value;
};

struct run {
	unsigned int nr;
	struct step steps[MAX_STEPS];
	u32 *first, *second;
	u64 descriptor[2];
	u64 memory;
};

static struct run *runs[NR_CPUS];
static u32 revision;

static void run_vmread(struct outcome *outcome, u64 field, u64 *value)
{
	RUN(outcome, "vmread %2, %%rcx\n\tmov %%rcx, (%3)", "r"(field), "r"(value));
}

/* Remembers the outcome, and asks the current VMCS why where it is VMfailValid. */
static struct step *record(struct run *run, const char *name, const struct outcome *outcome)
{
	struct step *step = &run->steps[min(run->nr, MAX_STEPS - 1U)];
	struct outcome ignored;

	run->nr++;
	step->name = name;
	step->outcome = *outcome;
	step->value = UNUSED;
	if (outcome->trap < 0 && outcome->flags & FLAG_ZF)
		run_vmread(&ignored, VM_INSTRUCTION_ERROR, &step->error);
	return step;
}

#define STEP(run, name, insn, ...)                    \
	({                                            \
		struct outcome outcome_;              \
		RUN(&outcome_, insn, __VA_ARGS__);    \
		record(run, name, &outcome_);         \
	})

static void vmclear(struct run *run, const char *name, u64 pa)
{
	STEP(run, name, "vmclear %2", "m"(pa));
}

static void vmptrld(struct run *run, const char *name, u64 pa)
{
	STEP(run, name, "vmptrld %2", "m"(pa));
}

/* Tells whether the current VMCS is the one that is meant: 1, 0, or 2 for none at all. */
static void vmptrst(struct run *run, const char *name, u64 expected)
{
	struct outcome outcome;
	struct step *step;
	u64 pa = 0;

	RUN(&outcome, "vmptrst (%2)", "r"(&pa));
	step = record(run, name, &outcome);
	step->value = pa == ~0ULL ? 2 : pa == expected;
}

static void vmread(struct run *run, const char *name, u64 field)
{
	struct outcome outcome;
	struct step *step;
	u64 value;

	run_vmread(&outcome, field, &value);
	step = record(run, name, &outcome);
	if (outcome.trap < 0 && !(outcome.flags & (FLAG_CF | FLAG_ZF)))
		step->value = value;
}

static void vmread_memory(struct run *run, const char *name, u64 field)
{
	struct step *step;

	run->memory = 0;
	step = STEP(run, name, "vmread %2, (%3)", "r"(field), "r"(&run->memory));
	step->value = run->memory;
}

static void vmwrite(struct run *run, const char *name, u64 field, u64 value)
{
	STEP(run, name, "vmwrite %3, %2", "r"(field), "r"(value));
}

static void vmwrite_memory(struct run *run, const char *name, u64 field, u64 value)
{
	run->memory = value;
	STEP(run, name, "vmwrite (%3), %2", "r"(field), "r"(&run->memory));
}

static void invept(struct run *run, const char *name, u64 type, u64 eptp)
{
	run->descriptor[0] = eptp;
	run->descriptor[1] = 0;
	STEP(run, name, "invept (%3), %2", "r"(type), "r"(run->descriptor));
}

static void invvpid(struct run *run, const char *name, u64 type, u64 vpid, u64 address)
{
	run->descriptor[0] = vpid;
	run->descriptor[1] = address;
	STEP(run, name, "invvpid (%3), %2", "r"(type), "r"(run->descriptor));
}

static void vmlaunch(struct run *run, const char *name)
{
	STEP(run, name, "vmlaunch", "i"(0));
}

static void vmresume(struct run *run, const char *name)
{
	STEP(run, name, "vmresume", "i"(0));
}

static struct run *this_run(void)
{
	return runs[smp_processor_id()];
}

/* None of them may do anything here. */
void vmcs_probe_outside(void)
{
	struct run *run = this_run();
	u64 pa = __pa(run->first);

	vmclear(run, "outside_vmclear", pa);
	vmptrld(run, "outside_vmptrld", pa);
	vmptrst(run, "outside_vmptrst", pa);
	vmread(run, "outside_vmread", VPID);
	vmwrite(run, "outside_vmwrite", VPID, 1);
	invept(run, "outside_invept", 2, 0);
	invvpid(run, "outside_invvpid", 2, 0, 0);
	vmlaunch(run, "outside_vmlaunch");
	vmresume(run, "outside_vmresume");
}

static void probe_without(struct run *run, u64 vmxon_pa)
{
	u64 pa = __pa(run->first);

	vmptrst(run, "none_vmptrst", pa);
	vmread(run, "none_vmread", VPID);
	vmwrite(run, "none_vmwrite", VPID, 1);
	vmlaunch(run, "none_vmlaunch");
	vmresume(run, "none_vmresume");
	vmclear(run, "none_vmclear_misaligned", pa + 8);
	vmclear(run, "none_vmclear_vmxon", vmxon_pa);
	vmptrld(run, "none_vmptrld_misaligned", pa + 8);
	invept(run, "none_invept_no_type", 0, 0);
	invvpid(run, "none_invvpid_no_type", 4, 0, 0);
	invept(run, "good_invept_all", 2, 0);
	invvpid(run, "good_invvpid_all", 2, 0, 0);
}

static void probe_errors(struct run *run, u64 vmxon_pa)
{
	u64 pa = __pa(run->first), second = __pa(run->second);

	STEP(run, "error_vmxon", "vmxon %2", "m"(vmxon_pa));
	vmclear(run, "error_vmclear_misaligned", pa + 8);
	vmclear(run, "error_vmclear_too_high", BIT_ULL(52));
	vmclear(run, "error_vmclear_vmxon", vmxon_pa);
	vmptrld(run, "error_vmptrld_misaligned", pa + 8);
	vmptrld(run, "error_vmptrld_too_high", BIT_ULL(52));
	vmptrld(run, "error_vmptrld_vmxon", vmxon_pa);
	*run->second = revision ^ 1;
	vmptrld(run, "error_vmptrld_revision", second);
	*run->second = revision;
	vmread(run, "error_vmread_no_field", NO_FIELD);
	vmread(run, "error_vmread_too_high", BIT_ULL(32) | VPID);
	vmread(run, "error_vmread_high_of_32", PROC_CONTROLS | 1);
	vmwrite(run, "error_vmwrite_no_field", NO_FIELD, 1);
	vmlaunch(run, "error_vmlaunch");
	vmresume(run, "error_vmresume");
	vmptrst(run, "same_after_errors", pa);
}

static void probe_invalidations(struct run *run)
{
	invept(run, "good_invept_single", 1, GOOD_EPTP);
	invept(run, "error_invept_type_0", 0, GOOD_EPTP);
	invept(run, "error_invept_type_3", 3, GOOD_EPTP);
	invept(run, "error_invept_type_too_high", BIT_ULL(32) | 1, GOOD_EPTP);
	invept(run, "error_invept_memory_type", 1, GOOD_EPTP ^ 1);
	invept(run, "error_invept_walk", 1, GOOD_EPTP ^ 8);
	invept(run, "error_invept_reserved", 1, GOOD_EPTP | BIT_ULL(8));
	invept(run, "error_invept_too_high", 1, GOOD_EPTP | BIT_ULL(52));
	invvpid(run, "good_invvpid_address", 0, 1, PAGE_OFFSET);
	invvpid(run, "good_invvpid_single", 1, 0xffff, 0);
	invvpid(run, "good_invvpid_globals", 3, 1, 0);
	invvpid(run, "error_invvpid_type_4", 4, 1, 0);
	invvpid(run, "error_invvpid_vpid_0", 1, 0, 0);
	invvpid(run, "error_invvpid_reserved", 2, BIT_ULL(16), 0);
	invvpid(run, "error_invvpid_address", 0, 1, BIT_ULL(62));
}

static void probe_fields(struct run *run)
{
	vmwrite(run, "good_vmwrite_16", GUEST_CS, 0x123456789abcdef0);
	vmread(run, "value_16", GUEST_CS);
	vmwrite(run, "good_vmwrite_32", PROC_CONTROLS, 0x123456789abcdef0);
	vmread(run, "value_32", PROC_CONTROLS);
	vmwrite(run, "good_vmwrite_64", IO_BITMAP_A, 0x123456789abcdef0);
	vmread(run, "value_64", IO_BITMAP_A);
	vmread(run, "value_64_high", IO_BITMAP_A_HIGH);
	vmwrite(run, "good_vmwrite_64_high", IO_BITMAP_A_HIGH, 0xfedcba98);
	vmread(run, "value_64_both", IO_BITMAP_A);
	vmwrite(run, "good_vmwrite_natural", HOST_RIP, 0xffffffff81000000);
	vmread(run, "value_natural", HOST_RIP);
	vmwrite_memory(run, "good_vmwrite_memory", GUEST_CR0, 0x80050033);
	vmread_memory(run, "value_memory", GUEST_CR0);
	/* IA32_VMX_MISC bit 29: VMWRITE to exit information is allowed. */
	vmwrite(run, "good_vmwrite_read_only", VM_INSTRUCTION_ERROR, 99);
	vmread(run, "value_read_only", VM_INSTRUCTION_ERROR);
}

static void probe_two(struct run *run)
{
	u64 first = __pa(run->first), second = __pa(run->second);

	vmwrite(run, "good_vmwrite_first", EPT_POINTER, 0x1111);
	vmclear(run, "good_vmclear_second", second);
	vmptrst(run, "same_after_vmclear_of_other", first);
	vmptrld(run, "good_vmptrld_second", second);
	vmptrst(run, "same_after_vmptrld", second);
	vmwrite(run, "good_vmwrite_second", EPT_POINTER, 0x2222);
	vmptrld(run, "good_vmptrld_first", first);
	vmread(run, "value_of_first", EPT_POINTER);
	vmclear(run, "good_vmclear_first", first);
	vmptrst(run, "none_after_vmclear", first);
	vmptrld(run, "good_vmptrld_again", first);
	vmread(run, "value_after_vmclear", EPT_POINTER);
	*run->second = revision | SHADOW;
	vmptrld(run, "good_vmptrld_shadow", second);
	vmlaunch(run, "none_vmlaunch_shadow");
}

static void probe_seamldr(struct run *run)
{
	u64 first = __pa(run->first), rcx = __pa(run->second);

	vmptrld(run, "good_vmptrld_before_seamldr", first);
	/* A label of its own: what may fault is the second instruction. */
	STEP(run, "seamldr_info", "mov %3, %%rcx\n1:\t.byte 0x66, 0x0f, 0x01, 0xcf",
	     "0"(SEAMLDR_INFO), "r"(rcx));
	vmptrst(run, "after_seamldr", first);
}

static void probe_reentry(struct run *run, u64 vmxon_pa)
{
	u64 first = __pa(run->first);

	vmptrld(run, "good_vmptrld_before_vmxoff", first);
	STEP(run, "good_vmxoff", "vmxoff", "i"(0));
	STEP(run, "good_vmxon", "vmxon %2", "m"(vmxon_pa));
	vmptrst(run, "none_after_vmxon", first);
}

/* In VMX operation before and after, with no VMCS current. */
void vmcs_probe_inside(u64 vmxon_pa)
{
	struct run *run = this_run();
	u64 pa = __pa(run->first);

	probe_without(run, vmxon_pa);
	vmclear(run, "good_vmclear", pa);
	vmptrld(run, "good_vmptrld", pa);
	vmptrst(run, "same_after_first_vmptrld", pa);
	probe_errors(run, vmxon_pa);
	probe_invalidations(run);
	probe_fields(run);
	probe_two(run);
	probe_seamldr(run);
	probe_reentry(run, vmxon_pa);
}

void vmcs_show(struct seq_file *file, int cpu)
{
	const struct run *run = runs[cpu];
	unsigned int i;

	for (i = 0; i < min(run->nr, (unsigned int)MAX_STEPS); i++) {
		const struct step *step = &run->steps[i];

		seq_printf(file, "  %s: {trap: %d, cf: %d, zf: %d, error: %llu", step->name,
			   step->outcome.trap, !!(step->outcome.flags & FLAG_CF),
			   !!(step->outcome.flags & FLAG_ZF), step->error);
		if (step->value != UNUSED)
			seq_printf(file, ", value: 0x%llx", step->value);
		seq_puts(file, "}\n");
	}
	seq_printf(file, "  vmcs_steps: %u\n", run->nr);
}

static struct run *make_run(void)
{
	struct run *run = kzalloc(sizeof(*run), GFP_KERNEL);

	if (!run)
		return NULL;
	run->first = (void *)get_zeroed_page(GFP_KERNEL);
	run->second = (void *)get_zeroed_page(GFP_KERNEL);
	if (run->first && run->second) {
		*run->first = revision;
		*run->second = revision;
		return run;
	}
	free_page((unsigned long)run->first);
	free_page((unsigned long)run->second);
	kfree(run);
	return NULL;
}

int vmcs_init(u32 vmcs_revision)
{
	int cpu;

	revision = vmcs_revision;
	for_each_possible_cpu(cpu) {
		runs[cpu] = make_run();
		if (!runs[cpu]) {
			vmcs_exit();
			return -ENOMEM;
		}
	}
	return 0;
}

void vmcs_exit(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		if (!runs[cpu])
			continue;
		free_page((unsigned long)runs[cpu]->first);
		free_page((unsigned long)runs[cpu]->second);
		kfree(runs[cpu]);
		runs[cpu] = NULL;
	}
}
