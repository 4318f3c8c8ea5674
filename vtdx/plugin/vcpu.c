// SPDX-License-Identifier: GPL-2.0-or-later
#include <sched.h>
#include <string.h>

#include "vtdx.h"

/* QEMU's names, in the order of NR_REGS. */
static const char *const reg_names[NR_REGS] = {
	"rax", "rcx",	 "rdx", "rbx", "rsp",	  "rbp",     "rsi", "rdi",
	"r8",  "r9",	 "r10", "r11", "r12",	  "r13",     "r14", "r15",
	"rip", "eflags", "cs",	"ss",  "fs_base", "gs_base", "cr0", "cr4",
};

/**
 * vcpu_init - look up the registers of a new vCPU
 * @vcpu: the vCPU, the running one
 */
void vcpu_init(struct vcpu *vcpu)
{
	GArray *all = qemu_plugin_get_registers();

	for (guint i = 0; i < all->len; i++) {
		struct qemu_register_info *info = &g_array_index(all, struct qemu_register_info, i);

		for (unsigned int reg = 0; reg < NR_REGS; reg++)
			if (!strcmp(info->name, reg_names[reg]) && !vcpu->regs[reg])
				vcpu->regs[reg] = info->handle;
	}
	g_array_free(all, TRUE);
	for (unsigned int reg = 0; reg < NR_REGS; reg++)
		if (!vcpu->regs[reg])
			g_error("vtdx: QEMU has no register %s", reg_names[reg]);
}

/* The scratch with room for some bytes, which it keeps; GLib's own way costs as much as a read. */
static void set_size(struct vcpu *vcpu, guint bytes)
{
	if (bytes <= VCPU_BUF_BYTES)
		vcpu->buf->len = bytes;
	else
		g_byte_array_set_size(vcpu->buf, bytes);
}

/**
 * vcpu_read - read a register
 * @vcpu: the running vCPU
 * @reg: GPR_* or REG_*
 */
uint64_t vcpu_read(struct vcpu *vcpu, unsigned int reg)
{
	uint64_t value = 0;

	set_size(vcpu, 0);
	if (qemu_plugin_read_register(vcpu->regs[reg], vcpu->buf))
		memcpy(&value, vcpu->buf->data, MIN(vcpu->buf->len, sizeof(value)));
	return value;
}

/**
 * vcpu_write - write a register
 * @vcpu: the running vCPU
 * @reg: GPR_* or REG_*; REG_EFLAGS without arithmetic flags: set there, they would
 *	stay so for good, as TCG keeps the real ones elsewhere
 * @value: new value
 */
void vcpu_write(struct vcpu *vcpu, unsigned int reg, uint64_t value)
{
	set_size(vcpu, sizeof(value));
	memcpy(vcpu->buf->data, &value, sizeof(value));
	qemu_plugin_write_register(vcpu->regs[reg], vcpu->buf);
}

/**
 * vcpu_is_kernel - whether the vCPU runs at CPL 0
 * @vcpu: the running vCPU
 */
bool vcpu_is_kernel(struct vcpu *vcpu)
{
	return cs_is_kernel(vcpu_read(vcpu, REG_CS));
}

/**
 * vcpu_cs_base - base of the code segment
 * @vcpu: the running vCPU
 *
 * Not 0 in real mode, where CPUs start; everywhere else it is taken to be 0, as
 * kernels have it.
 */
uint64_t vcpu_cs_base(struct vcpu *vcpu)
{
	return vcpu_read(vcpu, REG_CR0) & X86_CR0_PE ? 0 : vcpu_read(vcpu, REG_CS) << 4;
}

/**
 * vcpu_here - linear address of the instruction that runs
 * @vcpu: the running vCPU
 * @insn: the instruction as it was translated, maybe elsewhere
 *
 * QEMU keeps RIP up to date at the start of a translation block, which is at most a
 * page before the instruction; how far into a page that is, holds everywhere.
 */
uint64_t vcpu_here(struct vcpu *vcpu, const struct insn *insn)
{
	uint64_t block = vcpu_read(vcpu, REG_RIP);

	if (!insn_is_in_upper_half(insn))
		block += vcpu_cs_base(vcpu);
	return block + ((insn->va - block) & 0xfff);
}

/**
 * vcpu_next - linear address after the instruction that runs
 * @vcpu: the running vCPU
 * @insn: the instruction
 */
