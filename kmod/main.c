// SPDX-License-Identifier: GPL-2.0-only
/* Load and unload, choice of provider, and the device. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/string.h>

#include "ioctl.h"
#include "provider.h"
#include "seamcall.h"
#include "tdxhost.h"

/**
 * DOC: tdxhost
 *
 * Brings up the TDX module of this host when user space asks for it, through
 * /dev/tdxhost, and keeps what each step and each CPU came to. The calls and
 * what they answer are in <linux/tdxhost.h>.
 *
 * Who initialises TDX depends on the kernel. One that knows nothing of TDX leaves all of
 * it to provider "direct". One that has tdx_cpu_enable() and tdx_enable(), and calls
 * neither by itself, is called by provider "kernel". One that initialises TDX by itself
 * is looked at by provider "observer". The TDX module can be initialised only once, so
 * "direct" refuses both kernels. What follows is about "direct".
 *
 * tdx_cpu_enable() makes the TDX module usable on a CPU, by TDH.SYS.INIT once
 * for the machine and TDH.SYS.LP.INIT on the CPU. tdx_enable() then initialises
 * the TDX module, step by step. Up to TDH.SYS.CONFIG a failure leaves nothing
 * behind: all memory goes back. From there on memory for PAMTs belongs to the
 * TDX module, this module stays loaded, and a later call goes on at the step
 * that failed.
 *
 * Locks, in the order in which they are taken:
 *
 *   1. the CPU hotplug lock for reading (ioctl.c); for writing around the callbacks
 *      of cpu.c, so that these never meet tdx_enable() or an IPI of CPUS_ENABLE
 *   2. enable_lock, the mutex of tdx_enable() (enable.c)
 *   3. map_lock, the mutex of the memory map (memory.c)
 *   4. status_lock, a seqlock for what GET_STATUS tells (status.c)
 *
 * With interrupts off, in IPIs, in CPU_ENABLE and in the callback of a CPU that comes
 * online: the global_lock of TDH.SYS.INIT (provider_direct.c), then, alone, the lock
 * of a CPU's record (cpu.c). Both are raw, and nothing is taken inside.
 *
 * What calls in with locks of its own: memory hotplug holds its lock and the CPU
 * hotplug lock for reading, and gets map_lock; reboot gets enable_lock; suspend gets
 * status_lock alone. So nothing may wait for memory hotplug with map_lock held, nor for
 * a reboot in tdx_enable(). GET_STATUS, GET_STEPS and GET_CPUS wait for no call that
 * acts.
 *
 * Provider "observer" has no enable_lock but the look_lock of provider_observer.c, outside
 * the CPU hotplug lock. Provider "kernel" calls the kernel with enable_lock held; the kernel
 * takes its own mutex and the memory hotplug lock inside.
 */

static char *provider = "auto";
module_param(provider, charp, 0444);
MODULE_PARM_DESC(provider, "which code initialises TDX: auto (default), direct, kernel, observer");

/* Set at load, before anybody can ask, and never changed. */
const struct tdxhost_provider *tdxhost_provider;

static const struct file_operations file_operations = {
	.owner = THIS_MODULE,
	.open = tdxhost_open,
	.unlocked_ioctl = tdxhost_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice miscdevice = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &file_operations,
	.groups = tdxhost_attribute_groups,
	.mode = 0600,
};

/* By itself the first is taken that neither refuses nor warns. */
static const struct tdxhost_provider *const providers[] = {
	&tdxhost_provider_direct,
	&tdxhost_provider_kernel,
	&tdxhost_provider_observer,
};

static const char *warning_of(const struct tdxhost_provider *candidate)
{
	return candidate->warn ? candidate->warn() : NULL;
}

static int take_provider(const struct tdxhost_provider *candidate)
{
	const char *refusal = candidate->refuse(), *warning = warning_of(candidate);

	if (refusal) {
		pr_err("provider %s is refused: %s\n", candidate->name, refusal);
		return -EBUSY;
	}
	if (warning)
		pr_warn("provider %s, as told: %s\n", candidate->name, warning);
	tdxhost_provider = candidate;
	return 0;
}

static int pick_provider(void)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(providers); i++)
		if (!providers[i]->refuse() && !warning_of(providers[i]))
			return take_provider(providers[i]);
	/* Never: what direct refuses, observer takes. */
	return -EBUSY;
}

static int choose_provider(void)
{
	size_t i;

	if (!strcmp(provider, "auto"))
		return pick_provider();
	for (i = 0; i < ARRAY_SIZE(providers); i++)
		if (!strcmp(provider, providers[i]->name))
			return take_provider(providers[i]);
	pr_err("provider \"%s\" is none: auto, direct, kernel, observer\n", provider);
	return -EINVAL;
}

static void log_load(void)
{
	struct tdxhost_info info = {};

	tdxhost_info_get(&info);
	if (info.code)
		pr_info("provider %s, TDX can't be used here: %s\n", tdxhost_provider->name,
			tdxhost_code_text(info.code));
	else
		pr_info("provider %s, private KeyIDs [%u, %u)\n", tdxhost_provider->name,
			info.keyid_first, info.keyid_first + info.nr_keyids);
}

static int register_device(void)
{
	int ret = misc_register(&miscdevice);

	if (!ret)
		tdxhost_status_device(miscdevice.this_device);
	return ret;
}

static int __init tdxhost_init(void)
{
	int ret = choose_provider();

	if (ret)
		return ret;
	tdxhost_status_reset();
	ret = tdxhost_provider->init();
	if (ret)
		return ret;
	ret = tdxhost_cpu_init();
	if (ret)
		goto provider_exit;
	if (tdxhost_provider->look)
		tdxhost_provider->look();
	log_load();
	ret = register_device();
	if (ret)
		goto cpu_exit;
	return 0;

cpu_exit:
	tdxhost_cpu_exit();
provider_exit:
	tdxhost_provider->exit();
	tdxhost_map_free();
	return ret;
}
module_init(tdxhost_init);

/* Never runs while the TDX module holds memory: the module has a reference on itself then. */
static void __exit tdxhost_exit(void)
{
	tdxhost_status_device(NULL);
	misc_deregister(&miscdevice);
	tdxhost_cpu_exit();
	tdxhost_provider->exit();
	tdxhost_map_free();
}
module_exit(tdxhost_exit);

MODULE_DESCRIPTION("Bring-up of the Intel TDX module on a host");
MODULE_AUTHOR("tdxhost developers");
MODULE_LICENSE("GPL");
MODULE_VERSION(TDXHOST_VERSION);
