// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How an instruction that the platform answered ends: at the next one, with new
 * flags, or in a #GP.
 *
 * Flags. TCG evaluates the arithmetic flags lazily and keeps their inputs where a
 * plugin can't reach; the eflags that it offers for writing holds all the others.
 * Leaving an instruction by set_pc() even leaves inputs that don't fit together: a
 * later PUSHF or exception then shows TF, DF and IOPL at random. What sets all of
 * them is IRET. Every 64-bit kernel has an IRETQ, and runs it early: the plugin
 * builds the frame below the guest's stack pointer and goes on there, with
 * interrupts off: Linux takes an interrupt at its IRETQ for one from user space.
 * Where that can't be had, it evaluates the conditional instructions that follow.
 *
 * #GP. QEMU answers a fetch from an address that is not canonical with #GP(0). The
 * plugin sends the vCPU, by IRETQ too, to the faulting instruction's own address,
 * made so with GP_TAG, and takes the tag off the saved RIP before the first instruction of the
 * handler. As the address says all, it does no harm if an interrupt, or even a move
 * to another vCPU, comes in between.
 */
#include "vtdx.h"

/*
 * Bits 63:57 are copies of bit 56 in every canonical address, with 5-level
 * paging too; with these turned over, they never are.
 */
#define GP_TAG 0x5a00000000000000ull
#define CANONICAL_SHIFT 56

/* Below the stack pointer, clear of a red zone (System V ABI: 128 bytes). */
#define RED_ZONE 128

/* What IRETQ pops. */
struct iretq_frame {
	uint64_t rip;
	uint64_t cs;
	uint64_t rflags;
	uint64_t rsp;
	uint64_t ss;
};

#define MAX_FOLLOWERS 4

/*
 * Another kernel may have come meanwhile, by kexec. Each CPU of it writes CR4 before
 * anything else that is looked for, which has this look again.
 */
static bool iretq_still_there(struct vcpu *vcpu, uint64_t va)
{
	uint8_t bytes[2];

	if (va && va == vcpu->iretq_va)
		return true;
	if (!va || !vcpu_read_va(vcpu, va, bytes, sizeof(bytes)) || bytes[0] != 0x48 ||
	    bytes[1] != 0xcf)
		return false;
	vcpu->iretq_va = va;
	return true;
}

static bool push_iretq_frame(struct vcpu *vcpu, uint64_t va, uint64_t flags, uint64_t cs)
{
	uint64_t rsp = vcpu_read(vcpu, GPR_RSP);
	uint64_t eflags = vcpu_read(vcpu, REG_EFLAGS);
	struct iretq_frame frame = {
		.rip = va,
		.cs = cs,
		.rflags = (eflags & ~X86_EFLAGS_ARITH) | X86_EFLAGS_FIXED | flags,
		.rsp = rsp,
		.ss = vcpu_read(vcpu, REG_SS),
	};
	uint64_t at = ((rsp - RED_ZONE) & ~0xfull) - sizeof(frame);

	/* A stack in the kernel half: 64-bit mode, where the kernel's IRETQ works. */
	if ((int64_t)rsp >= 0 || eflags & X86_EFLAGS_NT ||
	    !vcpu_write_va(vcpu, at, &frame, sizeof(frame)))
		return false;
	vcpu_write(vcpu, GPR_RSP, at);
	vcpu_write(vcpu, REG_EFLAGS, eflags & ~(X86_EFLAGS_IF | X86_EFLAGS_ARITH));
	return true;
}

/* Goes on at an address by way of IRETQ. Returns where there is none to use. */
static void resume_by_iretq(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t va, uint64_t flags)
{
	uint64_t iretq_va = __atomic_load_n(&vtdx->iretq_va, __ATOMIC_RELAXED);
	uint64_t cs = vcpu_read(vcpu, REG_CS);

	if (cs_is_kernel(cs) && iretq_still_there(vcpu, iretq_va) &&
	    push_iretq_frame(vcpu, va, flags, cs))
		qemu_plugin_set_pc(iretq_va);
}

/**
 * vcpu_resume - go on at an address, with arithmetic flags that nobody may look at
 * @vtdx: the platform
 * @vcpu: the running vCPU
 * @va: the linear address; QEMU wants it as an offset into CS, which has a base
 *	other than 0 in real mode, where CPUs start
 */
void vcpu_resume(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t va)
{
	resume_by_iretq(vtdx, vcpu, va, 0);
	qemu_plugin_set_pc(va - vcpu_cs_base(vcpu));
}

/* Without REX, register numbers 4 to 7 mean AH, CH, DH and BH (SDM vol. 2, 2.2.1.2). */
static void set_byte(struct vcpu *vcpu, const struct insn *insn, bool value)
{
	bool high = !insn->rex && insn->rm >= 4;
	unsigned int reg = high ? insn->rm - 4 : insn->rm;
	unsigned int shift = high ? 8 : 0;
	uint8_t byte = value;

	if (insn->mod != 3)
		vcpu_write_va(vcpu, vcpu_address(vcpu, insn), &byte, 1);
	else
		vcpu_write(vcpu, reg,
			   (vcpu_read(vcpu, reg) & ~(0xffull << shift)) | (uint64_t)value << shift);
}

