// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Probes on the allocators that the driver calls. Debian's kernels have neither
 * FAILSLAB, FAIL_PAGE_ALLOC nor FUNCTION_ERROR_INJECTION; they do have KPROBES.
 *
 * An allocation is the driver's when the return address lies in the driver. A
 * probe that is optimised can't make a call fail: debug.kprobes-optimization has
 * to be 0 (Documentation/trace/kprobes.rst).
 */
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kprobes.h>
#include <linux/linkage.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/seq_file.h>
#include <linux/string.h>

#include <asm/ibt.h>

#include "ledger.h"

/* Calls of all callers that may be inside one allocator at a time. */
#define MAX_ACTIVE 256

/* What an allocation was asked for, until it returns. */
struct call {
	unsigned long first;
	u64 bytes;
};

/**
 * struct allocator - a function that the driver gets memory from
 * @name: what it is called here
 * @symbol: what the kernel calls it; of those with one name the first is taken that
 *	the kernel has
 * @bytes: what a call asks for
 * @key: what the memory is known by, 0 where there was none
 * @failure: what it returns when there is none
 * @replaces: its first argument is given back on success
 * @entry: makes calls fail
 * @outcome: enters what calls get
 */
struct allocator {
	const char *name;
	const char *symbol;
	u64 (*bytes)(struct pt_regs *regs);
	u64 (*key)(const struct call *call, unsigned long result);
	unsigned long failure;
	bool replaces;
	struct kprobe entry;
	struct kretprobe outcome;
};

/**
 * struct releaser - a function that the driver gives memory back with
 * @symbol: its name; the first argument is the key
 * @bytes: what a call gives back, NULL where it does not say
 * @in_part: whether that may be a part of what was got
 * @entry: strikes the memory off
 */
struct releaser {
	const char *symbol;
	u64 (*bytes)(struct pt_regs *regs);
	bool in_part;
	struct kprobe entry;
};

static unsigned long argument(struct pt_regs *regs, unsigned int n)
{
	return regs_get_kernel_argument(regs, n);
}

static u64 bytes_first(struct pt_regs *regs)
{
	return argument(regs, 0);
}

static u64 bytes_second(struct pt_regs *regs)
{
	return argument(regs, 1);
}

static u64 bytes_third(struct pt_regs *regs)
{
	return argument(regs, 2);
}

static u64 bytes_page(struct pt_regs *regs)
{
	return PAGE_SIZE;
}

static u64 bytes_order(struct pt_regs *regs)
{
	return PAGE_SIZE << (unsigned int)argument(regs, 1);
}

static u64 bytes_third_order(struct pt_regs *regs)
{
	return PAGE_SIZE << (unsigned int)argument(regs, 2);
}

static u64 bytes_pages(struct pt_regs *regs)
{
	return (u64)argument(regs, 1) << PAGE_SHIFT;
}

static u64 bytes_range(struct pt_regs *regs)
{
	return (u64)(argument(regs, 1) - argument(regs, 0)) << PAGE_SHIFT;
}

static u64 bytes_mask(struct pt_regs *regs)
{
	return cpumask_size();
}

/* More than what it is asked for, and all the kernel's own. */
static u64 bytes_queue(struct pt_regs *regs)
{
	return 0;
}

static u64 key_pointer(const struct call *call, unsigned long result)
{
	return IS_ERR_OR_NULL((void *)result) ? 0 : result;
}

static u64 key_range(const struct call *call, unsigned long result)
{
	return (int)result ? 0 : call->first;
}

static u64 key_mask(const struct call *call, unsigned long result)
{
	return (u8)result ? *(unsigned long *)call->first : 0;
}

#define NO_MEMORY ((unsigned long)-ENOMEM)

