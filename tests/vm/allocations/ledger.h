/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accounts of the memory that the driver holds, and the allocation that is to fail. */
#ifndef ALLOCATIONS_LEDGER_H
#define ALLOCATIONS_LEDGER_H

#include <linux/types.h>

struct seq_file;

/**
 * struct ledger_sum - what the driver holds of one kind
 * @number: pieces
 * @bytes: what was asked for, in all
 */
struct ledger_sum {
	u64 number;
	u64 bytes;
};

void ledger_fail_at(u64 at);
u64 ledger_failing(void);
bool ledger_is_due(const char *name);
void ledger_uncount(void);
void ledger_add(const char *name, u64 key, u64 bytes);
void ledger_remove(u64 key, u64 bytes);
void ledger_remove_pages(u64 pfn, u64 bytes);
struct ledger_sum ledger_sum(const char *name);
void ledger_show(struct seq_file *file);

/* Every later allocation fails too; a file in debugfs. */
extern bool ledger_fail_rest;

/* probes.c */
void allocations_return(void);
int probes_init(void);
void probes_exit(void);
void probes_show(struct seq_file *file);

#endif /* ALLOCATIONS_LEDGER_H */