static uint64_t cmov_source(struct vcpu *vcpu, const struct insn *insn)
{
	uint64_t value = 0;

	if (insn->mod == 3)
		return vcpu_read(vcpu, insn->rm);
	vcpu_read_va(vcpu, vcpu_address(vcpu, insn), &value, insn->rex & INSN_REX_W ? 8 : 4);
	return value;
}

/* A CMOVcc clears the upper half of a 32-bit destination even if it moves nothing. */
static void cmov(struct vcpu *vcpu, const struct insn *insn, bool taken)
{
	uint64_t value = taken ? cmov_source(vcpu, insn) : vcpu_read(vcpu, insn->reg);

	if (!(insn->rex & INSN_REX_W))
		value = (uint32_t)value;
	vcpu_write(vcpu, insn->reg, value);
}

/* Runs one instruction that looks at the flags. Returns where to go on, or 0. */
static uint64_t follow(struct vcpu *vcpu, uint64_t va, uint64_t flags)
{
	uint8_t bytes[INSN_MAX_BYTES];
	struct insn insn;
	bool taken;

	if (!insn_decode(&insn, va, bytes, vcpu_fetch(vcpu, va, bytes, sizeof(bytes))))
		return 0;
	taken = insn_condition(&insn, flags & X86_EFLAGS_CF, flags & X86_EFLAGS_ZF);
	va += insn.len;
	if (insn_is_jcc(&insn))
		return taken ? va + insn.imm : va;
	if (insn_is_setcc(&insn))
		set_byte(vcpu, &insn, taken);
	else if (insn_is_cmovcc(&insn) && !insn.opsize)
		cmov(vcpu, &insn, taken);
	else
		return 0;
	return va;
}

/**
 * vcpu_resume_flags - go on at an address, with new arithmetic flags
 * @vtdx: the platform
 * @vcpu: the running vCPU, at CPL 0 in 64-bit mode
 * @va: the address
 * @flags: those of X86_EFLAGS_ARITH that are to be set; all others are cleared
 */
void vcpu_resume_flags(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t va, uint64_t flags)
{
	resume_by_iretq(vtdx, vcpu, va, flags);
	for (unsigned int i = 0; i < MAX_FOLLOWERS; i++) {
		uint64_t next = follow(vcpu, va, flags);

		if (!next)
			break;
		va = next;
	}
	qemu_plugin_set_pc(va);
}

/**
 * vcpu_raise_gp - end an instruction with #GP(0)
 * @vcpu: the running vCPU
 * @site: the instruction
 *
 * Returns where it can't be done: without paging no address is refused. The
 * instruction is then QEMU's.
 */
void vcpu_raise_gp(struct vcpu *vcpu, const struct site *site)
{
	uint64_t va = vcpu_here(vcpu, &site->insn) ^ GP_TAG;

	if (!(vcpu_read(vcpu, REG_CR0) & X86_CR0_PG))
		return;
	resume_by_iretq(site->vtdx, vcpu, va, 0);
	qemu_plugin_set_pc(va);
}

static bool has_gp_tag(uint64_t va)
{
	int64_t top = (int64_t)(va ^ GP_TAG) >> CANONICAL_SHIFT;

	return top == 0 || top == -1;
}

/**
 * flow_exception - notice a #GP that vcpu_raise_gp() started
 * @index: the vCPU
 * @type: kind of discontinuity
 * @from: RIP that raised the exception
 * @to: unused: QEMU 11.1 calls before it delivers the exception
 * @userdata: the platform
 */
void flow_exception(unsigned int index, int type, uint64_t from, uint64_t to, void *userdata)
{
	struct vtdx *vtdx = userdata;

	(void)type;
	(void)to;
	if (!has_gp_tag(from) || index >= vtdx->nr_vcpus)
		return;
	vtdx->vcpus[index].gp_raised = true;
	vcpu_due(vtdx, index);
}

/*
 * RSP points to the error code, and RIP follows it (SDM vol. 3, 7.14.2), but at the
 * first instruction of a #GP handler alone: elsewhere what is there may look tagged.
 */
static void put_gp_right(struct vcpu *vcpu)
{
	uint64_t at = vcpu_read(vcpu, GPR_RSP) + 8;
	uint64_t rip;

	if (!vcpu_read_va(vcpu, at, &rip, sizeof(rip)) || !has_gp_tag(rip))
		return;
	rip ^= GP_TAG;
	vcpu_write_va(vcpu, at, &rip, sizeof(rip));
}

/**
 * vcpu_due - have on_block_due() called before the next block of a vCPU
 * @vtdx: the platform
 * @index: the vCPU
 */
void vcpu_due(struct vtdx *vtdx, unsigned int index)
{
	qemu_plugin_u64_set(vtdx->due, index, 1);
}

/**
 * on_block_due - put right what the last block of a vCPU left
 * @index: the vCPU, about to run a block
 * @userdata: the platform
 *
 * The saved RIP of a #GP; and the answer to a CPUID or RDMSR that ended its block.
 * The block that comes may be an interrupt's: its handler saves what is put right.
 */
void on_block_due(unsigned int index, void *userdata)
{
	struct vtdx *vtdx = userdata;
	struct vcpu *vcpu = &vtdx->vcpus[index];

	qemu_plugin_u64_set(vtdx->due, index, 0);
	if (vcpu->under_way)
		vcpu->under_way->after(index, (void *)vcpu->under_way);
	if (vcpu->gp_raised)
		put_gp_right(vcpu);
	vcpu->gp_raised = false;
}
