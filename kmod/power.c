// SPDX-License-Identifier: GPL-2.0-only
/* Suspend, hibernation, reboot and kexec: none of them goes well with TDX in use. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/notifier.h>
#include <linux/platform_device.h>
#include <linux/pm.h>
#include <linux/printk.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include <asm/smp.h>

#include "tdxhost.h"

/*
 * S3 and S4 take the TDX module and every key with them, and PAMTs can't be
 * saved. Before TDH.SYS.CONFIG there is little to lose, but CPUs that count as
 * enabled would not be so any more. Suspend-to-idle takes nothing: CPUs idle, and
 * memory stays under power.
 */
static int refuse_in_use(const char *what)
{
	struct tdxhost_status status = {};

	tdxhost_cpus_count(&status);
	if (!status.cpus_enabled)
		return 0;
	pr_warn("%s is refused: TDX is in use, and would be lost\n", what);
	return -EBUSY;
}

/* Tasks are frozen next, by a signal that would end tdx_enable() half-way. */
static int refuse_under_way(void)
{
	struct tdxhost_status status = {};

	tdxhost_status_get(&status);
	if (!status.running)
		return 0;
	pr_warn("suspend is refused while the TDX module is being initialised\n");
	return -EBUSY;
}

static int pm_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	switch (action) {
	case PM_HIBERNATION_PREPARE:
	case PM_RESTORE_PREPARE:
		return notifier_from_errno(refuse_in_use("hibernation"));
	case PM_SUSPEND_PREPARE:
		return notifier_from_errno(refuse_under_way());
	default:
		return NOTIFY_OK;
	}
}

/*
 * Of a suspend the notifier does not learn how deep it will be; devices do. This
 * is the first that happens to any of them, and all of them stay as they are.
 */
static int sleep_prepare(struct device *dev)
{
	return pm_suspend_target_state == PM_SUSPEND_TO_IDLE ? 0 : refuse_in_use("suspend");
}

static const struct dev_pm_ops sleep_ops = {
	.prepare = sleep_prepare,
};

static struct platform_driver sleep_driver = {
	.driver = {
		.name = KBUILD_MODNAME,
		.pm = pm_sleep_ptr(&sleep_ops),
	},
};

static struct platform_device *sleep_device;

static int sleep_init(void)
{
	int ret = platform_driver_register(&sleep_driver);

	if (ret)
		return ret;
	sleep_device =
		platform_device_register_simple(KBUILD_MODNAME, PLATFORM_DEVID_NONE, NULL, 0);
	ret = PTR_ERR_OR_ZERO(sleep_device);
	if (ret)
		platform_driver_unregister(&sleep_driver);
	return ret;
}

static void sleep_exit(void)
{
	platform_device_unregister(sleep_device);
	platform_driver_unregister(&sleep_driver);
}

/*
 * The next kernel will use PAMT memory as ordinary memory: no dirty line that was
 * written with a private KeyID may come down on it. So none may be written any more
 * when caches are flushed; nothing kills the callers of tdx_enable() before kexec.
 *
 * A crash kernel gets no such call, and needs none: it lives in memory that was set
 * aside for it before any PAMT was allocated, and reads the rest.
 */
static int reboot_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	tdxhost_enable_end();
	if (tdxhost_module_holds_memory())
		wbinvd_on_all_cpus();
	return NOTIFY_OK;
}

static struct notifier_block pm_notifier = {
	.notifier_call = pm_notify,
};

static struct notifier_block reboot_notifier = {
	.notifier_call = reboot_notify,
};

/**
 * tdxhost_power_init() - follow suspend and reboot
 *
 * Context: task, may sleep.
 * Return: 0 or a negative errno.
 */
int tdxhost_power_init(void)
{
	int ret = sleep_init();

	if (ret)
		return ret;
	ret = register_pm_notifier(&pm_notifier);
	if (ret)
		goto sleep_exit;
	ret = register_reboot_notifier(&reboot_notifier);
	if (ret)
		goto unregister_pm;
	return 0;

unregister_pm:
	unregister_pm_notifier(&pm_notifier);
sleep_exit:
	sleep_exit();
	return ret;
}

/**
 * tdxhost_power_exit() - stop following suspend and reboot
 *
 * Context: task, may sleep.
 */
void tdxhost_power_exit(void)
{
	unregister_reboot_notifier(&reboot_notifier);
	unregister_pm_notifier(&pm_notifier);
	sleep_exit();
}
