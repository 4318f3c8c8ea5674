// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The rules of TDMR_INFO, in the order of the TDX module ABI spec, TDH.SYS.CONFIG:
 * one TDMR is fetched and checked completely before the next is looked at.
 */
#include <string.h>

#include "module.h"

#define TDMR_INFO_ALIGN 512

/* TDMR_INFO, as it lies in memory. */
struct tdmr_info {
	uint64_t base, bytes;
	struct range pamt_1g, pamt_2m, pamt_4k;
	struct range reserved[MAX_RESERVED];
};

static const uint64_t page_bytes[NR_PAMT_LEVELS] = { KIB4, MIB2, GIB1 };

static uint64_t range_end(struct range range)
{
	return range.base + range.bytes;
}

static bool range_wraps(struct range range)
{
	return add_wraps(range.base, range.bytes);
}

static bool range_aligned(struct range range, uint64_t align)
{
	return !(range.base % align) && !(range.bytes % align);
}

static bool range_has_keyid(const struct seam *seam, struct range range)
{
	return seam_has_keyid(seam, range.base) || seam_has_keyid(seam, range_end(range) - 1);
}

/* Details in the low half: byte 0 the TDMR, bytes 1 and 2 as the status wants. */
static uint64_t details(uint64_t status, uint32_t byte0, uint32_t byte1, uint32_t byte2)
{
	return status | byte0 | byte1 << 8 | byte2 << 16;
}

static uint64_t check_range(const struct seam *seam, uint32_t i)
{
	const struct tdmr *tdmr = &seam->tdmrs.tdmr[i];
	struct range range = tdmr->range;

	if (range_wraps(range))
		return TDX_INVALID_TDMR | i;
	if (i && (range.base < tdmr[-1].range.base || range.base < range_end(tdmr[-1].range)))
		return TDX_NON_ORDERED_TDMR | i;
	if (!range_aligned(range, GIB1) || !range.bytes || range_has_keyid(seam, range))
		return TDX_INVALID_TDMR | i;
	return TDX_SUCCESS;
}

static uint64_t check_reserved_area(const struct tdmr *tdmr, uint32_t i, uint32_t j)
{
	struct range area = tdmr->reserved[j];
	struct range previous = j ? tdmr->reserved[j - 1] : (struct range){ 0, 0 };
	uint64_t start;

	if (range_wraps(area))
		return details(TDX_INVALID_RESERVED_IN_TDMR, i, j, 0);
	if (area.base < previous.base || area.base < range_end(previous))
		return details(TDX_NON_ORDERED_RESERVED_IN_TDMR, i, j, 0);
	if (!range_aligned(area, KIB4) ||
	    __builtin_add_overflow(tdmr->range.base, area.base, &start) ||
	    add_wraps(start, area.bytes) || start + area.bytes > range_end(tdmr->range))
		return details(TDX_INVALID_RESERVED_IN_TDMR, i, j, 0);
	return TDX_SUCCESS;
}

/* An empty area ends the list; its offset means nothing. */
static uint64_t check_reserved(const struct tdmr *tdmr, uint32_t i)
{
	for (uint32_t j = 0; j < MAX_RESERVED; j++) {
		uint64_t status;

		if (!tdmr->reserved[j].bytes) {
			if (j + 1 < MAX_RESERVED && tdmr->reserved[j + 1].bytes)
				return details(TDX_NON_ORDERED_RESERVED_IN_TDMR, i, j, 0);
			continue;
		}
		status = check_reserved_area(tdmr, i, j);
		if (status)
			return status;
	}
	return TDX_SUCCESS;
}

/**
 * next_available() - the next part of a TDMR that is not reserved
 * @tdmr: TDMR with valid reserved areas
 * @cursor: 0 at first
 * @part: set on success
 */
static bool next_available(const struct tdmr *tdmr, uint32_t *cursor, struct range *part)
{
	while (*cursor <= MAX_RESERVED) {
		uint32_t j = (*cursor)++;
		bool last = j == MAX_RESERVED || !tdmr->reserved[j].bytes;
		uint64_t start = j ? range_end(tdmr->reserved[j - 1]) : 0;
		uint64_t end = last ? tdmr->range.bytes : tdmr->reserved[j].base;

		if (last)
			*cursor = MAX_RESERVED + 1;
		if (start < end) {
			*part = (struct range){ tdmr->range.base + start, end - start };
			return true;
		}
	}
	return false;
}

static bool overlaps_available(const struct tdmr *tdmr, struct range range)
{
	struct range part;
	uint32_t cursor = 0;

	while (next_available(tdmr, &cursor, &part))
		if (ranges_overlap(part, range))
			return true;
	return false;
}

static uint64_t check_pamt_ranges(const struct seam *seam, uint32_t i)
{
	const struct tdmr *tdmr = &seam->tdmrs.tdmr[i];

	for (int level = PAMT_1G; level >= PAMT_4K; level--) {
		struct range pamt = tdmr->pamt[level];
		uint64_t least = tdmr->range.bytes / page_bytes[level] * PAMT_ENTRY_BYTES;

		if (range_wraps(pamt) || !range_aligned(pamt, KIB4) ||
		    range_has_keyid(seam, pamt) || pamt.bytes < least)
			return details(TDX_INVALID_PAMT, i, level, 0);
	}
	return TDX_SUCCESS;
}

