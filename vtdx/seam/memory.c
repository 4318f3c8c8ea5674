// SPDX-License-Identifier: GPL-2.0-or-later
/* Physical addresses: KeyID bits, the SEAM range, convertible memory. */
#include <string.h>

#include "module.h"

/**
 * seam_keyid_mask() - physical address bits that hold a KeyID
 * @seam: module, past TDH.SYS.INIT's sampling of IA32_TME_ACTIVATE
 */
uint64_t seam_keyid_mask(const struct seam *seam)
{
	uint64_t bits = TME_KEYID_BITS(seam->sampled.msr[MSR_TME_ACTIVATE]);

	return ((1ull << bits) - 1) << (MAX_PA_BITS - bits);
}

/**
 * seam_has_keyid() - whether an address is above MAXPHYADDR or names a KeyID
 * @seam: module
 * @pa: physical address
 */
bool seam_has_keyid(const struct seam *seam, uint64_t pa)
{
	return pa >> MAX_PA_BITS || (pa & seam_keyid_mask(seam));
}

static uint64_t keyid_of(const struct seam *seam, uint64_t pa)
{
	uint64_t mask = seam_keyid_mask(seam);

	return mask ? (pa & mask) >> __builtin_ctzll(mask) : 0;
}

/**
 * seam_pa_is_shared() - whether the host may hand this buffer to the module
 * @seam: module
 * @pa: physical address with KeyID bits
 * @align: alignment and bytes looked at
 *
 * TDX module ABI spec, "shared physical address" operands: any KeyID that is not
 * private will do, and the buffer need not be convertible memory.
 */
bool seam_pa_is_shared(const struct seam *seam, uint64_t pa, uint64_t align)
{
	const struct range seamrr = { seam->config.seamrr_base_pa, seam->config.seamrr_bytes };
	uint64_t first_private = NUM_MKTME_KIDS(seam->sampled.msr[MSR_KEYID_PARTITIONING]) + 1;

	if (pa % align || pa >> MAX_PA_BITS)
		return false;
	if (ranges_overlap((struct range){ pa, align }, seamrr))
		return false;
	return keyid_of(seam, pa) < first_private;
}

/**
 * seam_in_cmrs() - whether a range lies inside convertible memory
 * @seam: module
 * @range: the range
 *
 * CMRs that touch count as one, also across an empty entry (TDX module ABI spec,
 * TDH.SYS.CONFIG).
 */
bool seam_in_cmrs(const struct seam *seam, struct range range)
{
	struct range joined = { 0, 0 };

	for (uint32_t i = 0; i < seam->config.nr_cmrs; i++) {
		const struct seam_cmr *cmr = &seam->config.cmrs[i];

		if (!cmr->bytes)
			continue;
		if (joined.bytes && cmr->base_pa == joined.base + joined.bytes)
			joined.bytes += cmr->bytes;
		else
			joined = (struct range){ cmr->base_pa, cmr->bytes };
		if (range.base >= joined.base &&
		    range.base + range.bytes <= joined.base + joined.bytes)
			return true;
	}
	return false;
}

/**
 * seam_read_pa() - read memory of the host
 * @seam: module
 * @pa: physical address with KeyID bits
 * @buf: where to
 * @bytes: how much
 *
 * Where no memory answers, the bus gives all ones.
 */
void seam_read_pa(struct seam *seam, uint64_t pa, void *buf, uint64_t bytes)
{
	if (seam->ops.read_pa(seam->opaque, pa & ~seam_keyid_mask(seam), buf, bytes))
		memset(buf, 0xff, bytes);
}

/**
 * seam_write_pa() - write memory of the host
 * @seam: module
 * @pa: physical address with KeyID bits
 * @buf: what
 * @bytes: how much
 *
 * Where no memory answers, the write is lost.
 */
void seam_write_pa(struct seam *seam, uint64_t pa, const void *buf, uint64_t bytes)
{
	seam->ops.write_pa(seam->opaque, pa & ~seam_keyid_mask(seam), buf, bytes);
}
