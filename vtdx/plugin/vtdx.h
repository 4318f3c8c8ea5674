/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual TDX platform: state, and what its parts offer each other.
 *
 * Threads: QEMU runs each vCPU on a thread of its own. A struct vcpu is touched
 * by its own thread alone, but for @msr, which is read and written as atomics.
 * Everything else that changes has a lock or is atomic. qemu_plugin_set_pc()
 * leaves a callback by longjmp(): nothing that needs freeing or unlocking may be
 * held when a vcpu_resume*() or vcpu_raise_gp() is called.
 */
#ifndef VTDX_VTDX_H
#define VTDX_VTDX_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "../seam/bits.h"
#include "../seam/seam.h"
#include "insn.h"
#include "platform.h"
#include "qemu_api.h"

struct site;
struct witness;

/* General purpose registers, as ModRM numbers them. */
enum {
	GPR_RAX,
	GPR_RCX,
	GPR_RDX,
	GPR_RBX,
	GPR_RSP,
	GPR_RBP,
	GPR_RSI,
	GPR_RDI,
	GPR_R8,
	GPR_R9,
	GPR_R10,
	GPR_R11,
	GPR_R12,
	GPR_R13,
	GPR_R14,
	GPR_R15,
	REG_RIP,
	REG_EFLAGS,
	REG_CS,
	REG_SS,
	REG_FS_BASE,
	REG_GS_BASE,
	REG_CR0,
	REG_CR4,
	NR_REGS,
};

#define X86_CR0_PE BIT_ULL(0)
#define X86_CR0_PG BIT_ULL(31)
#define X86_CR4_LA57 BIT_ULL(12)
#define X86_CR4_VMXE BIT_ULL(13)
#define X86_EFLAGS_CF 0x001ull
#define X86_EFLAGS_ZF 0x040ull
/* CF, PF, AF, ZF, SF, OF */
#define X86_EFLAGS_ARITH 0x8d5ull
#define X86_EFLAGS_FIXED 0x002ull
#define X86_EFLAGS_IF 0x200ull
#define X86_EFLAGS_NT 0x4000ull

/**
 * struct vcpu - one logical processor
 * @index: QEMU's number of it, which is Linux's
 * @regs: QEMU's register handles
 * @buf: scratch for the plugin interface, so that nothing has to be freed; has room for
 *	VCPU_BUF_BYTES at any time
 * @vmxe: CR4.VMXE, which TCG does not know
 * @vmx: in VMX operation
 * @vmxon_pa: VMXON region
 * @vmxon_waited: the time that VMXON takes has passed, and it comes next
 * @vmcs_pa: the current VMCS, or VMCS_NONE; of no meaning outside VMX operation
 * @leaf: RAX of the SEAMCALL under way
 * @entered_ns: when that SEAMCALL began (CLOCK_MONOTONIC)
 * @held: it has reached a leaf that takes time
 * @debt_ns: modelled time that has not passed yet; below 0: real time ahead of it
 * @under_way: the CPUID or RDMSR that QEMU is about to execute, NULL for none
 * @gp_raised: about to run a #GP handler for vcpu_raise_gp()
 * @cpuid_leaf: leaf of that CPUID
 * @cpuid_subleaf: sub-leaf of that CPUID
 * @rdmsr_value: what that RDMSR is to return
 * @iretq_va: where an IRETQ was seen since it last wrote CR4, or 0
 * @msr: values of the platform's MSRs, in the order of its table
 * @mtrrcap: IA32_MTRRCAP among them, or NULL
 * @seamrr_mask: IA32_SEAMRR_PHYS_MASK among them, or NULL
 */
#define VCPU_BUF_BYTES 64

struct vcpu {
	unsigned int index;
	struct qemu_plugin_register *regs[NR_REGS];
	GByteArray *buf;
	bool vmxe;
	bool vmx;
	uint64_t vmxon_pa;
	bool vmxon_waited;
	uint64_t vmcs_pa;
	uint64_t leaf;
	int64_t entered_ns;
	bool held;
	int64_t debt_ns;
	const struct site *under_way;
	bool gp_raised;
	uint32_t cpuid_leaf;
	uint32_t cpuid_subleaf;
	uint64_t rdmsr_value;
	uint64_t iretq_va;
	uint64_t *msr;
	const uint64_t *mtrrcap;
	const uint64_t *seamrr_mask;
};

/**
 * struct seam_library - the seam ABI, looked up in a library
 * @is_sys_leaf: TDH.SYS leaves, by number
 */
struct seam_library {
	void *handle;
	uint32_t (*abi_version)(void);
	struct seam *(*create)(const struct seam_config *config, const struct seam_ops *ops,
			       void *opaque);
	void (*reload)(struct seam *seam, int keep_handoff);
	int (*call)(struct seam *seam, uint32_t lp, struct seam_regs *regs);
	const char *(*leaf_name)(uint64_t rax);
	const char *(*status_name)(uint64_t status);
	bool is_sys_leaf[PLATFORM_LEAVES];
};

/**
 * struct vtdx - everything
 * @platform: what the platform file says
 * @seam_library: where SEAMCALL goes
 * @seam: the TDX module
 * @module_lock: held for reading by every call of the TDX module
 * @module_used: the TDX module was called since it was loaded (atomic)
 * @witness: the log, or NULL
 * @vcpus: logical processors
 * @nr_vcpus: how many
 * @lock: protects @sites
 * @sites: every instruction of interest that was ever translated (struct site)
 * @due: 1 on a vCPU that has something to be put right before its next block
 * @iretq_va: where the guest kernel has an IRETQ, 0 for not seen yet
 */
