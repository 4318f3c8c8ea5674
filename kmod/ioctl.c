// SPDX-License-Identifier: GPL-2.0-only
/* /dev/tdxhost: copies in and out, one function per command, no decisions. */
#include <linux/build_bug.h>
#include <linux/capability.h>
#include <linux/cpu.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/preempt.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/uaccess.h>

#include "ioctl.h"
#include "provider.h"
#include "seamcall.h"
#include "tdxhost.h"

/* Every struct has had its size and its flags from the start. */
#define MIN_USER_SIZE offsetofend(struct tdxhost_info, flags)

/* Longest struct or entry that a caller may have: what copy_struct_from_user()'s users allow. */
#define MAX_USER_SIZE PAGE_SIZE

#define MAX_FIELDS 1024

#define KNOWN_ENABLE_FLAGS \
	(TDXHOST_ENABLE_CPUS | TDXHOST_ENABLE_RETRY | TDXHOST_ENABLE_SKIP_NON_CMR)

/* Longest CPU mask that is looked at: far more CPUs than a kernel can be built for. */
#define MAX_MASK_BYTES PAGE_SIZE

static_assert(sizeof(u64) == MIN_USER_SIZE);
static_assert(sizeof(struct tdxhost_info) == 80);
static_assert(sizeof(struct tdxhost_status) == 96);
static_assert(sizeof(struct tdxhost_cpu_result) == 120);
static_assert(sizeof(struct tdxhost_cpu_enable) == 24);
static_assert(sizeof(struct tdxhost_cpus) == 40);
static_assert(sizeof(struct tdxhost_enable) == 48);
static_assert(sizeof(struct tdxhost_step_result) == 160);
static_assert(sizeof(struct tdxhost_steps) == 24);
static_assert(sizeof(struct tdxhost_field) == 40);
static_assert(sizeof(struct tdxhost_sys_rd) == 32);
static_assert(sizeof(struct tdxhost_range) == 32);
static_assert(sizeof(struct tdxhost_memory) == 32);

/* An array of the caller's: where it is, its room, and the size of its entries. */
struct user_array {
	u8 __user *address;
	u32 count;
	u32 entry_size;
};

static int array_check(const struct user_array *array)
{
	return !array->entry_size || array->entry_size > MAX_USER_SIZE ? -EINVAL : 0;
}

/* Whether only the number of entries is asked for. */
static bool array_counts_only(const struct user_array *array)
{
	return !array->address && !array->count;
}

/* Some words at a time: for so few bytes copy_to_user() takes longer to begin than to copy. */
static int copy_out(void __user *to, const void *from, size_t bytes)
{
	if (!user_write_access_begin(to, bytes))
		return -EFAULT;
	unsafe_copy_to_user(to, from, bytes, fault);
	user_write_access_end();
	return 0;

fault:
	user_write_access_end();
	return -EFAULT;
}

static int array_put(const struct user_array *array, u32 i, const void *entry, size_t size)
{
	u8 __user *to = array->address + (size_t)i * array->entry_size;
	size_t known = min_t(size_t, array->entry_size, size);

	if (copy_out(to, entry, known))
		return -EFAULT;
	if (known < array->entry_size && clear_user(to + known, array->entry_size - known))
		return -EFAULT;
	return 0;
}

/* All of a list; the caller reports how many entries there are. */
static int array_put_all(const struct user_array *array, const void *list, u32 nr, size_t size)
{
	int ret = array_check(array);
	u32 i;

	if (ret || array_counts_only(array))
		return ret;
	if (array->count < nr)
		return -EMSGSIZE;
	for (i = 0; i < nr && !ret; i++)
		ret = array_put(array, i, list + i * size, size);
	return ret;
}

/* Host-wide reasons. VMX that the firmware forbids is a CPU's own, and its result says so. */
static bool host_has_tdx(void)
{
	u32 code;

	/* Asked with each call, and an enabled CPU is answer enough. */
	if (tdxhost_cpu_enabled(raw_smp_processor_id()))
		return true;
	code = tdxhost_host_code();
	return code == TDXHOST_CODE_NONE || code == TDXHOST_CODE_VMX_LOCKED_OFF;
}

/* What the kernel does with TDX it tells nobody. */
static void look_first(void)
{
	if (tdxhost_provider->look)
		tdxhost_provider->look();
}

static int get_info(void *arg)
{
	struct tdxhost_info *info = arg;

	if (info->flags)
		return -EINVAL;
	look_first();
	*info = (struct tdxhost_info){ .size = info->size };
	tdxhost_info_get(info);
	return 0;
}

