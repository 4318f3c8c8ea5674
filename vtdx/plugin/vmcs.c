// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VMCS lies in the guest's memory alone, as the SDM lets a processor have it: the
 * two words that the SDM lays out, then the fields, one after another. So it goes
 * from CPU to CPU like any other memory. It has no launch state: no VM is ever
 * entered, and so it is "clear" in all of them.
 */
#include "vmcs.h"
#include "vtdx.h"

#define MSR_VMX_BASIC 0x480
#define VMX_BASIC_VMCS_BYTES(msr) ((msr) >> 32 & 0x1fff)

#define VMCS_FIELDS 8

/* Encodings (SDM vol. 3C, 26.11.2). */
#define FIELD_HIGH 1u
#define FIELD_TYPE(encoding) ((encoding) >> 10 & 3)
#define FIELD_TYPE_READ_ONLY 1
#define FIELD_WIDTH(encoding) ((encoding) >> 13 & 3)
#define FIELD_WIDTH_64 1
#define FIELD_VM_INSTRUCTION_ERROR 0x4400

/* By FIELD_WIDTH(): 16 bits, 64, 32, natural. */
static const uint8_t field_bytes[] = { 2, 8, 4, 8 };

/*
 * The fields of a Sapphire Rapids (SDM vol. 3D, appendix B), the wide ones first.
 * Not there: sub-page permissions, MPX, secondary VM-exit controls.
 */
static const struct {
	uint16_t first;
	uint16_t last;
} fields[] = {
	/* 64 bits: controls, exit information, guest state, host state */
	{ 0x2000, 0x202e },
	{ 0x2032, 0x2042 },
	{ 0x204a, 0x204c },
	{ 0x2400, 0x2400 },
	{ 0x2800, 0x2810 },
	{ 0x2814, 0x2818 },
	{ 0x2c00, 0x2c06 },
	/* natural width */
	{ 0x6000, 0x600e },
	{ 0x6400, 0x640a },
	{ 0x6800, 0x682c },
	{ 0x6c00, 0x6c1c },
	/* 32 bits */
	{ 0x4000, 0x4024 },
	{ 0x4400, 0x440e },
	{ 0x4800, 0x482a },
	{ 0x482e, 0x482e },
	{ 0x4c00, 0x4c00 },
	/* 16 bits */
	{ 0x0000, 0x0008 },
	{ 0x0800, 0x0814 },
	{ 0x0c00, 0x0c0c },
};

/**
 * struct place - where a field is in a VMCS
 * @offset: from the start of the VMCS
 * @bytes: how wide it is
 */
struct place {
	uint32_t offset;
	uint32_t bytes;
};

/* Return: false for a field that this processor does not have. */
static bool find_field(uint32_t encoding, struct place *place)
{
	uint32_t offset = VMCS_FIELDS;

	for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
		uint32_t bytes = field_bytes[FIELD_WIDTH(fields[i].first)];

		if (encoding >= fields[i].first && encoding <= fields[i].last) {
			place->offset = offset + (encoding - fields[i].first) / 2 * bytes;
			place->bytes = bytes;
			return true;
		}
		offset += ((fields[i].last - fields[i].first) / 2 + 1) * bytes;
	}
	return false;
}

/* Nothing of a VMCS is outside of what IA32_VMX_BASIC says is its size. */
static bool locate(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t encoding, struct place *place)
{
	bool high = encoding & FIELD_HIGH;
	uint64_t basic = 0;

	msr_read(vtdx, vcpu->index, MSR_VMX_BASIC, &basic);
	if (encoding > UINT16_MAX || !find_field(encoding & ~FIELD_HIGH, place) ||
	    (high && FIELD_WIDTH(encoding) != FIELD_WIDTH_64) ||
	    place->offset + place->bytes > VMX_BASIC_VMCS_BYTES(basic))
		return false;
	if (high) {
		place->bytes /= 2;
		place->offset += place->bytes;
	}
	return true;
}

/**
 * vmcs_revision - read the first word of a VMCS
 * @vcpu: the running vCPU
 * @pa: the VMCS
 * @revision: its revision identifier, and VMCS_SHADOW
 *
 * Return: false where there is no memory.
 */
bool vmcs_revision(struct vcpu *vcpu, uint64_t pa, uint32_t *revision)
{
	return vcpu_read_pa(vcpu, pa, revision, sizeof(*revision));
}

/**
 * vmcs_read - read a field of the current VMCS
 * @vtdx: the platform
 * @vcpu: the running vCPU
 * @encoding: the field
 * @value: its value, zero extended
 *
 * Return: false without a current VMCS, and for a field that there is not.
 */
bool vmcs_read(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t encoding, uint64_t *value)
{
	struct place place;

	*value = 0;
	return vcpu->vmcs_pa != VMCS_NONE && locate(vtdx, vcpu, encoding, &place) &&
	       vcpu_read_pa(vcpu, vcpu->vmcs_pa + place.offset, value, place.bytes);
}

/**
 * vmcs_write - write a field of the current VMCS
 * @vtdx: the platform
 * @vcpu: the running vCPU
 * @encoding: the field
 * @value: its value, of which as much goes in as the field has room for
 *
 * Return: false without a current VMCS, and for a field that there is not.
 */
bool vmcs_write(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t encoding, uint64_t value)
{
	struct place place;

	return vcpu->vmcs_pa != VMCS_NONE && locate(vtdx, vcpu, encoding, &place) &&
	       vcpu_write_pa(vcpu, vcpu->vmcs_pa + place.offset, &value, place.bytes);
}

/**
 * vmcs_is_read_only - whether a field is VM-exit information
 * @encoding: the field
 */
bool vmcs_is_read_only(uint64_t encoding)
{
	return FIELD_TYPE(encoding) == FIELD_TYPE_READ_ONLY;
}

/**
 * vmcs_flags - how a VMX instruction tells its outcome
 * @vtdx: the platform
 * @vcpu: the running vCPU
 * @error: what went wrong, which goes into the current VMCS where there is one
 *
 * Return: the arithmetic flags: none for VMsucceed, ZF for VMfailValid, CF for
 * VMfailInvalid (SDM vol. 3C, 32.2).
 */
uint64_t vmcs_flags(struct vtdx *vtdx, struct vcpu *vcpu, enum vmx_error error)
{
	if (error == VMX_ERROR_NONE)
		return 0;
	if (error == VMX_ERROR_NO_VMCS || vcpu->vmcs_pa == VMCS_NONE)
		return X86_EFLAGS_CF;
	vmcs_write(vtdx, vcpu, FIELD_VM_INSTRUCTION_ERROR, error);
	return X86_EFLAGS_ZF;
}
