// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.TDMR.INIT: writes the PAMT, a piece a call. */
#include <string.h>

#include "module.h"

/* A build constant of the module; hosts go by RDX. */
#define ENTRIES_PER_CALL 1024
#define BYTES_PER_CALL (ENTRIES_PER_CALL * KIB4)

/* PAMT entry: byte 2 is the page type. */
#define PAMT_ENTRY_TYPE 2
#define PAMT_TYPE_RESERVED 1

static void write_pamt_4k(struct seam *seam, const struct tdmr *tdmr)
{
	uint8_t entries[ENTRIES_PER_CALL][PAMT_ENTRY_BYTES];
	uint64_t offset = tdmr->done_bytes;

	memset(entries, 0, sizeof(entries));
	for (uint32_t i = 0; i < ENTRIES_PER_CALL; i++)
		if (seam_tdmr_page_reserved(tdmr, offset + i * KIB4))
			entries[i][PAMT_ENTRY_TYPE] = PAMT_TYPE_RESERVED;
	seam_write_pa(seam, tdmr->pamt[PAMT_4K].base + offset / KIB4 * PAMT_ENTRY_BYTES, entries,
		      sizeof(entries));
}

static void write_pamt_2m(struct seam *seam, const struct tdmr *tdmr)
{
	static const uint8_t entries[BYTES_PER_CALL / MIB2][PAMT_ENTRY_BYTES];

	seam_write_pa(seam, tdmr->pamt[PAMT_2M].base + tdmr->done_bytes / MIB2 * PAMT_ENTRY_BYTES,
		      entries, sizeof(entries));
}

static void write_pamt_1g(struct seam *seam, const struct tdmr *tdmr)
{
	static const uint8_t entry[PAMT_ENTRY_BYTES];

	if (tdmr->done_bytes % GIB1 == 0)
		seam_write_pa(seam,
			      tdmr->pamt[PAMT_1G].base + tdmr->done_bytes / GIB1 * PAMT_ENTRY_BYTES,
			      entry, sizeof(entry));
}

static uint64_t init_next_piece(struct call *call, struct tdmr *tdmr)
{
	if (tdmr->done_bytes == tdmr->range.bytes)
		return TDX_TDMR_ALREADY_INITIALIZED;
	write_pamt_4k(call->seam, tdmr);
	write_pamt_2m(call->seam, tdmr);
	write_pamt_1g(call->seam, tdmr);
	tdmr->done_bytes += BYTES_PER_CALL;
	call->regs->rdx = tdmr->range.base + tdmr->done_bytes / GIB1 * GIB1;
	return TDX_SUCCESS;
}

static struct tdmr *find_tdmr(struct seam *seam, uint64_t base)
{
	for (uint32_t i = 0; i < seam->tdmrs.count; i++)
		if (seam->tdmrs.tdmr[i].range.base == base)
			return &seam->tdmrs.tdmr[i];
	return NULL;
}

/**
 * tdh_sys_tdmr_init() - TDH.SYS.TDMR.INIT
 * @call: the call
 *
 * Only calls for the same TDMR collide (TDX module ABI spec).
 */
uint64_t tdh_sys_tdmr_init(struct call *call)
{
	struct seam *seam = call->seam;
	struct tdmr *tdmr = find_tdmr(seam, call->in->rcx);
	seam_lock_t *lock;
	uint64_t status;

	if (!tdmr)
		return operand_invalid(OPERAND_RCX);
	lock = &seam->tdmr_lock[tdmr - seam->tdmrs.tdmr];
	if (!seam_trylock(lock))
		return TDX_OPERAND_BUSY | OPERAND_RCX;
	seam_hold(seam, call->lp, call->leaf);
	status = init_next_piece(call, tdmr);
	seam_unlock(lock);
	return status;
}
