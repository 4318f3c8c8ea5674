// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the driver holds. Pieces are known by what they were handed out as: a
 * pointer, a struct page or a page frame number, which never look alike.
 */
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/pfn.h>
#include <linux/seq_file.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "ledger.h"

#define ROOM 4096

struct piece {
	const char *name;
	u64 key;
	u64 bytes;
};

/* Protects everything below. Raw: probes take it with preemption off. */
static DEFINE_RAW_SPINLOCK(lock);
static struct piece pieces[ROOM];
static unsigned int nr_pieces;
static u64 fail_at, count, wrong_frees, no_room;
static const char *failed = "";

bool ledger_fail_rest;

/* Counts anew from here on; 0 lets all succeed. */
void ledger_fail_at(u64 at)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	fail_at = at;
	count = 0;
	failed = "";
	raw_spin_unlock_irqrestore(&lock, flags);
}

u64 ledger_failing(void)
{
	return READ_ONCE(fail_at);
}

/* Counts an allocation; whether it is one that has to fail. */
bool ledger_is_due(const char *name)
{
	unsigned long flags;
	bool due;

	raw_spin_lock_irqsave(&lock, flags);
	count++;
	due = fail_at && (count == fail_at || (ledger_fail_rest && count > fail_at));
	if (due && count == fail_at)
		failed = name;
	raw_spin_unlock_irqrestore(&lock, flags);
	return due;
}
NOKPROBE_SYMBOL(ledger_is_due);

/* Takes a counted allocation back that failed by itself, as of a range that is in use. */
void ledger_uncount(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	count--;
	raw_spin_unlock_irqrestore(&lock, flags);
}
NOKPROBE_SYMBOL(ledger_uncount);

/* lock is held */
static struct piece *find(u64 key)
{
	unsigned int i;

	for (i = 0; i < nr_pieces; i++)
		if (pieces[i].key == key)
			return &pieces[i];
	return NULL;
}
NOKPROBE_SYMBOL(find);

/* lock is held */
static void add(const char *name, u64 key, u64 bytes)
{
	if (nr_pieces < ROOM)
		pieces[nr_pieces++] = (struct piece){ name, key, bytes };
	else
		no_room++;
}
NOKPROBE_SYMBOL(add);

void ledger_add(const char *name, u64 key, u64 bytes)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	add(name, key, bytes);
	raw_spin_unlock_irqrestore(&lock, flags);
}
NOKPROBE_SYMBOL(ledger_add);

/* @bytes: what the driver says that it gives back, 0 where it need not say */
void ledger_remove(u64 key, u64 bytes)
{
	struct piece *piece;
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	piece = find(key);
	if (!piece || (bytes && bytes != piece->bytes))
		wrong_frees++;
	if (piece)
		*piece = pieces[--nr_pieces];
	raw_spin_unlock_irqrestore(&lock, flags);
}
NOKPROBE_SYMBOL(ledger_remove);

/* lock is held; page frame numbers are far below pointers */
static struct piece *find_around(u64 pfn, u64 bytes)
{
	unsigned int i;

	for (i = 0; i < nr_pieces; i++)
		if (pieces[i].key <= pfn &&
		    PFN_PHYS(pfn) + bytes <= PFN_PHYS(pieces[i].key) + pieces[i].bytes)
			return &pieces[i];
	return NULL;
}
NOKPROBE_SYMBOL(find_around);

/* Pages, of which some may be given back alone; the rest stays, in up to two pieces. */
void ledger_remove_pages(u64 pfn, u64 bytes)
{
	u64 end = PFN_PHYS(pfn) + bytes;
	struct piece *piece, old = {};
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	piece = find_around(pfn, bytes);
	if (piece) {
		old = *piece;
		*piece = pieces[--nr_pieces];
	} else {
		wrong_frees++;
	}
	if (piece && old.key < pfn)
		add(old.name, old.key, PFN_PHYS(pfn - old.key));
	if (piece && end < PFN_PHYS(old.key) + old.bytes)
		add(old.name, PFN_DOWN(end), PFN_PHYS(old.key) + old.bytes - end);
	raw_spin_unlock_irqrestore(&lock, flags);
}
NOKPROBE_SYMBOL(ledger_remove_pages);

struct ledger_sum ledger_sum(const char *name)
{
	struct ledger_sum sum = {};
	unsigned long flags;
	unsigned int i;

	raw_spin_lock_irqsave(&lock, flags);
	for (i = 0; i < nr_pieces; i++) {
		if (strcmp(pieces[i].name, name))
			continue;
		sum.number++;
		sum.bytes += pieces[i].bytes;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	return sum;
}

void ledger_show(struct seq_file *file)
{
	seq_printf(file, "\"count\": %llu, \"failed\": \"%s\", ", READ_ONCE(count), failed);
	seq_printf(file, "\"wrong_frees\": %llu, \"no_room\": %llu", wrong_frees, no_room);
}