struct vtdx {
	struct platform *platform;
	struct seam_library seam_library;
	struct seam *seam;
	GRWLock module_lock;
	bool module_used;
	struct witness *witness;
	struct vcpu *vcpus;
	unsigned int nr_vcpus;
	GMutex lock;
	GHashTable *sites;
	struct qemu_u64 due;
	uint64_t iretq_va;
};

/**
 * struct site - an instruction that the platform answers
 * @vtdx: the platform
 * @insn: the instruction, where it was translated: QEMU runs the same translation
 *	at every address that the page is mapped to, so see vcpu_here()
 * @after: called before the next instruction, wherever that is, or NULL
 */
struct site {
	struct vtdx *vtdx;
	struct insn insn;
	qemu_vcpu_cb after;
};

static inline struct vcpu *site_vcpu(const struct site *site, unsigned int index)
{
	return &site->vtdx->vcpus[index];
}

/* vcpu.c: registers, memory and control flow of the running vCPU. */
void vcpu_init(struct vcpu *vcpu);
uint64_t vcpu_read(struct vcpu *vcpu, unsigned int reg);
void vcpu_write(struct vcpu *vcpu, unsigned int reg, uint64_t value);
bool vcpu_is_kernel(struct vcpu *vcpu);

/* The lower bits of CS are the privilege level. */
static inline bool cs_is_kernel(uint64_t cs)
{
	return (cs & 3) == 0;
}

uint64_t vcpu_cs_base(struct vcpu *vcpu);
uint64_t vcpu_here(struct vcpu *vcpu, const struct insn *insn);
uint64_t vcpu_next(struct vcpu *vcpu, const struct insn *insn);
uint64_t vcpu_address(struct vcpu *vcpu, const struct insn *insn);
bool vcpu_read_va(struct vcpu *vcpu, uint64_t va, void *data, size_t bytes);
bool vcpu_write_va(struct vcpu *vcpu, uint64_t va, const void *data, size_t bytes);
size_t vcpu_fetch(struct vcpu *vcpu, uint64_t va, uint8_t *bytes, size_t nr);
bool vcpu_read_pa(struct vcpu *vcpu, uint64_t pa, void *data, uint64_t bytes);
bool vcpu_write_pa(struct vcpu *vcpu, uint64_t pa, const void *data, uint64_t bytes);

/* flow.c: how an instruction that the platform answered ends. */
void vcpu_resume(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t va) G_GNUC_NORETURN;
void vcpu_resume_flags(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t va,
		       uint64_t flags) G_GNUC_NORETURN;
void vcpu_raise_gp(struct vcpu *vcpu, const struct site *site);
void vcpu_due(struct vtdx *vtdx, unsigned int index);
void on_block_due(unsigned int index, void *userdata);
void flow_exception(unsigned int index, int type, uint64_t from, uint64_t to, void *userdata);

/* translate.c: finds the instructions. */
void translate_tb(struct qemu_plugin_tb *tb, void *userdata);

/* Handlers: one for each instruction. */
void on_seamcall(unsigned int index, void *userdata);
void on_vmxon(unsigned int index, void *userdata);
void on_vmxoff(unsigned int index, void *userdata);
void on_vmclear(unsigned int index, void *userdata);
void on_vmptrld(unsigned int index, void *userdata);
void on_vmptrst(unsigned int index, void *userdata);
void on_vmread(unsigned int index, void *userdata);
void on_vmwrite(unsigned int index, void *userdata);
void on_invept(unsigned int index, void *userdata);
void on_invvpid(unsigned int index, void *userdata);
void on_vmlaunch(unsigned int index, void *userdata);
void on_vmresume(unsigned int index, void *userdata);
void on_mov_to_cr(unsigned int index, void *userdata);
void on_mov_from_cr(unsigned int index, void *userdata);
void on_rdmsr(unsigned int index, void *userdata);
void on_after_rdmsr(unsigned int index, void *userdata);
void on_wrmsr(unsigned int index, void *userdata);
void on_cpuid(unsigned int index, void *userdata);
void on_after_cpuid(unsigned int index, void *userdata);
void on_movdir64b(unsigned int index, void *userdata);
void on_pause(unsigned int index, void *userdata);

/* vmx.c */
void vmx_check_reset(struct vcpu *vcpu);
void vmx_leave_pseamldr(struct vtdx *vtdx, struct vcpu *vcpu);
bool vmx_address_fits(struct vtdx *vtdx, struct vcpu *vcpu, uint64_t pa);

/* msr.c */
void msr_init(struct vtdx *vtdx);
bool msr_read(struct vtdx *vtdx, unsigned int lp, uint32_t msr, uint64_t *value);

/* The value of an MSR by where it is, 0 where a CPU does not have it. */
static inline uint64_t msr_value(const uint64_t *msr)
{
	return msr ? __atomic_load_n(msr, __ATOMIC_RELAXED) : 0;
}

bool msr_put(struct vtdx *vtdx, unsigned int lp, uint32_t msr, uint64_t value);
void msr_list_written(struct vtdx *vtdx, GString *words);

/* cpuid.c */
uint32_t cpuid_signature(const struct platform *platform);
void cpuid_module(struct vtdx *vtdx, unsigned int lp, uint32_t leaf, uint32_t subleaf,
		  uint32_t *regs);

/* call.c */
bool seam_library_open(struct seam_library *library, const char *path);
bool seam_start(struct vtdx *vtdx);
bool seam_restart(struct vtdx *vtdx);

/* control.c */
bool control_start(struct vtdx *vtdx, const char *path);

/* carry.c: what a machine that starts from another one's memory takes over. */
bool carry_save(struct vtdx *vtdx, GString *answer);
bool carry_restore(struct vtdx *vtdx, const char *words, GString *answer);

#endif /* VTDX_VTDX_H */
