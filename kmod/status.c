// SPDX-License-Identifier: GPL-2.0-only
/* Where things stand, for whoever asks, whenever: ioctl, sysfs, uevents. */
#include <linux/device.h>
#include <linux/kobject.h>
#include <linux/lockdep.h>
#include <linux/seqlock.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "provider.h"
#include "tdxhost.h"

/*
 * What is published, and the lock that makes it one picture. Held for copies alone, and
 * by writers alone: GET_STATUS is asked often, and while tdx_enable() runs.
 */
static DEFINE_SEQLOCK(status_lock);
static struct tdxhost_status published;
static struct tdxhost_step_result steps[TDXHOST_NR_STEPS];

/* What tdxhost_cpus_changes() was when it was told last. Written under status_lock. */
static u32 told_changes;

/* Set while the device is there; uevents come from its kobject. */
static struct device *device;

static const char *const status_names[] = {
	[TDXHOST_MODULE_UNKNOWN] = "unknown",
	[TDXHOST_MODULE_INITIALIZED] = "initialized",
	[TDXHOST_MODULE_ERROR] = "error",
};

static void uevent(void)
{
	char status_env[40], step_env[32], cpus_env[40];
	char *envp[4] = { status_env, step_env, cpus_env, NULL };
	struct device *from = READ_ONCE(device);
	struct tdxhost_status now = {};

	might_sleep();

	tdxhost_status_get(&now);
	snprintf(status_env, sizeof(status_env), "TDXHOST_STATUS=%s",
		 status_names[now.module_status]);
	snprintf(step_env, sizeof(step_env), "TDXHOST_STEP=%u", now.step);
	snprintf(cpus_env, sizeof(cpus_env), "TDXHOST_CPUS_ENABLED=%u", now.cpus_enabled);
	if (from)
		kobject_uevent_env(&from->kobj, KOBJ_CHANGE, envp);
}

static void publish_failure(const struct tdxhost_step_result *result)
{
	lockdep_assert_held(&status_lock.lock);

	published.error = result->error;
	published.code = result->code;
	published.trap = result->trap;
	published.cpu = result->cpu;
	published.leaf = result->error ? result->leaf : 0;
	published.seam_status = result->error ? result->seam_status : 0;
}

/**
 * tdxhost_status_running() - publish that a caller is inside tdx_enable()
 *
 * Context: task.
 */
void tdxhost_status_running(void)
{
	write_seqlock(&status_lock);
	published.running = 1;
	published.generation++;
	write_sequnlock(&status_lock);
}

/**
 * tdxhost_status_step() - publish that a step begins, or what it came to
 * @result: of the step
 * @begin: whether it begins
 *
 * Context: task, may sleep.
 */
void tdxhost_status_step(const struct tdxhost_step_result *result, bool begin)
{
	write_seqlock(&status_lock);
	steps[result->step - 1] = *result;
	if (begin) {
		published.step = result->step;
		published.progress = 0;
		published.progress_total = 0;
	}
	published.generation++;
	write_sequnlock(&status_lock);
	if (begin)
		uevent();
}

/**
 * tdxhost_status_progress() - publish how far the current step is
 * @done: units done
 * @total: units in all
 *
 * Context: task.
 */
void tdxhost_status_progress(u64 done, u64 total)
{
	write_seqlock(&status_lock);
	published.progress = done;
	published.progress_total = total;
	write_sequnlock(&status_lock);
}

/**
 * tdxhost_status_module() - publish how an attempt at tdx_enable() has ended
 * @module_status: TDXHOST_MODULE_*
 * @result: of the last step that ran
 *
 * Context: task, may sleep.
 */
void tdxhost_status_module(u32 module_status, const struct tdxhost_step_result *result)
{
	write_seqlock(&status_lock);
	published.running = 0;
	published.module_status = module_status;
	published.step = result->step;
	publish_failure(result);
	published.generation++;
	write_sequnlock(&status_lock);
	uevent();
}