static uint64_t check_pamt_against_pamts(const struct seam *seam, uint32_t i)
{
	const struct tdmr *tdmrs = seam->tdmrs.tdmr;

	for (uint32_t j = 0; j < i; j++)
		for (int level = PAMT_4K; level <= PAMT_1G; level++)
			for (int other = PAMT_4K; other <= PAMT_1G; other++)
				if (ranges_overlap(tdmrs[i].pamt[level], tdmrs[j].pamt[other]))
					return details(TDX_PAMT_OVERLAP, i, level, j);
	for (int level = PAMT_4K; level < PAMT_1G; level++)
		for (int other = level + 1; other <= PAMT_1G; other++)
			if (ranges_overlap(tdmrs[i].pamt[level], tdmrs[i].pamt[other]))
				return details(TDX_PAMT_OVERLAP, i, level, i);
	return TDX_SUCCESS;
}

/* PAMT areas of TDMR @owner against what TDMR @user can use. */
static uint64_t check_pamt_against_tdmr(const struct seam *seam, uint32_t owner, uint32_t user)
{
	const struct tdmr *tdmrs = seam->tdmrs.tdmr;

	for (int level = PAMT_4K; level <= PAMT_1G; level++)
		if (overlaps_available(&tdmrs[user], tdmrs[owner].pamt[level]))
			return details(TDX_PAMT_OVERLAP, owner, level, user);
	return TDX_SUCCESS;
}

static uint64_t check_pamt_against_tdmrs(const struct seam *seam, uint32_t i)
{
	uint64_t status = TDX_SUCCESS;

	for (uint32_t j = 0; j <= i && !status; j++) {
		status = check_pamt_against_tdmr(seam, i, j);
		if (!status && j < i)
			status = check_pamt_against_tdmr(seam, j, i);
	}
	return status;
}

static uint64_t check_pamt_in_cmrs(const struct seam *seam, uint32_t i)
{
	for (int level = PAMT_1G; level >= PAMT_4K; level--)
		if (!seam_in_cmrs(seam, seam->tdmrs.tdmr[i].pamt[level]))
			return details(TDX_PAMT_OUTSIDE_CMRS, i, level, 0);
	return TDX_SUCCESS;
}

static uint64_t check_available_in_cmrs(const struct seam *seam, uint32_t i)
{
	struct range part;
	uint32_t cursor = 0;

	while (next_available(&seam->tdmrs.tdmr[i], &cursor, &part))
		if (!seam_in_cmrs(seam, part))
			return TDX_TDMR_OUTSIDE_CMRS | i;
	return TDX_SUCCESS;
}

static uint64_t check_reserved_of(const struct seam *seam, uint32_t i)
{
	return check_reserved(&seam->tdmrs.tdmr[i], i);
}

static uint64_t (*const checks[])(const struct seam *seam, uint32_t i) = {
	check_range,
	check_reserved_of,
	check_pamt_ranges,
	check_pamt_against_pamts,
	check_pamt_against_tdmrs,
	check_pamt_in_cmrs,
	check_available_in_cmrs,
};

static uint64_t check_tdmr(const struct seam *seam, uint32_t i)
{
	uint64_t status = TDX_SUCCESS;

	for (size_t step = 0; step < ARRAY_SIZE(checks) && !status; step++)
		status = checks[step](seam, i);
	return status;
}

/* Copied once: what the host writes to it later has no effect. */
static bool fetch_tdmr(struct seam *seam, uint64_t entry_pa, struct tdmr *tdmr)
{
	struct tdmr_info info;
	uint64_t pa;

	seam_read_pa(seam, entry_pa, &pa, sizeof(pa));
	if (!seam_pa_is_shared(seam, pa, TDMR_INFO_ALIGN))
		return false;
	seam_read_pa(seam, pa, &info, sizeof(info));
	*tdmr = (struct tdmr){
		.range = { info.base, info.bytes },
		.pamt = { info.pamt_4k, info.pamt_2m, info.pamt_1g },
	};
	memcpy(tdmr->reserved, info.reserved, sizeof(tdmr->reserved));
	return true;
}

/**
 * seam_check_tdmrs() - fetch the host's TDMRs and check them against all rules
 * @seam: module; the lock is held exclusively
 * @array_pa: array of physical addresses of TDMR_INFO
 * @count: 1 to MAX_TDMRS
 *
 * A bad address in the array is blamed on RCX, and only when its turn comes.
 */
uint64_t seam_check_tdmrs(struct seam *seam, uint64_t array_pa, uint64_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t status;

		if (!fetch_tdmr(seam, array_pa + i * sizeof(uint64_t), &seam->tdmrs.tdmr[i]))
			return operand_invalid(OPERAND_RCX);
		status = check_tdmr(seam, i);
		if (status)
			return status;
	}
	return TDX_SUCCESS;
}

/**
 * seam_tdmr_page_reserved() - whether a 4 KiB page lies in a reserved area
 * @tdmr: a checked TDMR
 * @offset: of the page in the TDMR
 */
bool seam_tdmr_page_reserved(const struct tdmr *tdmr, uint64_t offset)
{
	for (int j = 0; j < MAX_RESERVED && tdmr->reserved[j].bytes; j++)
		if (offset >= tdmr->reserved[j].base && offset < range_end(tdmr->reserved[j]))
			return true;
	return false;
}
