/* SPDX-License-Identifier: GPL-2.0-only */
/* SEAMCALL: numbers of the TDX module's ABI, and how a call is made. */
#ifndef TDXHOST_SEAMCALL_H
#define TDXHOST_SEAMCALL_H

#include <linux/bits.h>
#include <linux/tdxhost.h>
#include <linux/types.h>

/* Leaves, Intel TDX Module ABI Specification, "Host-Side (SEAMCALL) Interface Functions". */
#define TDH_PHYMEM_PAGE_RDMD 24
#define TDH_SYS_KEY_CONFIG 31
#define TDH_SYS_INIT 33
#define TDH_SYS_RD 34
#define TDH_SYS_LP_INIT 35
#define TDH_SYS_TDMR_INIT 36
#define TDH_SYS_CONFIG 45

/* Completion status, RAX: the upper half is the code, the lower half its detail. */
#define TDX_STATUS_MASK GENMASK_ULL(63, 32)
#define TDX_STATUS_ERROR BIT_ULL(63)
#define TDX_STATUS_NON_RECOVERABLE BIT_ULL(62)

#define TDX_OPERAND_BUSY 0x8000020000000000ULL
#define TDX_SYS_BUSY 0x8000020200000000ULL
#define TDX_RND_NO_ENTROPY 0x8000020300000000ULL
#define TDX_SYS_INIT_NOT_PENDING 0xC000050000000000ULL
#define TDX_SYS_LP_INIT_DONE 0xC000050300000000ULL
#define TDX_SYS_NOT_READY 0xC000050500000000ULL
#define TDX_SYS_SHUTDOWN 0xC000050600000000ULL
#define TDX_SYS_CONFIG_NOT_PENDING 0xC000050C00000000ULL
#define TDX_KEY_GENERATION_FAILED 0x8000080000000000ULL
#define TDX_TDMR_ALREADY_INITIALIZED 0x00000A0300000000ULL

struct tdxhost_regs {
	u64 rcx;
	u64 rdx;
	u64 r8;
	u64 r9;
	u64 r10;
	u64 r11;
};

/**
 * struct tdxhost_call - one SEAMCALL: what goes in, and what came of it
 * @leaf: RAX
 * @in: registers that go in; a repeated call starts from them again
 * @out: registers of the last try: those of @in where SEAMCALL did not reach the TDX module, 0
 *	where VMX operation could not be entered
 * @status: RAX as the TDX module left it; 0 where it was not reached
 * @code: TDXHOST_CODE_*; NONE for a status of success class
 * @trap: vector of the fault, 0 for none
 * @cpu: CPU of the last try
 * @calls: SEAMCALLs made; grows when the struct is used again
 * @ns: how long they took; grows likewise
 * @retries: how many of them repeated one that the TDX module had turned away
 * @tries: SEAMCALLs made since the last that was not turned away
 * @again: turned away by something that passes, and worth another try
 */
struct tdxhost_call {
	u64 leaf;
	struct tdxhost_regs in;
	struct tdxhost_regs out;
	u64 status;
	u32 code;
	u32 trap;
	u32 cpu;
	u32 calls;
	u64 ns;
	u32 retries;
	u32 tries;
	bool again;
};

static inline u64 tdxhost_status_code(u64 status)
{
	return status & TDX_STATUS_MASK;
}

/* seamcall.c */
int tdxhost_seamcall_in_vmx(struct tdxhost_call *call);
int tdxhost_seamcall_atomic(struct tdxhost_call *call);
bool tdxhost_wait_again(bool again);
int tdxhost_seamcall(struct tdxhost_call *call);
int tdxhost_seamcall_stretch(struct tdxhost_call *call, u64 rdx_end);

/* outcome.c */
int tdxhost_call_errno(const struct tdxhost_call *call);
int tdxhost_code_errno(u32 code);
const char *tdxhost_code_text(u32 code);
void tdxhost_log_failure(const char *what, const struct tdxhost_step_result *failure, u32 others);

/* vmx.c */

/**
 * struct tdxhost_vmx - a stretch of VMX operation on one CPU
 * @update_cr4: the kernel's own way to change CR4, for a stretch in which others run on
 *	the CPU; NULL for a window with interrupts off
 * @cr4: CR4 to go back to
 * @borrowed: VMX operation was on already, and stays on
 * @code: TDXHOST_CODE_* where it could not be entered
 * @trap: vector of the fault of VMXON, 0 for none
 */
struct tdxhost_vmx {
	void (*update_cr4)(unsigned long set, unsigned long clear);
	unsigned long cr4;
	bool borrowed;
	u32 code;
	u32 trap;
};

int tdxhost_vmx_init(void);
void tdxhost_vmx_exit(void);
u32 tdxhost_vmx_enter(struct tdxhost_vmx *vmx);
void tdxhost_vmx_leave(const struct tdxhost_vmx *vmx);

/* vmx_hold.c */
int tdxhost_vmx_hold_init(void);
void tdxhost_vmx_hold_exit(void);
int tdxhost_vmx_hold(struct tdxhost_step_result *result);
void tdxhost_vmx_release(void);

#endif /* TDXHOST_SEAMCALL_H */
