// SPDX-License-Identifier: GPL-2.0-or-later
/* MSRs as the module reads them. */
#include "module.h"

#define SEAM_MSR_ADDRESS(name, address) [MSR_##name] = address,
const uint32_t seam_msr_address[NR_MSRS] = { SEAM_MSRS(SEAM_MSR_ADDRESS) };

/**
 * seam_sample() - read an MSR into what TDH.SYS.INIT sampled
 * @call: TDH.SYS.INIT
 * @msr: which
 *
 * Return: false where it faults: the module has no handler and stops for good.
 */
bool seam_sample(struct call *call, enum seam_msr msr)
{
	struct seam *seam = call->seam;

	if (seam->ops.rdmsr(seam->opaque, call->lp, seam_msr_address[msr],
			    &seam->sampled.msr[msr]))
		call->fatal = true;
	return !call->fatal;
}
