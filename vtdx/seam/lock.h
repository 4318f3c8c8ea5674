/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Locks that are tried once: no leaf of the TDX module waits. 0 is free, -1 is
 * held exclusively, n > 0 is shared by n.
 */
#ifndef VTDX_LOCK_H
#define VTDX_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

typedef atomic_int seam_lock_t;

static inline bool seam_trylock(seam_lock_t *lock)
{
	int expected = 0;

	return atomic_compare_exchange_strong(lock, &expected, -1);
}

static inline void seam_unlock(seam_lock_t *lock)
{
	atomic_store(lock, 0);
}

static inline bool seam_trylock_shared(seam_lock_t *lock)
{
	int holders = atomic_load(lock);

	while (holders >= 0)
		if (atomic_compare_exchange_weak(lock, &holders, holders + 1))
			return true;
	return false;
}

static inline void seam_unlock_shared(seam_lock_t *lock)
{
	atomic_fetch_sub(lock, 1);
}

#endif /* VTDX_LOCK_H */
