/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The seam ABI: what lies behind the SEAMCALL instruction.
 *
 * An implementation is a shared library that exports the functions declared
 * here. It models the TDX module and P-SEAMLDR as a host sees them, knows
 * nothing of an emulator, and reaches the machine through struct seam_ops.
 *
 * Threads: seam_call() is called from many threads at once, one for each
 * logical processor, and so are the ops, each on the thread of the call that it
 * serves. seam_create() and seam_destroy() run alone. Nothing waits for a lock:
 * the TDX module answers busy.
 */
#ifndef VTDX_SEAM_H
#define VTDX_SEAM_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEAM_ABI_VERSION 2

#define SEAM_EXPORT __attribute__((visibility("default")))

#define SEAM_MAX_CMRS 32
#define SEAM_MAX_PACKAGES 8
#define SEAM_MAX_LPS 4096

/*
 * General purpose registers of the calling processor, read and written in place.
 * A register that the leaf does not touch stays.
 */
struct seam_regs {
	uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
};

/* What seam_call() returns: how the SEAMCALL instruction itself ends. */
#define SEAM_DONE 0 /* completed: RAX holds the completion status */
#define SEAM_VMFAILINVALID 1 /* CF set, registers unchanged */
#define SEAM_FATAL 2 /* the module stopped for good: reset the platform */

/* States of the TDX module (structure seam_state). */
#define SEAM_SYSINIT_PENDING 0
#define SEAM_SYSINIT_DONE 1
#define SEAM_SYSCONFIG_DONE 2
#define SEAM_SYS_READY 3
#define SEAM_SYS_SHUTDOWN 4

/* What PCONFIG answers (seam_ops.pconfig). */
#define SEAM_PCONFIG_SUCCESS 0
#define SEAM_PCONFIG_BAD_COMMAND 1
#define SEAM_PCONFIG_NO_ENTROPY 2
#define SEAM_PCONFIG_BAD_KEYID 3
#define SEAM_PCONFIG_BAD_ALGORITHM 4
#define SEAM_PCONFIG_BUSY 5

struct seam_cmr {
	uint64_t base_pa;
	uint64_t bytes; /* 0: an empty entry */
};

/**
 * struct seam_config - what firmware and the loader hand to the TDX module
 * @size: sizeof(struct seam_config)
 * @loaded: 1 when a TDX module is loaded and callable, 0: VMfailInvalid
 * @lps: logical processors that firmware enabled
 * @packages: packages that firmware enabled
 * @package_fms: CPUID 1 EAX of each package
 * @nr_cmrs: entries used in @cmrs
 * @skip_smrr2: 1 when firmware says that SMRR2 is not there
 * @no_integrity: 1 when firmware runs TDX without memory integrity
 * @seamrr_base_pa: SEAM range
 * @seamrr_bytes: likewise
 * @major: TDX module version, as in 1.5.16
 * @minor: likewise
 * @update: likewise; 1 gives the field table and leaves of 1.5.01, more the
 *	later ones
 * @internal: fourth version number
 * @build_date: yyyymmdd as a number
 * @build_num: build number
 * @module_hv: handoff version of the module
 * @min_update_hv: lowest handoff version that it takes
 * @num_handoff_pages: pages for handoff data, minus one
 * @no_downgrade: 1 when shutdown takes the native handoff version only
 * @__pad: 0
 * @tdx_features0: TDX_FEATURES0, 0 for what the version has by itself; bit 53
 *	(SYS_DISABLE), which no version has by itself, adds TDH.SYS.DISABLE
 * @remaining_updates: P-SEAMLDR's count of updates left
 * @__pad2: 0
 * @cmrs: convertible memory, in table order
 */
struct seam_config {
	uint32_t size;
	uint32_t loaded;
	uint32_t lps;
	uint32_t packages;
	uint32_t package_fms[SEAM_MAX_PACKAGES];
	uint32_t nr_cmrs;
	uint32_t skip_smrr2;
	uint32_t no_integrity;
	uint32_t build_date;
	uint64_t seamrr_base_pa;
	uint64_t seamrr_bytes;
	uint16_t major;
	uint16_t minor;
	uint16_t update;
	uint16_t internal;
	uint16_t build_num;
	uint16_t module_hv;
	uint16_t min_update_hv;
	uint16_t num_handoff_pages;
	uint32_t no_downgrade;
	uint32_t __pad;
	uint64_t tdx_features0;
	uint32_t remaining_updates;
	uint32_t __pad2;
	struct seam_cmr cmrs[SEAM_MAX_CMRS];
};

