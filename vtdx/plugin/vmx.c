// SPDX-License-Identifier: GPL-2.0-or-later
/* VMX operation: entering, leaving, and CR4.VMXE. */
#include "fault.h"
#include "vmcs.h"
#include "vtdx.h"
#include "witness.h"

#define MSR_FEATURE_CONTROL 0x3a
#define FEATURE_CONTROL_LOCKED BIT_ULL(0)
#define FEATURE_CONTROL_VMX_OUTSIDE_SMX BIT_ULL(2)
#define MSR_VMX_BASIC 0x480
#define VMX_BASIC_32BIT_ADDRESSES BIT_ULL(48)
#define VMX_BASIC_VMCS_OUTLIVES_SEAMRET BIT_ULL(60)
#define MSR_VMX_CR0_FIXED0 0x486
#define MSR_VMX_CR0_FIXED1 0x487
#define MSR_VMX_CR4_FIXED0 0x488
#define MSR_VMX_CR4_FIXED1 0x489

/**
 * vmx_check_reset - notice that a vCPU was reset
 * @vcpu: the running vCPU
 *
 * INIT clears CR0 and CR4, and QEMU tells no plugin of it. Neither CR4.VMXE in
 * 64-bit code nor VMX operation can be with paging off.
 */
void vmx_check_reset(struct vcpu *vcpu)
{
	if ((vcpu->vmxe || vcpu->vmx) && !(vcpu_read(vcpu, REG_CR0) & X86_CR0_PG)) {
		vcpu->vmxe = false;
		vcpu->vmx = false;
	}
}

static bool cr_is_fixed(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t cr, uint32_t fixed0_msr,
			uint32_t fixed1_msr)
{
	uint64_t fixed0 = 0, fixed1 = ~0ull;

	msr_read(vtdx, vcpu->index, fixed0_msr, &fixed0);
	msr_read(vtdx, vcpu->index, fixed1_msr, &fixed1);
	return (cr & fixed0) == fixed0 && !(cr & ~fixed1);
}

static bool feature_control_allows(struct vtdx *vtdx, struct vcpu *vcpu)
{
	const uint64_t wanted = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX_OUTSIDE_SMX;
	uint64_t value = 0;

	msr_read(vtdx, vcpu->index, MSR_FEATURE_CONTROL, &value);
	return (value & wanted) == wanted;
}

/* Why VMXON faults outside VMX operation, or NULL (SDM vol. 3, VMXON). */
static const char *vmxon_gp_reason(struct vtdx *vtdx, struct vcpu *vcpu)
{
	uint64_t cr4 = vcpu_read(vcpu, REG_CR4) | X86_CR4_VMXE;

	if (!vcpu_is_kernel(vcpu))
		return "CPL above 0";
	if (!feature_control_allows(vtdx, vcpu))
		return "IA32_FEATURE_CONTROL";
	if (!cr_is_fixed(vtdx, vcpu, vcpu_read(vcpu, REG_CR0), MSR_VMX_CR0_FIXED0,
			 MSR_VMX_CR0_FIXED1))
		return "CR0 fixed bits";
	if (!cr_is_fixed(vtdx, vcpu, cr4, MSR_VMX_CR4_FIXED0, MSR_VMX_CR4_FIXED1))
		return "CR4 fixed bits";
	return NULL;
}

/**
 * vmx_address_fits - whether an address may be that of a VMXON region or a VMCS
 * @vtdx: the platform
 * @vcpu: the running vCPU
 * @pa: the address
 */
bool vmx_address_fits(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t pa)
{
	uint64_t basic = 0;
	uint32_t regs[4];
	unsigned int bits;

	msr_read(vtdx, vcpu->index, MSR_VMX_BASIC, &basic);
	cpuid_module(vtdx, vcpu->index, 0x80000008, 0, regs);
	bits = basic & VMX_BASIC_32BIT_ADDRESSES ? 32 : regs[0] & 0xff;
	return !(pa & 0xfff) && (bits == 0 || bits >= 64 || !(pa >> bits));
}

/* Why VMXON fails with VMfailInvalid, or NULL. */
static const char *vmxon_invalid_reason(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t pa)
{
	uint64_t basic = 0;
	uint32_t revision;

	msr_read(vtdx, vcpu->index, MSR_VMX_BASIC, &basic);
	if (!vmx_address_fits(vtdx, vcpu, pa))
		return "VMXON region address";
	if (!vcpu_read_pa(vcpu, pa, &revision, sizeof(revision)))
		return "no memory at the VMXON region";
	if (revision != (basic & 0x7fffffff))
		return "VMCS revision identifier";
	return NULL;
}

/* What VMXON does here, and why; *pa is 0 when the operand can't be read. */
static unsigned int vmxon_outcome(const struct site *site, struct vcpu *vcpu, uint64_t *pa,
				  const char **reason)
{
	struct vtdx *vtdx = site->vtdx;
	struct fault fault;

	if (!vcpu->vmxe) {
		*reason = "CR4.VMXE clear";
		return FAULT_TRAP_UD;
	}
	if (fault_strike(vtdx->platform, FAULT_AT_VMXON, 0, vcpu->index, &fault)) {
		*reason = "fault";
		return fault.answer;
	}
	*reason = vcpu->vmx ? NULL : vmxon_gp_reason(vtdx, vcpu);
	if (*reason)
		return FAULT_TRAP_GP;
	if (vcpu->vmx) {
		*reason = vcpu_is_kernel(vcpu) ? "in VMX operation" : "CPL above 0";
		return vcpu_is_kernel(vcpu) ? FAULT_VMFAIL : FAULT_TRAP_GP;
	}
	if (!vcpu_read_va(vcpu, vcpu_address(vcpu, &site->insn), pa, sizeof(*pa))) {
		*reason = "operand not mapped";
		return FAULT_TRAP_GP;
	}
	*reason = vmxon_invalid_reason(vtdx, vcpu, *pa);
	return *reason ? FAULT_VMFAIL : FAULT_NONE;
}

