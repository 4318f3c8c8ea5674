/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * State of one simulated TDX module. What may be touched by whom:
 *
 * - sys, lps_done, packages_done, inside, disabling, stopped, handoff_valid and
 *   lp[].initialised are atomic: any LP may look at them at any time;
 * - all that TDH.SYS.INIT, CONFIG, KEY.CONFIG and UPDATE write is written with
 *   the global lock held exclusively, and read by leaves that hold it, or after
 *   the state change (in sys) that publishes it;
 * - a TDMR's position belongs to the holder of that TDMR's lock;
 * - TDH.SYS.DISABLE may touch all of it once disabling is set and it is alone inside.
 */
#ifndef VTDX_MODULE_H
#define VTDX_MODULE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bits.h"
#include "lock.h"
#include "msr.h"
#include "seam.h"
#include "status.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* MAXPHYADDR that the module is built for: CPUID must say this and nothing else. */
#define MAX_PA_BITS 52
#define KIB4 BIT_ULL(12)
#define MIB2 BIT_ULL(21)
#define GIB1 BIT_ULL(30)

#define MAX_TDMRS 64
#define MAX_RESERVED 16
#define PAMT_ENTRY_BYTES 16

/* TDX_FEATURES0 */
#define FEATURES0_1_5_01 0xf0fbfull
#define FEATURES0_TOPOLOGY_ENUM BIT_ULL(20)
#define FEATURES0_SYS_DISABLE BIT_ULL(53)

/* Operand ids (TDX module ABI spec, completion status, operand ids). */
enum operand {
	OPERAND_RAX = 0,
	OPERAND_RCX = 1,
	OPERAND_RDX = 2,
	OPERAND_R8 = 8,
	OPERAND_R9 = 9,
	OPERAND_R10 = 10,
	OPERAND_KET = 187,
};

enum pamt_level { PAMT_4K, PAMT_2M, PAMT_1G, NR_PAMT_LEVELS };

struct range {
	uint64_t base, bytes;
};

struct tdmr {
	struct range range;
	struct range pamt[NR_PAMT_LEVELS];
	struct range reserved[MAX_RESERVED]; /* base is an offset in the TDMR */
	uint64_t done_bytes;
};

struct tdmr_table {
	uint32_t count;
	struct tdmr tdmr[MAX_TDMRS];
};

/* What TDH.SYS.SHUTDOWN leaves for the next module. */
struct handoff {
	uint16_t hv;
	uint32_t bytes;
	uint16_t hkid;
	struct tdmr_table tdmrs;
};

#define MAX_CPUID_ROWS 64

/* What TDH.SYS.INIT saw: the reference for TDH.SYS.LP.INIT. */
struct sampled {
	uint64_t msr[NR_MSRS];
	uint64_t seam_capabilities;
	uint32_t cpuid[MAX_CPUID_ROWS][4];
	uint32_t package_shift;
	bool smrr2;
};

struct lp {
	atomic_bool initialised;
	uint8_t package;
};

struct seam {
	struct seam_config config;
	struct seam_ops ops;
	void *opaque;

	seam_lock_t lock; /* the module-wide one */
	seam_lock_t pseamldr_lock;
	atomic_uint sys;
	atomic_uint lps_done;
	atomic_uint packages_done;
	atomic_uint inside; /* LPs that execute in the module */
	atomic_bool disabling; /* TDH.SYS.DISABLE has begun: other leaves are locked out */
	atomic_bool stopped; /* after a fatal error */

	struct sampled sampled;
	uint32_t package_bitmap;
	uint16_t hkid;
	struct tdmr_table tdmrs;
	seam_lock_t tdmr_lock[MAX_TDMRS];
	struct handoff handoff;
	uint64_t disabled_bytes; /* of TDMRs, that TDH.SYS.DISABLE is done with */
	atomic_bool handoff_valid; /* RD looks at it while UPDATE consumes the data */
	bool pseamldr_seeded; /* under pseamldr_lock */
	struct lp lp[SEAM_MAX_LPS];
};

/**
 * struct call - one SEAMCALL under way
 * @seam: the module
 * @in: registers as they came in; outputs that a leaf clears are gone from @regs
 * @regs: registers of the caller
 * @lp: logical processor
 * @leaf: leaf number
 * @version: leaf version
 * @fatal: set where the module stops for good instead of answering
 */
