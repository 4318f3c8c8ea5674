// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Counts the allocations of tdxhost, lets one of them fail, and knows what is
 * held. Load it before tdxhost, with debug.kprobes-optimization 0. In debugfs,
 * tdxhost_allocations/:
 *
 * fail_at: the Nth allocation from the write on fails, not counting those that fail by
 *	themselves; 0 for none
 * fail_rest: whether all those after it fail too
 * ledger: a JSON object: "count" of allocations since fail_at was written, the
 *	function that "failed" and pieces and bytes "held" by function, as probes.c names
 *	them; "wrong_frees" of what was not held or of another length, calls "missed" and
 *	pieces that there was "no_room" to note; the kernel's functions "watched"
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/seq_file.h>

#include "ledger.h"

static struct dentry *folder;

static int fail_at_get(void *data, u64 *at)
{
	*at = ledger_failing();
	return 0;
}

static int fail_at_set(void *data, u64 at)
{
	ledger_fail_at(at);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(fail_at_fops, fail_at_get, fail_at_set, "%llu\n");

static int ledger_file_show(struct seq_file *file, void *unused)
{
	seq_puts(file, "{");
	ledger_show(file);
	seq_puts(file, ", ");
	probes_show(file);
	seq_puts(file, "}\n");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(ledger_file);

static int __init allocations_init(void)
{
	int ret = probes_init();

	if (ret)
		return ret;
	folder = debugfs_create_dir("tdxhost_allocations", NULL);
	debugfs_create_file("fail_at", 0600, folder, NULL, &fail_at_fops);
	debugfs_create_bool("fail_rest", 0600, folder, &ledger_fail_rest);
	debugfs_create_file("ledger", 0400, folder, NULL, &ledger_file_fops);
	return 0;
}
module_init(allocations_init);

static void __exit allocations_exit(void)
{
	debugfs_remove(folder);
	probes_exit();
}
module_exit(allocations_exit);

MODULE_DESCRIPTION("Allocations of tdxhost: watched, and made to fail");
MODULE_LICENSE("GPL");