static const char *vmxon_result(unsigned int outcome, uint64_t flags)
{
	static const char *const results[] = {
		[FAULT_NONE] = "done",
		[FAULT_TRAP_UD] = "ud",
		[FAULT_TRAP_GP] = "gp",
		[FAULT_VMFAIL] = "vmfailinvalid",
	};

	return flags & X86_EFLAGS_ZF ? "vmfailvalid" : results[outcome];
}

static void wait_for(struct vtdx *vtdx, uint64_t instruction)
{
	g_usleep(latency_ns(vtdx->platform, instruction) / 1000);
}

/*
 * The time that VMXON takes passes before it, and it is begun again then: an
 * interrupt that has come meanwhile is taken first, with CR4.VMXE set and VMX off.
 */
static void wait_before_vmxon(const struct site *site, struct vcpu *vcpu)
{
	if (vcpu->vmxon_waited || !latency_ns(site->vtdx->platform, LATENCY_VMXON)) {
		vcpu->vmxon_waited = false;
		return;
	}
	vcpu->vmxon_waited = true;
	wait_for(site->vtdx, LATENCY_VMXON);
	vcpu_resume(site->vtdx, vcpu, vcpu_here(vcpu, &site->insn));
}

/**
 * on_vmxon - answer VMXON
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmxon(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);
	const char *reason = NULL;
	uint64_t pa = 0, flags = 0;
	unsigned int outcome;

	vmx_check_reset(vcpu);
	if (vcpu->vmxe && !vcpu->vmx)
		wait_before_vmxon(site, vcpu);
	outcome = vmxon_outcome(site, vcpu, &pa, &reason);
	if (outcome == FAULT_VMFAIL)
		flags = vmcs_flags(site->vtdx, vcpu,
				   vcpu->vmx ? VMX_ERROR_VMXON_IN_VMX : VMX_ERROR_NO_VMCS);
	witness_vmxon(site->vtdx->witness, index, pa, vmxon_result(outcome, flags), reason);
	if (outcome == FAULT_TRAP_GP)
		vcpu_raise_gp(vcpu, site);
	if (outcome == FAULT_TRAP_GP || outcome == FAULT_TRAP_UD)
		return;
	if (outcome == FAULT_NONE) {
		vcpu->vmx = true;
		vcpu->vmxon_pa = pa;
		vcpu->vmcs_pa = VMCS_NONE;
	}
	vcpu_resume_flags(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn), flags);
}

/**
 * vmx_leave_pseamldr - come back from P-SEAMLDR
 * @vtdx: the platform
 * @vcpu: the running vCPU
 *
 * No VMCS is current then, where the processor does not say that it keeps it (Linux
 * 7.3 arch/x86/include/asm/vmx.h).
 */
void vmx_leave_pseamldr(struct vtdx *vtdx, struct vcpu *vcpu)
{
	uint64_t basic = 0;

	msr_read(vtdx, vcpu->index, MSR_VMX_BASIC, &basic);
	if (!(basic & VMX_BASIC_VMCS_OUTLIVES_SEAMRET))
		vcpu->vmcs_pa = VMCS_NONE;
}

/**
 * on_vmxoff - answer VMXOFF
 * @index: the vCPU
 * @userdata: the site
 *
 * To TCG it is an illegal instruction: where that is right, it just goes on.
 */
void on_vmxoff(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);
	bool kernel;

	vmx_check_reset(vcpu);
	if (!vcpu->vmx) {
		witness_vmxoff(site->vtdx->witness, index, "ud");
		return;
	}
	kernel = vcpu_is_kernel(vcpu);
	witness_vmxoff(site->vtdx->witness, index, kernel ? "done" : "gp");
	if (!kernel) {
		vcpu_raise_gp(vcpu, site);
		return;
	}
	vcpu->vmx = false;
	wait_for(site->vtdx, LATENCY_VMXOFF);
	vcpu_resume_flags(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn), 0);
}

static void set_vmxe(const struct site *site, struct vcpu *vcpu, bool vmxe)
{
	if (vcpu->vmxe == vmxe)
		return;
	vcpu->vmxe = vmxe;
	witness_vmxe(site->vtdx->witness, vcpu->index, vmxe);
}

/**
 * on_mov_to_cr - answer MOV to CR4
 * @index: the vCPU
 * @userdata: the site
 *
 * TCG refuses VMXE. Writing the rest through the register interface has all the
 * effects of the instruction, TLB flushes among them.
 */
void on_mov_to_cr(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);
	uint64_t value = vcpu_read(vcpu, site->insn.rm);

	vmx_check_reset(vcpu);
	vcpu->iretq_va = 0;
	if (!vcpu_is_kernel(vcpu))
		return;
	if (!(value & X86_CR4_VMXE)) {
		if (vcpu->vmx)
			vcpu_raise_gp(vcpu, site);
		set_vmxe(site, vcpu, false);
		return;
	}
	set_vmxe(site, vcpu, true);
	vcpu_write(vcpu, REG_CR4, value & ~X86_CR4_VMXE);
	vcpu_resume(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn));
}

/**
 * on_mov_from_cr - answer MOV from CR4
 * @index: the vCPU
 * @userdata: the site
 */
void on_mov_from_cr(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);

	vmx_check_reset(vcpu);
	if (!vcpu->vmxe || !vcpu_is_kernel(vcpu))
		return;
	vcpu_write(vcpu, site->insn.rm, vcpu_read(vcpu, REG_CR4) | X86_CR4_VMXE);
	vcpu_resume(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn));
}
