// SPDX-License-Identifier: GPL-2.0-or-later
/* MOVDIR64B, which TCG lacks. */
#include "vtdx.h"

#define MOVDIR64B_BYTES 64

/**
 * on_movdir64b - store 64 bytes (SDM vol. 2, MOVDIR64B)
 * @index: the vCPU
 * @userdata: the site
 *
 * The plugin interface has no access that checks permissions, and can't raise a
 * page fault. So this is for the kernel, on memory that is mapped; elsewhere the
 * instruction stays the #UD that it is to TCG.
 */
void on_movdir64b(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);
	uint8_t data[MOVDIR64B_BYTES];
	uint64_t to;

	if (!vcpu_is_kernel(vcpu))
		return;
	to = vcpu_read(vcpu, site->insn.reg);
	if (site->insn.addr32)
		to = (uint32_t)to;
	if (to % MOVDIR64B_BYTES) {
		vcpu_raise_gp(vcpu, site);
		return;
	}
	if (!vcpu_read_va(vcpu, vcpu_address(vcpu, &site->insn), data, sizeof(data)) ||
	    !vcpu_write_va(vcpu, to, data, sizeof(data)))
		return;
	vcpu_resume(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn));
}