static struct allocator allocators[] = {
	{ "kmalloc", "__kmalloc_cache_noprof", bytes_third, key_pointer },
	{ "kmalloc", "kmalloc_trace", bytes_third, key_pointer }, /* 6.1 */
	{ "kvmalloc", "__kvmalloc_node_noprof", bytes_first, key_pointer },
	{ "kvmalloc", "kvmalloc_node", bytes_first, key_pointer }, /* 6.1 */
	{ "krealloc", "krealloc_node_align_noprof", bytes_second, key_pointer, .replaces = true },
	{ "krealloc", "krealloc_noprof", bytes_second, key_pointer, .replaces = true }, /* 6.12 */
	{ "krealloc", "krealloc", bytes_second, key_pointer, .replaces = true }, /* 6.1 */
	{ "memdup_user", "memdup_user", bytes_second, key_pointer, NO_MEMORY },
	{ "alloc_cpumask_var", "alloc_cpumask_var_node", bytes_mask, key_mask },
	{ "alloc_pages", "alloc_pages_node_noprof", bytes_third_order, key_pointer }, /* 7.3 */
	{ "alloc_pages", "__alloc_pages_noprof", bytes_order, key_pointer }, /* 6.12 to 7.2 */
	{ "alloc_pages", "__alloc_pages", bytes_order, key_pointer }, /* 6.1 */
	{ "get_zeroed_page", "get_zeroed_page_noprof", bytes_page, key_pointer },
	{ "get_zeroed_page", "get_zeroed_page", bytes_page, key_pointer }, /* 6.1 */
	{ "alloc_pages_exact", "alloc_pages_exact_noprof", bytes_first, key_pointer },
	{ "alloc_pages_exact", "alloc_pages_exact", bytes_first, key_pointer }, /* 6.1 */
	{ "alloc_contig_range", "alloc_contig_range_noprof", bytes_range, key_range, NO_MEMORY },
	{ "alloc_contig_range", "alloc_contig_range", bytes_range, key_range, NO_MEMORY },
	{ "alloc_workqueue", "alloc_workqueue_noprof", bytes_queue, key_pointer }, /* 7.x */
	{ "alloc_workqueue", "alloc_workqueue", bytes_queue, key_pointer },
};

static struct releaser releasers[] = {
	{ "kfree" },
	{ "kvfree" },
	{ "free_cpumask_var" },
	{ "__free_pages", bytes_order },
	{ "free_pages", bytes_order },
	{ "free_pages_exact", bytes_second },
	{ "free_contig_range", bytes_pages, .in_part = true },
	{ "destroy_workqueue" },
};

/* The driver, while it is loaded. */
static struct module *driver;

static unsigned long caller_of(struct pt_regs *regs)
{
	return *(unsigned long *)kernel_stack_pointer(regs);
}
NOKPROBE_SYMBOL(caller_of);

static bool from_driver(struct pt_regs *regs)
{
	struct module *module = READ_ONCE(driver);

	return module && within_module(caller_of(regs), module);
}
NOKPROBE_SYMBOL(from_driver);

/* A function that does nothing: RAX stays as it is. */
asm(".pushsection .text\n"
    ".type allocations_return, @function\n"
    "allocations_return:\n\t" ASM_ENDBR ASM_RET
    ".size allocations_return, .-allocations_return\n"
    ".popsection\n");

static int on_call(struct kprobe *probe, struct pt_regs *regs)
{
	struct allocator *allocator = container_of(probe, struct allocator, entry);

	if (!from_driver(regs) || !ledger_is_due(allocator->name))
		return 0;
	regs_set_return_value(regs, allocator->failure);
	instruction_pointer_set(regs, (unsigned long)allocations_return);
	return 1;
}
NOKPROBE_SYMBOL(on_call);

static struct allocator *allocator_of(struct kretprobe_instance *instance)
{
	return container_of(get_kretprobe(instance), struct allocator, outcome);
}
NOKPROBE_SYMBOL(allocator_of);

/* Anything but 0: the return is of no interest. */
static int on_entry(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct call *call = (struct call *)instance->data;

	if (!from_driver(regs))
		return 1;
	call->first = argument(regs, 0);
	call->bytes = allocator_of(instance)->bytes(regs);
	return 0;
}
NOKPROBE_SYMBOL(on_entry);

static int on_return(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	const struct call *call = (struct call *)instance->data;
	struct allocator *allocator = allocator_of(instance);
	u64 key = allocator->key(call, regs_return_value(regs));

	if (!key) {
		ledger_uncount();
		return 0;
	}
	if (allocator->replaces && call->first)
		ledger_remove(call->first, 0);
	ledger_add(allocator->name, key, call->bytes);
	return 0;
}
NOKPROBE_SYMBOL(on_return);

/*
 * Who was the last to give memory back: a tail call makes it seen twice. Without
 * a lock: tests call the driver from one task at a time.
 */
static struct {
	struct task_struct *task;
	unsigned long sp, caller;
	const struct kprobe *probe;
} last;

/* One releaser has jumped into another one: the driver has called once. */
static bool is_tail(const struct kprobe *probe, struct pt_regs *regs)
{
	return last.task == current && last.sp == kernel_stack_pointer(regs) &&
	       last.caller == caller_of(regs) && last.probe != probe;
}
NOKPROBE_SYMBOL(is_tail);