uint64_t vcpu_next(struct vcpu *vcpu, const struct insn *insn)
{
	return vcpu_here(vcpu, insn) + insn->len;
}

/**
 * vcpu_address - linear address of an instruction's memory operand
 * @vcpu: the running vCPU
 * @insn: the instruction
 */
uint64_t vcpu_address(struct vcpu *vcpu, const struct insn *insn)
{
	uint64_t va = (int64_t)insn->disp;

	if (insn->rip_relative)
		va += vcpu_next(vcpu, insn);
	if (insn->base != INSN_NO_REG)
		va += vcpu_read(vcpu, insn->base);
	if (insn->index != INSN_NO_REG)
		va += vcpu_read(vcpu, insn->index) << insn->scale;
	if (insn->addr32)
		va = (uint32_t)va;
	if (insn->segment == INSN_SEG_FS)
		va += vcpu_read(vcpu, REG_FS_BASE);
	else if (insn->segment == INSN_SEG_GS)
		va += vcpu_read(vcpu, REG_GS_BASE);
	return va;
}

/**
 * vcpu_read_va - read guest memory at a linear address
 * @vcpu: the running vCPU
 * @va: address
 * @data: where to
 * @bytes: how much
 *
 * Permissions are not looked at. Return: false when it is not mapped.
 */
bool vcpu_read_va(struct vcpu *vcpu, uint64_t va, void *data, size_t bytes)
{
	if (!qemu_plugin_read_memory_vaddr(va, vcpu->buf, bytes))
		return false;
	memcpy(data, vcpu->buf->data, bytes);
	return true;
}

/**
 * vcpu_write_va - write guest memory at a linear address
 * @vcpu: the running vCPU
 * @va: address
 * @data: where from
 * @bytes: how much
 *
 * Permissions are not looked at. Return: false when it is not mapped.
 */
bool vcpu_write_va(struct vcpu *vcpu, uint64_t va, const void *data, size_t bytes)
{
	set_size(vcpu, bytes);
	memcpy(vcpu->buf->data, data, bytes);
	return qemu_plugin_write_memory_vaddr(va, vcpu->buf);
}

/**
 * vcpu_fetch - read as many instruction bytes as are mapped
 * @vcpu: the running vCPU
 * @va: address
 * @bytes: where to
 * @nr: how many at most
 *
 * Return: how many were read.
 */
size_t vcpu_fetch(struct vcpu *vcpu, uint64_t va, uint8_t *bytes, size_t nr)
{
	size_t first = MIN(nr, 0x1000 - (va & 0xfff));

	if (!vcpu_read_va(vcpu, va, bytes, first))
		return 0;
	if (first < nr && vcpu_read_va(vcpu, va + first, bytes + first, nr - first))
		return nr;
	return first;
}

/**
 * vcpu_read_pa - read guest memory at a physical address
 * @vcpu: the running vCPU
 * @pa: address
 * @data: where to
 * @bytes: how much
 *
 * Return: false where there is no memory.
 */
bool vcpu_read_pa(struct vcpu *vcpu, uint64_t pa, void *data, uint64_t bytes)
{
	if (qemu_plugin_read_memory_hwaddr(pa, vcpu->buf, bytes) != QEMU_HWADDR_OK)
		return false;
	memcpy(data, vcpu->buf->data, bytes);
	return true;
}

/**
 * vcpu_write_pa - write guest memory at a physical address
 * @vcpu: the running vCPU
 * @pa: address
 * @data: where from
 * @bytes: how much
 *
 * Return: false where there is no memory.
 */
bool vcpu_write_pa(struct vcpu *vcpu, uint64_t pa, const void *data, uint64_t bytes)
{
	g_byte_array_set_size(vcpu->buf, bytes);
	memcpy(vcpu->buf->data, data, bytes);
	return qemu_plugin_write_memory_hwaddr(pa, vcpu->buf) == QEMU_HWADDR_OK;
}

/**
 * on_pause - let another thread run while a vCPU spins
 * @index: the vCPU
 * @userdata: the site
 *
 * A vCPU that waits for another one, for the answer to an IPI or for a spinlock, would
 * keep it from running where there are more vCPUs than processors. A processor's
 * pause-loop exiting is there for the same (SDM 3C, "Instructions That Cause VM Exits
 * Conditionally").
 */
void on_pause(unsigned int index G_GNUC_UNUSED, void *userdata G_GNUC_UNUSED)
{
	sched_yield();
}