/**
 * struct seam_ops - how the module reaches the machine
 * @size: sizeof(struct seam_ops)
 * @__pad: 0
 * @read_pa: read physical memory; KeyID bits are stripped already; 0 or -1
 * @write_pa: write physical memory; likewise
 * @rdmsr: read an MSR of LP @lp; 0, or -1 where it would fault
 * @cpuid: CPUID of LP @lp; regs are EAX, EBX, ECX, EDX
 * @rdrand: 1 and a number, or 0 for no entropy
 * @pconfig: PCONFIG on LP @lp, SEAM_PCONFIG_*; @keyid_ctrl as in the
 *	MKTME_KEY_PROGRAM structure (command in 7:0, algorithm mask in 23:8)
 * @seam_capabilities: SEAMOPS CAPABILITIES of LP @lp
 * @hold: called once in each call that passed the dispatcher, with the locks
 *	of the leaf held and before its work; takes the leaf's modelled time.
 *	@leaf is the number without version, for P-SEAMLDR all of RAX. Not called
 *	where a lock is busy, nor by what a leaf refuses before it takes its lock
 *	(TDMR.INIT, SHUTDOWN). May be NULL
 * @interrupt_pending: 1 while an interrupt waits for LP @lp, else 0. Interruptible
 *	leaves ask after each piece of their work while there is more to do (for
 *	TDH.SYS.DISABLE a piece is 1 GiB of TDMRs), so that every call makes
 *	progress. May be NULL: never
 */
struct seam_ops {
	uint32_t size;
	uint32_t __pad;
	int (*read_pa)(void *opaque, uint64_t pa, void *buf, uint64_t bytes);
	int (*write_pa)(void *opaque, uint64_t pa, const void *buf, uint64_t bytes);
	int (*rdmsr)(void *opaque, uint32_t lp, uint32_t msr, uint64_t *value);
	void (*cpuid)(void *opaque, uint32_t lp, uint32_t leaf, uint32_t subleaf, uint32_t *regs);
	int (*rdrand)(void *opaque, uint32_t lp, uint64_t *value);
	int (*pconfig)(void *opaque, uint32_t lp, uint32_t keyid, uint32_t keyid_ctrl);
	uint64_t (*seam_capabilities)(void *opaque, uint32_t lp);
	void (*hold)(void *opaque, uint32_t lp, uint64_t leaf);
	int (*interrupt_pending)(void *opaque, uint32_t lp);
};

/**
 * struct seam_state - what tests may look at beside the answers
 * @size: sizeof(struct seam_state)
 * @sys: SEAM_SYSINIT_PENDING and so on
 * @lps: logical processors initialised
 * @packages: packages that have their key
 */
struct seam_state {
	uint32_t size;
	uint32_t sys;
	uint32_t lps;
	uint32_t packages;
};

struct seam;

/* SEAM_ABI_VERSION of the library. */
SEAM_EXPORT uint32_t seam_abi_version(void);

/*
 * A platform with a freshly loaded TDX module. config and ops are copied.
 * NULL when a size is not known or a number is out of bounds.
 */
SEAM_EXPORT struct seam *seam_create(const struct seam_config *config, const struct seam_ops *ops,
				     void *opaque);
SEAM_EXPORT void seam_destroy(struct seam *seam);

/*
 * A freshly loaded TDX module on the same platform, as SEAMLDR.INSTALL leaves it:
 * all state of the old one is gone but, where keep_handoff is not 0, the handoff
 * data that its TDH.SYS.SHUTDOWN wrote. P-SEAMLDR stays as it is. Runs alone.
 */
SEAM_EXPORT void seam_reload(struct seam *seam, int keep_handoff);

/* One SEAMCALL on logical processor lp, which is in VMX operation. */
SEAM_EXPORT int seam_call(struct seam *seam, uint32_t lp, struct seam_regs *regs);

SEAM_EXPORT void seam_get_state(struct seam *seam, struct seam_state *state);

/* Names as Intel spells them, or NULL: for logs, and so that they stand once. */
SEAM_EXPORT const char *seam_leaf_name(uint64_t rax);
SEAM_EXPORT const char *seam_status_name(uint64_t status);

#ifdef __cplusplus
}
#endif

#endif /* VTDX_SEAM_H */