static int get_status(void *arg)
{
	struct tdxhost_status *status = arg;

	if (status->flags)
		return -EINVAL;
	look_first();
	tdxhost_status_get(status);
	return 0;
}

static int cpu_enable(void *arg)
{
	struct tdxhost_cpu_enable *enable = arg;
	struct user_array array = { u64_to_user_ptr(enable->result), 1, enable->entry_size };
	struct tdxhost_cpu_result result;

	if (enable->flags || enable->__reserved || array_check(&array))
		return -EINVAL;
	if (!host_has_tdx())
		return -ENODEV;
	if (!tdxhost_provider->acts)
		return -EOPNOTSUPP;
	migrate_disable();
	tdxhost_cpu_enable_here(&result);
	migrate_enable();
	tdxhost_status_cpus_changed();
	enable->entry_size = sizeof(result);
	return array_put(&array, 0, &result, sizeof(result));
}

/* The caller's mask, or @everyone where it gives none. */
static int get_mask(const struct tdxhost_cpus *cpus, struct cpumask *mask,
		    const struct cpumask *everyone)
{
	u32 i;
	u8 *bytes;
	int ret = 0;

	if (!cpus->mask) {
		cpumask_copy(mask, everyone);
		return cpus->mask_bytes ? -EINVAL : 0;
	}
	if (!cpus->mask_bytes || cpus->mask_bytes > MAX_MASK_BYTES)
		return -EINVAL;
	bytes = memdup_user(u64_to_user_ptr(cpus->mask), cpus->mask_bytes);
	if (IS_ERR(bytes))
		return PTR_ERR(bytes);
	cpumask_clear(mask);
	for (i = 0; i < cpus->mask_bytes * BITS_PER_BYTE && !ret; i++) {
		if (!(bytes[i / BITS_PER_BYTE] & BIT(i % BITS_PER_BYTE)))
			continue;
		if (i < nr_cpu_ids && cpu_possible(i))
			cpumask_set_cpu(i, mask);
		else
			ret = -EINVAL;
	}
	kfree(bytes);
	return ret;
}

static int put_cpus(const struct user_array *array, const struct cpumask *mask,
		    const struct tdxhost_attempt *attempts)
{
	u32 i = 0;
	int cpu;

	for_each_cpu(cpu, mask)
		if (array_put(array, i++, &attempts[cpu].result, sizeof(attempts->result)))
			return -EFAULT;
	return 0;
}

/* What a CPU comes to that can't be enabled, because it is not there to do it. */
static void offline_results(const struct cpumask *mask, struct tdxhost_attempt *attempts)
{
	int cpu;

	for_each_cpu_andnot(cpu, mask, cpu_online_mask) {
		struct tdxhost_cpu_result *result = &attempts[cpu].result;

		tdxhost_cpu_result(cpu, result);
		result->code = TDXHOST_CODE_CPU_OFFLINE;
		result->error = -tdxhost_code_errno(TDXHOST_CODE_CPU_OFFLINE);
	}
}

static void enable_all(const struct cpumask *mask, struct tdxhost_attempt *attempts)
{
	struct tdxhost_request request = { .attempts = attempts };

	cpus_read_lock();
	offline_results(mask, attempts);
	tdxhost_cpus_enable(mask, &request);
	cpus_read_unlock();
	tdxhost_status_cpus_changed();
}

static void get_all(const struct cpumask *mask, struct tdxhost_attempt *attempts)
{
	int cpu;

	for_each_cpu(cpu, mask)
		tdxhost_cpu_result(cpu, &attempts[cpu].result);
}

/* What CPUS_ENABLE and GET_CPUS share: @fill makes results of a set of CPUs. */
static int with_cpus(struct tdxhost_cpus *cpus, const struct cpumask *everyone,
		     void (*fill)(const struct cpumask *mask, struct tdxhost_attempt *attempts))
{
	struct user_array array = { u64_to_user_ptr(cpus->results), cpus->count, cpus->entry_size };
	struct tdxhost_attempt *attempts = NULL;
	cpumask_var_t mask;
	int ret = array_check(&array);

	if (ret || cpus->flags || cpus->__reserved)
		return -EINVAL;
	if (!alloc_cpumask_var(&mask, GFP_KERNEL))
		return -ENOMEM;
	ret = get_mask(cpus, mask, everyone);
	if (ret)
		goto out;
	cpus->count = cpumask_weight(mask);
	cpus->entry_size = sizeof(attempts->result);
	if (array_counts_only(&array))
		goto out;
	ret = array.count < cpus->count ? -EMSGSIZE : 0;
	if (ret)
		goto out;
	attempts = kvcalloc(nr_cpu_ids, sizeof(*attempts), GFP_KERNEL);
	ret = attempts ? 0 : -ENOMEM;
	if (ret)
		goto out;
	fill(mask, attempts);
	ret = put_cpus(&array, mask, attempts);
out:
	kvfree(attempts);
	free_cpumask_var(mask);
	return ret;
}

