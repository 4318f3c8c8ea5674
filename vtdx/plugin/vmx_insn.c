// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMX instructions that a host runs in VMX operation until it enters a VM (SDM
 * vol. 3C, chapter 32). Nothing of QEMU's is cached by VPID or EPTP, so INVEPT and
 * INVVPID have nothing to do once their operands are found good.
 */
#include "vmcs.h"
#include "vtdx.h"
#include "witness.h"

#define MSR_VMX_BASIC 0x480
#define MSR_VMX_MISC 0x485
#define VMX_MISC_VMWRITE_ANY BIT_ULL(29)
#define MSR_VMX_PROCBASED_CTLS2 0x48b
#define PROCBASED2_VMCS_SHADOWING BIT_ULL(32 + 14)
#define MSR_VMX_EPT_VPID_CAP 0x48c
#define EPT_CAP_WALK_4 BIT_ULL(6)
#define EPT_CAP_WALK_5 BIT_ULL(7)
#define EPT_CAP_UC BIT_ULL(8)
#define EPT_CAP_WB BIT_ULL(14)
#define EPT_CAP_INVEPT BIT_ULL(20)
#define EPT_CAP_ACCESSED_DIRTY BIT_ULL(21)
#define EPT_CAP_SHADOW_STACK BIT_ULL(23)
/* Type 1 is bit 25 and so on; type 0 of INVVPID is bit 40. */
#define EPT_CAP_INVEPT_TYPE 24
#define EPT_CAP_INVVPID BIT_ULL(32)
#define EPT_CAP_INVVPID_TYPE 40

enum {
	INVEPT_SINGLE = 1,
	INVEPT_ALL = 2,
};

enum {
	INVVPID_ADDRESS = 0,
	INVVPID_ALL = 2,
	INVVPID_LAST = 3,
};

#define EPTP_MEMORY_TYPE(eptp) ((eptp) & 7)
#define EPTP_WALK(eptp) (((eptp) >> 3 & 7) + 1)
#define EPTP_ACCESSED_DIRTY BIT_ULL(6)
#define EPTP_SHADOW_STACK BIT_ULL(7)
#define EPTP_RESERVED 0xf00ull
#define MEMORY_TYPE_UC 0
#define MEMORY_TYPE_WB 6

/**
 * struct call - a VMX instruction under way
 * @vtdx: the platform
 * @vcpu: the running vCPU
 * @insn: the instruction
 * @operand: what the log says of it: an address, a type or an encoding
 * @fault: its memory operand can't be used, which is #GP here
 */
struct call {
	struct vtdx *vtdx;
	struct vcpu *vcpu;
	const struct insn *insn;
	uint64_t operand;
	bool fault;
};

/* What an instruction does in VMX operation at CPL 0. Returns how that went. */
typedef enum vmx_error (*run_fn)(struct call *call);

enum verbosity {
	LOG_ALWAYS,
	LOG_FAILURES, /* VMREAD and VMWRITE: KVM makes hundreds for each of its vCPUs */
};

static const char *result_of(const struct call *call, uint64_t flags)
{
	if (call->fault)
		return "gp";
	if (flags & X86_EFLAGS_CF)
		return "vmfailinvalid";
	return flags & X86_EFLAGS_ZF ? "vmfailvalid" : "done";
}

/*
 * What comes before all else. To TCG these are illegal instructions: where that is
 * right, they just go on.
 */
static const char *trap_of(struct vcpu *vcpu)
{
	vmx_check_reset(vcpu);
	if (!vcpu->vmx)
		return "ud";
	return vcpu_is_kernel(vcpu) ? NULL : "gp";
}

static void answer(unsigned int index, void *userdata, const char *name, run_fn run,
		   enum verbosity verbosity)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);
	struct call call = { .vtdx = site->vtdx, .vcpu = vcpu, .insn = &site->insn };
	const char *trap = trap_of(vcpu), *result = trap;
	enum vmx_error error = VMX_ERROR_NONE;
	uint64_t flags = 0;

	if (!trap) {
		error = run(&call);
		if (!call.fault)
			flags = vmcs_flags(site->vtdx, vcpu, error);
		result = result_of(&call, flags);
	}
	if (verbosity == LOG_ALWAYS || trap || call.fault || error)
		witness_vmx(site->vtdx->witness, index, name, call.operand, result,
			    flags & X86_EFLAGS_ZF ? error : 0);
	if (call.fault || (trap && vcpu->vmx))
		vcpu_raise_gp(vcpu, site);
	else if (!trap)
		vcpu_resume_flags(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn), flags);
}

static bool read_operand(struct call *call, void *data, size_t bytes)
{
	call->fault = !vcpu_read_va(call->vcpu, vcpu_address(call->vcpu, call->insn), data, bytes);
	return !call->fault;
}

