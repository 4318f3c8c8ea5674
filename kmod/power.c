// SPDX-License-Identifier: GPL-2.0-only
/* Suspend, hibernation, reboot and kexec: none of them goes well with TDX in use. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/notifier.h>
#include <linux/printk.h>
#include <linux/reboot.h>
#include <linux/suspend.h>

#include <asm/smp.h>

#include "tdxhost.h"

/*
 * S3 and S4 take the TDX module and every key with them, and PAMTs can't be
 * saved. Before TDH.SYS.CONFIG there is little to lose, but CPUs that count as
 * enabled would not be so any more.
 */
static int pm_notify(struct notifier_block *nb, unsigned long action, void *data)
{
	struct tdxhost_status status = {};

	if (action != PM_SUSPEND_PREPARE && action != PM_HIBERNATION_PREPARE &&
	    action != PM_RESTORE_PREPARE)
		return NOTIFY_OK;
	tdxhost_cpus_count(&status);
	if (!status.cpus_enabled)
		return NOTIFY_OK;
	pr_warn("suspend and hibernation are refused: TDX is in use\n");
	return notifier_from_errno(-EBUSY);
}

/*
 * The next kernel will use PAMT memory as ordinary memory: no dirty line that was
 * written with a private KeyID may come down on it. So none may be written any more
 * when caches are flushed; nothing kills the callers of tdx_enable() before kexec.
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
	int ret = register_pm_notifier(&pm_notifier);

	if (ret)
		return ret;
	ret = register_reboot_notifier(&reboot_notifier);
	if (ret)
		unregister_pm_notifier(&pm_notifier);
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
}