static int cpus_enable(void *arg)
{
	if (!host_has_tdx())
		return -ENODEV;
	if (!tdxhost_provider->acts)
		return -EOPNOTSUPP;
	return with_cpus(arg, cpu_online_mask, enable_all);
}

static int get_cpus(void *arg)
{
	look_first();
	return with_cpus(arg, cpu_present_mask, get_all);
}

static int enable(void *arg)
{
	struct tdxhost_enable *enable = arg;
	u32 flags = enable->flags;
	int ret;

	if (flags & ~KNOWN_ENABLE_FLAGS)
		return -EINVAL;
	if (!host_has_tdx())
		return -ENODEV;
	if (!tdxhost_provider->acts)
		return -EOPNOTSUPP;
	if (flags & TDXHOST_ENABLE_SKIP_NON_CMR &&
	    !(tdxhost_provider->features & TDXHOST_FEATURE_SKIP_NON_CMR))
		return -EOPNOTSUPP;
	cpus_read_lock();
	ret = tdxhost_enable(flags, enable);
	cpus_read_unlock();
	return ret;
}

static int get_steps(void *arg)
{
	struct tdxhost_steps *steps = arg;
	struct user_array array = { u64_to_user_ptr(steps->results), steps->count,
				    steps->entry_size };
	struct tdxhost_step_result *results;
	int ret;

	if (steps->flags)
		return -EINVAL;
	results = kcalloc(TDXHOST_NR_STEPS, sizeof(*results), GFP_KERNEL);
	if (!results)
		return -ENOMEM;
	tdxhost_steps_get(results);
	steps->count = tdxhost_provider->nr_steps;
	steps->entry_size = sizeof(*results);
	ret = array_put_all(&array, results, steps->count, sizeof(*results));
	kfree(results);
	return ret;
}

static void rd_on_cpu(void *call)
{
	tdxhost_seamcall_atomic(call);
}

/* The CPU that the caller runs on, where it can. */
static unsigned int rd_cpu(void)
{
	unsigned int cpu = raw_smp_processor_id();

	if (tdxhost_cpu_enabled(cpu))
		return cpu;
	for_each_online_cpu(cpu)
		if (tdxhost_cpu_enabled(cpu))
			break;
	return cpu;
}

/* One try; the CPU may be another each time, for CPUs come and go. */
static int rd_once(struct tdxhost_call *call, u32 *cpu)
{
	int ret = -ENXIO;

	cpus_read_lock();
	*cpu = rd_cpu();
	if (*cpu < nr_cpu_ids)
		ret = smp_call_function_single(*cpu, rd_on_cpu, call, true);
	cpus_read_unlock();
	return ret;
}

/* No lock is held while the caller's memory is touched: it may be slow to come. */
static int rd_field(const struct user_array *array, u32 i, u32 *cpu)
{
	struct tdxhost_call call = { .leaf = TDH_SYS_RD };
	struct tdxhost_field field;
	int ret;

	ret = copy_struct_from_user(&field, sizeof(field),
				    array->address + (size_t)i * array->entry_size,
				    array->entry_size);
	if (ret)
		return ret;
	call.in.rdx = field.id;
	do {
		ret = rd_once(&call, cpu);
		if (ret)
			return ret;
	} while (tdxhost_wait_again(call.again));
	field.value = call.out.r8;
	field.next_id = call.out.rdx;
	field.seam_status = call.status;
	field.error = -tdxhost_call_errno(&call);
	field.trap = call.trap;
	return array_put(array, i, &field, sizeof(field));
}

static int sys_rd(void *arg)
{
	struct tdxhost_sys_rd *rd = arg;
	struct user_array array = { u64_to_user_ptr(rd->fields), rd->count, rd->entry_size };
	int ret = 0;
	u32 i;

	if (rd->flags || rd->__reserved || rd->count > MAX_FIELDS || array_check(&array) ||
	    rd->entry_size < offsetofend(struct tdxhost_field, id))
		return -EINVAL;
	if (!host_has_tdx())
		return -ENODEV;
	rd->cpu = rd_cpu();
	if (rd->cpu >= nr_cpu_ids)
		return -ENXIO;
	for (i = 0; i < rd->count && !ret; i++)
		ret = fatal_signal_pending(current) ? -EINTR : rd_field(&array, i, &rd->cpu);
	rd->entry_size = sizeof(struct tdxhost_field);
	return ret;
}

