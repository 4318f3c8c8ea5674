// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Repeats an instruction on some CPUs at once, and tells how long that took.
 *
 * debugfs vtdx_caller/run takes "INSTRUCTION RAX RCX RDX CALLS BATCHES CPUS": the
 * instruction (seamcall, cr4 for MOV from CR4, none), registers in hex, how often a batch has
 * it, how many batches there are, and a list of CPUs. Reading it afterwards gives a line a
 * CPU: its number, what RAX was last, and the ns that each batch took.
 */
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <asm/msr.h>
#include <asm/special_insns.h>

/* 6.16 renamed it. */
#ifndef rdmsrq
#define rdmsrq_safe(msr, value) rdmsrl_safe(msr, value)
#endif

#define MAX_BATCHES 10000

enum instruction {
	SEAMCALL,
	MOV_FROM_CR4,
	NONE,
};

static const char *const names[] = { "seamcall", "cr4", "none" };

struct order {
	enum instruction instruction;
	u64 rax, rcx, rdx;
	unsigned int calls, batches;
	cpumask_t cpus;
};

/* What a CPU did; region is its VMXON region. */
struct record {
	void *region;
	u32 *ns;
	u64 rax;
};

/* Protects both. */
static DEFINE_MUTEX(lock);
static struct order order;
static struct record records[NR_CPUS];
static struct dentry *folder;

static u64 seamcall(void)
{
	u64 rax = order.rax, rcx = order.rcx, rdx = order.rdx;

	asm volatile(".byte 0x66, 0x0f, 0x01, 0xcf"
		     : "+a"(rax), "+c"(rcx), "+d"(rdx)
		     :
		     : "cc", "memory", "r8", "r9", "r10", "r11");
	return rax;
}

static u64 once(void)
{
	switch (order.instruction) {
	case SEAMCALL:
		return seamcall();
	case MOV_FROM_CR4:
		return native_read_cr4();
	default:
		return 0;
	}
}

static void run_batches(struct record *record)
{
	unsigned int batch, call;
	u64 before;

	for (batch = 0; batch < order.batches; batch++) {
		before = ktime_get_ns();
		for (call = 0; call < order.calls; call++)
			record->rax = once();
		record->ns[batch] = min_t(u64, ktime_get_ns() - before, U32_MAX);
	}
}

/* Interrupts are off: nothing comes in between. */
static void run_cpu(void *unused)
{
	struct record *record = &records[smp_processor_id()];
	unsigned long cr4 = native_read_cr4();
	u64 pa = __pa(record->region);

	asm volatile("mov %0, %%cr4" : : "r"(cr4 | X86_CR4_VMXE) : "memory");
	asm volatile("vmxon %0" : : "m"(pa) : "cc", "memory");
	run_batches(record);
	asm volatile("vmxoff" : : : "cc", "memory");
	asm volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");
}

static int parse(const char *text)
{
	struct order wanted = { 0 };
	char name[16], cpus[64];
	int found;

	if (sscanf(text, "%15s %llx %llx %llx %u %u %63s", name, &wanted.rax, &wanted.rcx,
		   &wanted.rdx, &wanted.calls, &wanted.batches, cpus) != 7)
		return -EINVAL;
	found = match_string(names, ARRAY_SIZE(names), name);
	if (found < 0 || wanted.batches > MAX_BATCHES || cpulist_parse(cpus, &wanted.cpus))
		return -EINVAL;
	wanted.instruction = found;
	order = wanted;
	return 0;
}

static ssize_t run_write(struct file *file, const char __user *from, size_t bytes, loff_t *at)
{
	char text[192] = { 0 };
	int ret;

	if (bytes >= sizeof(text) || copy_from_user(text, from, bytes))
		return -EINVAL;
	guard(mutex)(&lock);
	ret = parse(text);
	if (ret)
		return ret;
	on_each_cpu_mask(&order.cpus, run_cpu, NULL, true);
	return bytes;
}

static int run_show(struct seq_file *out, void *unused)
{
	unsigned int batch;
	int cpu;

	guard(mutex)(&lock);
	for_each_cpu_and(cpu, &order.cpus, cpu_online_mask) {
		seq_printf(out, "%d %llu", cpu, records[cpu].rax);
		for (batch = 0; batch < order.batches; batch++)
			seq_printf(out, " %u", records[cpu].ns[batch]);
		seq_putc(out, '\n');
	}
	return 0;
}

static int run_open(struct inode *inode, struct file *file)
{
	return single_open(file, run_show, NULL);
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.open = run_open,
	.read = seq_read,
	.write = run_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static void free_records(void)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		free_page((unsigned long)records[cpu].region);
		kvfree(records[cpu].ns);
	}
}

static bool make_record(struct record *record, u32 revision)
{
	record->region = (void *)get_zeroed_page(GFP_KERNEL);
	record->ns = kvcalloc(MAX_BATCHES, sizeof(*record->ns), GFP_KERNEL);
	if (!record->region || !record->ns)
		return false;
	*(u32 *)record->region = revision;
	return true;
}

static int __init caller_init(void)
{
	u64 basic;
	int cpu;

	if (rdmsrq_safe(MSR_IA32_VMX_BASIC, &basic))
		return -ENODEV;
	for_each_possible_cpu(cpu)
		if (!make_record(&records[cpu], (u32)basic & GENMASK(30, 0))) {
			free_records();
			return -ENOMEM;
		}
	folder = debugfs_create_dir("vtdx_caller", NULL);
	debugfs_create_file("run", 0600, folder, NULL, &run_fops);
	return 0;
}

static void __exit caller_exit(void)
{
	debugfs_remove(folder);
	free_records();
}

module_init(caller_init);
module_exit(caller_exit);
MODULE_DESCRIPTION("Repeats SEAMCALLs, for tests of what they cost");
MODULE_LICENSE("GPL");