struct call {
	struct seam *seam;
	const struct seam_regs *in;
	struct seam_regs *regs;
	uint32_t lp;
	uint16_t leaf;
	uint8_t version;
	bool fatal;
};

static inline uint64_t operand_invalid(enum operand operand)
{
	return TDX_OPERAND_INVALID | operand;
}

/* Modules 1.0 have no metadata to read, and are never replaced while the system runs. */
static inline bool is_1_0(const struct seam *seam)
{
	return seam->config.major == 1 && !seam->config.minor;
}

/* 1.5.01 is the module whose source was published first; what came later differs. */
static inline bool is_later(const struct seam *seam)
{
	return !is_1_0(seam) && seam->config.update > 1;
}

static inline bool add_wraps(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum);
}

static inline bool ranges_overlap(struct range a, struct range b)
{
	return a.base < b.base + b.bytes && b.base < a.base + a.bytes;
}

/* seam.c */
void seam_hold(struct seam *seam, uint32_t lp, uint64_t leaf);
uint64_t seam_features0(const struct seam *seam);

/* msr.c */
extern const uint32_t seam_msr_address[NR_MSRS];
bool seam_sample(struct call *call, enum seam_msr msr);

static inline uint64_t incorrect_msr(enum seam_msr msr)
{
	return TDX_INCORRECT_MSR_VALUE | seam_msr_address[msr];
}

/* memory.c */
uint64_t seam_keyid_mask(const struct seam *seam);
bool seam_has_keyid(const struct seam *seam, uint64_t pa);
bool seam_pa_is_shared(const struct seam *seam, uint64_t pa, uint64_t align);
bool seam_in_cmrs(const struct seam *seam, struct range range);
void seam_read_pa(struct seam *seam, uint64_t pa, void *buf, uint64_t bytes);
void seam_write_pa(struct seam *seam, uint64_t pa, const void *buf, uint64_t bytes);

/* cpuid.c */
uint64_t seam_verify_cpuid(struct call *call);
uint64_t seam_compare_cpuid(struct call *call);
uint32_t seam_sampled_cpuid(const struct seam *seam, uint32_t leaf, uint32_t subleaf, uint32_t reg);

/* vmx.c */
uint64_t seam_verify_vmx(struct call *call);

/* init.c */
uint64_t seam_verify_boot_nt4(struct call *call);

/* memory_checks.c */
uint64_t seam_verify_cmrs(struct call *call);
uint64_t seam_verify_smrrs(struct call *call);

/* td_config.c */
#define NR_CPUID_CONFIG 12
#define MAX_CPUID_CONFIG 32
uint64_t seam_cpuid_config_leaf(uint32_t index);
uint64_t seam_cpuid_config_direct(uint32_t index, uint32_t half);
uint64_t seam_cpuid_config_all(const struct seam *seam, uint32_t index, uint32_t half);
uint64_t seam_xfam_fixed0(const struct seam *seam);

/* config.c */
uint64_t seam_check_features(const struct call *call);
bool seam_all_lps_done(struct seam *seam);

/* tdmr.c */
uint64_t seam_check_tdmrs(struct seam *seam, uint64_t array_pa, uint64_t count);
bool seam_tdmr_page_reserved(const struct tdmr *tdmr, uint64_t offset);

/* Leaves: what runs with the leaf's lock held, if it has one (struct leaf). */
uint64_t tdh_sys_init(struct call *call);
uint64_t tdh_sys_lp_init(struct call *call);
uint64_t tdh_sys_config(struct call *call);
uint64_t tdh_sys_key_config(struct call *call);
uint64_t tdh_sys_tdmr_init(struct call *call);
uint64_t tdh_sys_info(struct call *call);
uint64_t tdh_sys_rd(struct call *call);
uint64_t tdh_sys_rdall(struct call *call);
uint64_t tdh_sys_lp_shutdown(struct call *call);
uint64_t tdh_sys_shutdown(struct call *call);
uint64_t tdh_sys_update(struct call *call);
uint64_t tdh_sys_disable(struct call *call);

/* pseamldr.c */
int seam_call_pseamldr(struct seam *seam, uint32_t lp, struct seam_regs *regs);

#endif /* VTDX_MODULE_H */