/**
 * tdxhost_status_cpus_changed() - say that CPUs were enabled, or failed, if so
 *
 * Context: task, may sleep.
 */
void tdxhost_status_cpus_changed(void)
{
	u32 changes;
	bool news;

	/* Mostly there is nothing new. Whoever makes it comes here next. */
	if (READ_ONCE(told_changes) == tdxhost_cpus_changes())
		return;
	write_seqlock(&status_lock);
	changes = tdxhost_cpus_changes();
	news = changes != told_changes;
	WRITE_ONCE(told_changes, changes);
	published.generation += news;
	write_sequnlock(&status_lock);
	if (news)
		uevent();
}

/**
 * tdxhost_status_pamt() - publish how much memory is held for PAMTs
 * @bytes: of all PAMTs
 *
 * Context: task.
 */
void tdxhost_status_pamt(u64 bytes)
{
	write_seqlock(&status_lock);
	published.pamt_bytes = bytes;
	write_sequnlock(&status_lock);
}

/**
 * tdxhost_status_get() - where things stand now
 * @status: filled, but for @size
 *
 * Context: task. Waits for nobody.
 */
void tdxhost_status_get(struct tdxhost_status *status)
{
	u32 size = status->size;
	unsigned int seen;

	do {
		seen = read_seqbegin(&status_lock);
		*status = published;
	} while (read_seqretry(&status_lock, seen));
	status->size = size;
	tdxhost_cpus_count(status);
}

/**
 * tdxhost_steps_get() - what every step of the provider came to
 * @results: filled, in step order; room for all the provider has
 *
 * Context: task.
 */
void tdxhost_steps_get(struct tdxhost_step_result *results)
{
	unsigned int i, seen;

	do {
		seen = read_seqbegin(&status_lock);
		for (i = 0; i < tdxhost_provider->nr_steps; i++)
			results[i] = steps[tdxhost_provider->steps[i].id - 1];
	} while (read_seqretry(&status_lock, seen));
}

static ssize_t provider_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", tdxhost_provider->name);
}
static DEVICE_ATTR_RO(provider);

static ssize_t status_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct tdxhost_status now = {};

	tdxhost_status_get(&now);
	return sysfs_emit(buf, "%s\n", status_names[now.module_status]);
}
static DEVICE_ATTR_RO(status);

/* As the "version" of the kernel's own tdx-host driver writes it. */
static ssize_t module_version_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct tdxhost_info info = {};

	tdxhost_info_get(&info);
	if (!(info.valid & TDXHOST_INFO_MODULE))
		return sysfs_emit(buf, "unknown\n");
	return sysfs_emit(buf, "%u.%u.%02u\n", info.module_major, info.module_minor,
			  info.module_update);
}
static DEVICE_ATTR_RO(module_version);

static struct attribute *attributes[] = {
	&dev_attr_provider.attr,
	&dev_attr_status.attr,
	&dev_attr_module_version.attr,
	NULL,
};

static const struct attribute_group attribute_group = {
	.attrs = attributes,
};

const struct attribute_group *tdxhost_attribute_groups[] = { &attribute_group, NULL };

/**
 * tdxhost_status_reset() - publish that nothing has happened yet
 *
 * Context: task, at load, before anybody can ask.
 */
void tdxhost_status_reset(void)
{
	u32 i;

	published.cpu = TDXHOST_NONE;
	for (i = 0; i < TDXHOST_NR_STEPS; i++) {
		steps[i].step = i + 1;
		steps[i].cpu = TDXHOST_NONE;
	}
}

/**
 * tdxhost_status_device() - say which device uevents come from
 * @dev: the device, or NULL when it goes away
 *
 * Context: task, at load, where others may have opened the device already, and at
 * unload, when nobody has it open.
 */
void tdxhost_status_device(struct device *dev)
{
	WRITE_ONCE(device, dev);
}