static int get_memory(void *arg)
{
	struct tdxhost_memory *memory = arg;
	struct user_array array = { u64_to_user_ptr(memory->ranges), memory->count,
				    memory->entry_size };
	struct tdxhost_ranges ranges = {};
	int ret;

	if (memory->flags || array_check(&array))
		return -EINVAL;
	look_first();
	ret = tdxhost_ranges_get(&ranges, &memory->pamt_bytes);
	if (!ret)
		ret = array_put_all(&array, ranges.list, ranges.nr, sizeof(*ranges.list));
	memory->count = ranges.nr;
	memory->entry_size = sizeof(*ranges.list);
	kfree(ranges.list);
	return ret;
}

/* A command: what serves it, the size of its struct, and whether only flags go in. */
struct op {
	int (*run)(void *arg);
	size_t size;
	bool only_answers;
};

/* By command number. */
static const struct op ops[] = {
	[_IOC_NR(TDXHOST_GET_INFO)] = { get_info, sizeof(struct tdxhost_info), true },
	[_IOC_NR(TDXHOST_GET_STATUS)] = { get_status, sizeof(struct tdxhost_status), true },
	[_IOC_NR(TDXHOST_CPU_ENABLE)] = { cpu_enable, sizeof(struct tdxhost_cpu_enable) },
	[_IOC_NR(TDXHOST_CPUS_ENABLE)] = { cpus_enable, sizeof(struct tdxhost_cpus) },
	[_IOC_NR(TDXHOST_GET_CPUS)] = { get_cpus, sizeof(struct tdxhost_cpus) },
	[_IOC_NR(TDXHOST_ENABLE)] = { enable, sizeof(struct tdxhost_enable) },
	[_IOC_NR(TDXHOST_GET_STEPS)] = { get_steps, sizeof(struct tdxhost_steps) },
	[_IOC_NR(TDXHOST_SYS_RD)] = { sys_rd, sizeof(struct tdxhost_sys_rd) },
	[_IOC_NR(TDXHOST_GET_MEMORY)] = { get_memory, sizeof(struct tdxhost_memory) },
};

/* Room for the struct of every command. */
union any_arg {
	struct tdxhost_info info;
	struct tdxhost_status status;
	struct tdxhost_cpu_enable cpu_enable;
	struct tdxhost_cpus cpus;
	struct tdxhost_enable enable;
	struct tdxhost_steps steps;
	struct tdxhost_sys_rd sys_rd;
	struct tdxhost_memory memory;
};

/* GET_STATUS is asked often: what is only filled in is not copied. */
static int copy_in(const struct op *op, union any_arg *any, const void __user *user, u32 size)
{
	if (op->only_answers && size <= op->size)
		return 0;
	return copy_struct_from_user(any, op->size, user, size);
}

/**
 * tdxhost_ioctl() - serve a command
 * @file: unused: there is one TDX module, not one for each file
 * @command: TDXHOST_*
 * @arg: address of the command's struct
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno, as <linux/tdxhost.h> says.
 */
long tdxhost_ioctl(struct file *file, unsigned int command, unsigned long arg)
{
	unsigned int nr = _IOC_NR(command);
	void __user *user = (void __user *)arg;
	union any_arg any;
	u64 head;
	u32 size;
	int ret;

	if (nr >= ARRAY_SIZE(ops) || command != _IO(TDXHOST_IOCTL_TYPE, nr))
		return -ENOTTY;
	if (get_user(head, (u64 __user *)user))
		return -EFAULT;
	size = lower_32_bits(head);
	if (size < MIN_USER_SIZE)
		return -EINVAL;
	if (size > MAX_USER_SIZE)
		return -E2BIG;
	ret = copy_in(&ops[nr], &any, user, size);
	if (ret)
		return ret;
	/* Read twice: the first is what the copies are bounded by. */
	any.info.size = size;
	any.info.flags = upper_32_bits(head);
	ret = ops[nr].run(&any);
	if (ret && ret != -EMSGSIZE)
		return ret;
	if (copy_out(user, &any, min_t(size_t, size, ops[nr].size)))
		return -EFAULT;
	return ret;
}

/**
 * tdxhost_open() - let privileged callers in
 * @inode: of the device
 * @file: being opened
 *
 * Context: task.
 * Return: 0, or -EPERM without CAP_SYS_ADMIN or under kernel lockdown.
 */
int tdxhost_open(struct inode *inode, struct file *file)
{
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	return security_locked_down(LOCKDOWN_MSR);
}
