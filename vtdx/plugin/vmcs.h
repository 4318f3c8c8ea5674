/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A VMCS: what is in the guest's memory, and how an instruction that is about one fails. */
#ifndef VTDX_VMCS_H
#define VTDX_VMCS_H

#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct vtdx;

/* The current-VMCS pointer where no VMCS is current. */
#define VMCS_NONE (~0ull)

/* Bit 31 of the first word: a shadow VMCS. */
#define VMCS_SHADOW 0x80000000u

/*
 * VM-instruction error numbers (SDM vol. 3C, 32.4), and VMX_ERROR_NO_VMCS for what is
 * VMfailInvalid whichever VMCS is current.
 */
enum vmx_error {
	VMX_ERROR_NO_VMCS = -1,
	VMX_ERROR_NONE = 0,
	VMX_ERROR_VMCLEAR_ADDRESS = 2,
	VMX_ERROR_VMCLEAR_VMXON = 3,
	VMX_ERROR_RESUME_NOT_LAUNCHED = 5,
	VMX_ERROR_CONTROLS = 7,
	VMX_ERROR_VMPTRLD_ADDRESS = 9,
	VMX_ERROR_VMPTRLD_VMXON = 10,
	VMX_ERROR_VMPTRLD_REVISION = 11,
	VMX_ERROR_FIELD = 12,
	VMX_ERROR_READ_ONLY = 13,
	VMX_ERROR_VMXON_IN_VMX = 15,
	VMX_ERROR_INVALIDATION = 28,
};

bool vmcs_revision(struct vcpu *vcpu, uint64_t pa, uint32_t *revision);
bool vmcs_read(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t encoding, uint64_t *value);
bool vmcs_write(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t encoding, uint64_t value);
bool vmcs_is_read_only(uint64_t encoding);
uint64_t vmcs_flags(struct vtdx *vtdx, struct vcpu *vcpu, enum vmx_error error);

#endif /* VTDX_VMCS_H */