static uint64_t capability(const struct call *call, uint32_t msr)
{
	uint64_t value = 0;

	msr_read(call->vtdx, call->vcpu->index, msr, &value);
	return value;
}

static enum vmx_error vmclear(struct call *call)
{
	struct vcpu *vcpu = call->vcpu;

	if (!read_operand(call, &call->operand, sizeof(call->operand)))
		return VMX_ERROR_NONE;
	if (!vmx_address_fits(call->vtdx, vcpu, call->operand))
		return VMX_ERROR_VMCLEAR_ADDRESS;
	if (call->operand == vcpu->vmxon_pa)
		return VMX_ERROR_VMCLEAR_VMXON;
	if (vcpu->vmcs_pa == call->operand)
		vcpu->vmcs_pa = VMCS_NONE;
	return VMX_ERROR_NONE;
}

/**
 * on_vmclear - answer VMCLEAR
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmclear(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMCLEAR", vmclear, LOG_ALWAYS);
}

static bool revision_fits(const struct call *call)
{
	uint32_t wanted = capability(call, MSR_VMX_BASIC) & ~VMCS_SHADOW;
	uint32_t revision;

	if (!vmcs_revision(call->vcpu, call->operand, &revision))
		return false;
	if (capability(call, MSR_VMX_PROCBASED_CTLS2) & PROCBASED2_VMCS_SHADOWING)
		revision &= ~VMCS_SHADOW;
	return revision == wanted;
}

static enum vmx_error vmptrld(struct call *call)
{
	struct vcpu *vcpu = call->vcpu;

	if (!read_operand(call, &call->operand, sizeof(call->operand)))
		return VMX_ERROR_NONE;
	if (!vmx_address_fits(call->vtdx, vcpu, call->operand))
		return VMX_ERROR_VMPTRLD_ADDRESS;
	if (call->operand == vcpu->vmxon_pa)
		return VMX_ERROR_VMPTRLD_VMXON;
	if (!revision_fits(call))
		return VMX_ERROR_VMPTRLD_REVISION;
	vcpu->vmcs_pa = call->operand;
	return VMX_ERROR_NONE;
}

/**
 * on_vmptrld - answer VMPTRLD
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmptrld(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMPTRLD", vmptrld, LOG_ALWAYS);
}

static enum vmx_error vmptrst(struct call *call)
{
	struct vcpu *vcpu = call->vcpu;

	call->operand = vcpu->vmcs_pa;
	call->fault = !vcpu_write_va(vcpu, vcpu_address(vcpu, call->insn), &vcpu->vmcs_pa,
				     sizeof(vcpu->vmcs_pa));
	return VMX_ERROR_NONE;
}

/**
 * on_vmptrst - answer VMPTRST
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmptrst(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMPTRST", vmptrst, LOG_ALWAYS);
}

static enum vmx_error vmread(struct call *call)
{
	struct vcpu *vcpu = call->vcpu;
	uint64_t value;

	call->operand = vcpu_read(vcpu, call->insn->reg);
	if (!vmcs_read(call->vtdx, vcpu, call->operand, &value))
		return VMX_ERROR_FIELD;
	if (call->insn->mod == 3)
		vcpu_write(vcpu, call->insn->rm, value);
	else
		call->fault =
			!vcpu_write_va(vcpu, vcpu_address(vcpu, call->insn), &value, sizeof(value));
	return VMX_ERROR_NONE;
}

/**
 * on_vmread - answer VMREAD
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmread(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMREAD", vmread, LOG_FAILURES);
}

static enum vmx_error vmwrite(struct call *call)
{
	struct vcpu *vcpu = call->vcpu;
	uint64_t value, old;

	call->operand = vcpu_read(vcpu, call->insn->reg);
	if (call->insn->mod == 3)
		value = vcpu_read(vcpu, call->insn->rm);
	else if (!read_operand(call, &value, sizeof(value)))
		return VMX_ERROR_NONE;
	if (!vmcs_read(call->vtdx, vcpu, call->operand, &old))
		return VMX_ERROR_FIELD;
	if (vmcs_is_read_only(call->operand) &&
	    !(capability(call, MSR_VMX_MISC) & VMX_MISC_VMWRITE_ANY))
		return VMX_ERROR_READ_ONLY;
	vmcs_write(call->vtdx, vcpu, call->operand, value);
	return VMX_ERROR_NONE;
}

/**
 * on_vmwrite - answer VMWRITE
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmwrite(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMWRITE", vmwrite, LOG_FAILURES);
}

/* Whether VM entry would take an EPT pointer (SDM vol. 3C, 28.2.1.1). */
static bool eptp_fits(const struct call *call, uint64_t eptp, uint64_t caps)
{
	uint64_t type = EPTP_MEMORY_TYPE(eptp), walk = EPTP_WALK(eptp);

	if (!(type == MEMORY_TYPE_UC && caps & EPT_CAP_UC) &&
	    !(type == MEMORY_TYPE_WB && caps & EPT_CAP_WB))
		return false;
	if (!(walk == 4 && caps & EPT_CAP_WALK_4) && !(walk == 5 && caps & EPT_CAP_WALK_5))
		return false;
	if ((eptp & EPTP_ACCESSED_DIRTY && !(caps & EPT_CAP_ACCESSED_DIRTY)) ||
	    (eptp & EPTP_SHADOW_STACK && !(caps & EPT_CAP_SHADOW_STACK)))
		return false;
	return !(eptp & EPTP_RESERVED) &&
	       vmx_address_fits(call->vtdx, call->vcpu, eptp & ~0xfffull);
}