static int on_release(struct kprobe *probe, struct pt_regs *regs)
{
	struct releaser *releaser = container_of(probe, struct releaser, entry);
	u64 key = argument(regs, 0);

	if (!key || !from_driver(regs) || is_tail(probe, regs))
		return 0;
	if (releaser->in_part)
		ledger_remove_pages(key, releaser->bytes(regs));
	else
		ledger_remove(key, releaser->bytes ? releaser->bytes(regs) : 0);
	last.task = current;
	last.sp = kernel_stack_pointer(regs);
	last.caller = caller_of(regs);
	last.probe = probe;
	return 0;
}
NOKPROBE_SYMBOL(on_release);

/* The probe that is registered last runs first: it sees the return address as it was. */
static int watch(struct allocator *allocator)
{
	int ret;

	allocator->outcome.kp.symbol_name = allocator->symbol;
	allocator->outcome.entry_handler = on_entry;
	allocator->outcome.handler = on_return;
	allocator->outcome.data_size = sizeof(struct call);
	allocator->outcome.maxactive = MAX_ACTIVE;
	ret = register_kretprobe(&allocator->outcome);
	if (ret)
		return ret;
	allocator->entry.symbol_name = allocator->symbol;
	allocator->entry.pre_handler = on_call;
	return register_kprobe(&allocator->entry);
}

static bool is_watched(const struct allocator *allocator)
{
	return allocator->entry.addr;
}

static bool has_other_symbol(const struct allocator *allocator)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(allocators); i++)
		if (is_watched(&allocators[i]) && !strcmp(allocators[i].name, allocator->name))
			return true;
	return false;
}

static int watch_all(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(allocators); i++) {
		if (has_other_symbol(&allocators[i]))
			continue;
		ret = watch(&allocators[i]);
		if (ret && ret != -ENOENT)
			return ret;
	}
	for (i = 0; i < ARRAY_SIZE(releasers); i++) {
		releasers[i].entry.symbol_name = releasers[i].symbol;
		releasers[i].entry.pre_handler = on_release;
		ret = register_kprobe(&releasers[i].entry);
		if (ret)
			return ret;
	}
	return 0;
}

/* Probes that were never registered have no address yet. */
static void unwatch_all(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(allocators); i++) {
		if (is_watched(&allocators[i]))
			unregister_kprobe(&allocators[i].entry);
		if (allocators[i].outcome.kp.addr)
			unregister_kretprobe(&allocators[i].outcome);
	}
	for (i = 0; i < ARRAY_SIZE(releasers); i++)
		if (releasers[i].entry.addr)
			unregister_kprobe(&releasers[i].entry);
}

static int module_changes(struct notifier_block *nb, unsigned long state, void *data)
{
	struct module *module = data;

	if (strcmp(module->name, "tdxhost"))
		return NOTIFY_DONE;
	if (state == MODULE_STATE_COMING)
		WRITE_ONCE(driver, module);
	else if (state == MODULE_STATE_GOING)
		WRITE_ONCE(driver, NULL);
	return NOTIFY_DONE;
}

static struct notifier_block module_notifier = {
	.notifier_call = module_changes,
};

int probes_init(void)
{
	int ret = watch_all();

	if (!ret)
		ret = register_module_notifier(&module_notifier);
	if (ret)
		unwatch_all();
	return ret;
}

void probes_exit(void)
{
	unregister_module_notifier(&module_notifier);
	unwatch_all();
}

static void show_watched(struct seq_file *file)
{
	unsigned int i;

	seq_puts(file, "\"watched\": [");
	for (i = 0; i < ARRAY_SIZE(allocators); i++)
		if (is_watched(&allocators[i]))
			seq_printf(file, "\"%s\", ", allocators[i].symbol);
	for (i = 0; i < ARRAY_SIZE(releasers); i++)
		seq_printf(file, "%s\"%s\"", i ? ", " : "", releasers[i].symbol);
	seq_puts(file, "]");
}

void probes_show(struct seq_file *file)
{
	const char *comma = "";
	u64 missed = 0;
	unsigned int i;

	show_watched(file);
	seq_puts(file, ", \"held\": {");
	for (i = 0; i < ARRAY_SIZE(allocators); i++) {
		struct ledger_sum sum = ledger_sum(allocators[i].name);

		missed += allocators[i].outcome.nmissed;
		if (!is_watched(&allocators[i]) || !sum.number)
			continue;
		seq_printf(file, "%s\"%s\": [%llu, %llu]", comma, allocators[i].name, sum.number,
			   sum.bytes);
		comma = ", ";
	}
	seq_printf(file, "}, \"missed\": %llu", missed);
}