static enum vmx_error invept(struct call *call)
{
	uint64_t caps = capability(call, MSR_VMX_EPT_VPID_CAP), descriptor[2];

	call->operand = vcpu_read(call->vcpu, call->insn->reg);
	if (call->operand < INVEPT_SINGLE || call->operand > INVEPT_ALL ||
	    !(caps >> (EPT_CAP_INVEPT_TYPE + call->operand) & 1))
		return VMX_ERROR_INVALIDATION;
	if (!read_operand(call, descriptor, sizeof(descriptor)))
		return VMX_ERROR_NONE;
	if (call->operand == INVEPT_SINGLE && !eptp_fits(call, descriptor[0], caps))
		return VMX_ERROR_INVALIDATION;
	return VMX_ERROR_NONE;
}

/* A processor without INVEPT has it for an illegal instruction, as TCG has. */
static bool exists(unsigned int index, void *userdata, uint64_t wanted)
{
	const struct site *site = userdata;
	uint64_t caps = 0;

	msr_read(site->vtdx, index, MSR_VMX_EPT_VPID_CAP, &caps);
	return caps & wanted;
}

/**
 * on_invept - answer INVEPT
 * @index: the vCPU
 * @userdata: the site
 */
void on_invept(unsigned int index, void *userdata)
{
	if (exists(index, userdata, EPT_CAP_INVEPT))
		answer(index, userdata, "INVEPT", invept, LOG_ALWAYS);
}

static bool is_canonical(struct vcpu *vcpu, uint64_t va)
{
	unsigned int bits = vcpu_read(vcpu, REG_CR4) & X86_CR4_LA57 ? 57 : 48;
	int64_t top = (int64_t)va >> (bits - 1);

	return top == 0 || top == -1;
}

static enum vmx_error invvpid(struct call *call)
{
	uint64_t caps = capability(call, MSR_VMX_EPT_VPID_CAP), descriptor[2];

	call->operand = vcpu_read(call->vcpu, call->insn->reg);
	if (call->operand > INVVPID_LAST || !(caps >> (EPT_CAP_INVVPID_TYPE + call->operand) & 1))
		return VMX_ERROR_INVALIDATION;
	if (!read_operand(call, descriptor, sizeof(descriptor)))
		return VMX_ERROR_NONE;
	if (descriptor[0] >> 16 || (call->operand != INVVPID_ALL && !descriptor[0]) ||
	    (call->operand == INVVPID_ADDRESS && !is_canonical(call->vcpu, descriptor[1])))
		return VMX_ERROR_INVALIDATION;
	return VMX_ERROR_NONE;
}

/**
 * on_invvpid - answer INVVPID
 * @index: the vCPU
 * @userdata: the site
 */
void on_invvpid(unsigned int index, void *userdata)
{
	if (exists(index, userdata, EPT_CAP_INVVPID))
		answer(index, userdata, "INVVPID", invvpid, LOG_ALWAYS);
}

/* A shadow VMCS is as good as none here. */
static bool can_enter(struct call *call)
{
	uint32_t revision;

	call->operand = call->vcpu->vmcs_pa;
	return call->operand != VMCS_NONE && vmcs_revision(call->vcpu, call->operand, &revision) &&
	       !(revision & VMCS_SHADOW);
}

/* VM entry is not modelled: no control fields are good enough for it. */
static enum vmx_error vmlaunch(struct call *call)
{
	return can_enter(call) ? VMX_ERROR_CONTROLS : VMX_ERROR_NO_VMCS;
}

/**
 * on_vmlaunch - answer VMLAUNCH
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmlaunch(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMLAUNCH", vmlaunch, LOG_ALWAYS);
}

/* No VMCS was ever launched. */
static enum vmx_error vmresume(struct call *call)
{
	return can_enter(call) ? VMX_ERROR_RESUME_NOT_LAUNCHED : VMX_ERROR_NO_VMCS;
}

/**
 * on_vmresume - answer VMRESUME
 * @index: the vCPU
 * @userdata: the site
 */
void on_vmresume(unsigned int index, void *userdata)
{
	answer(index, userdata, "VMRESUME", vmresume, LOG_ALWAYS);
}
