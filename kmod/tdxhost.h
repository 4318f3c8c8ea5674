/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of tdxhost offer each other. */
#ifndef TDXHOST_H
#define TDXHOST_H

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/types.h>
#include <linux/tdxhost.h>

#include "seamcall.h"
#include "tdmr.h"

struct attribute_group;
struct device;

/* "No CPU", "no node", "no TDMR" in every field of the ABI. */
#define TDXHOST_NONE (~0U)

/* As much memory as only the kernel knows. */
#define TDXHOST_UNKNOWN_BYTES (~0ULL)

/* Steps of tdx_enable(), numbered from 1. */
#define TDXHOST_NR_STEPS TDXHOST_STEP_KERNEL

/* cpu.c */

/**
 * struct tdxhost_attempt - what one request does on one CPU
 * @result: what it has come to
 * @lp_init: TDH.SYS.LP.INIT, with all of its tries
 * @again: tdx_cpu_enable() is to be called once more, after interrupts had their turn
 */
struct tdxhost_attempt {
	struct tdxhost_cpu_result result;
	struct tdxhost_call lp_init;
	bool again;
};

/**
 * struct tdxhost_request - one request to enable CPUs
 * @attempts: zeroed; what it does on each CPU, by CPU number
 * @seamcalls: SEAMCALLs made, repeated ones included
 * @retries: how many of them repeated one
 * @pass: how often tdx_cpu_enable() was called on each CPU, at most
 * @init: TDH.SYS.INIT, with all of its tries: one series of them in a request, and
 *	one more on each CPU where SEAMCALL has faulted on those before
 * @init_pass: in which @pass the last of them was made
 *
 * @init and @init_pass are protected by the lock of the global initialisation.
 */
struct tdxhost_request {
	struct tdxhost_attempt *attempts;
	atomic_t seamcalls;
	atomic_t retries;
	u32 pass;
	struct tdxhost_call init;
	u32 init_pass;
};

int tdxhost_cpu_init(void);
void tdxhost_cpu_exit(void);
void tdxhost_cpu_took(struct tdxhost_cpu_result *result, const struct tdxhost_call *call);
int tdxhost_cpu_enable(struct tdxhost_request *request, struct tdxhost_attempt *attempt);
void tdxhost_cpu_enable_here(struct tdxhost_cpu_result *result);
void tdxhost_cpus_enable(const struct cpumask *cpus, struct tdxhost_request *request);
u32 tdxhost_cpus_arrivals(void);
u32 tdxhost_cpus_changes(void);
void tdxhost_cpu_result(int cpu, struct tdxhost_cpu_result *result);
bool tdxhost_cpu_enabled(int cpu);
void tdxhost_cpus_log_missing(void);
void tdxhost_cpus_count(struct tdxhost_status *status);
u32 tdxhost_cpus_packages(void);
unsigned int tdxhost_package_online(u32 package, unsigned int but);

/* enable.c */
int tdxhost_enable(u32 flags, struct tdxhost_enable *answer);
void tdxhost_enable_end(void);
bool tdxhost_is_stopped(void);
int tdxhost_step_fail(struct tdxhost_step_result *result, u32 code, u32 cpu);
int tdxhost_step_took(struct tdxhost_step_result *result, const struct tdxhost_call *call);
int tdxhost_step_call(struct tdxhost_step_result *result, struct tdxhost_call *call);
bool tdxhost_module_holds_memory(void);
bool tdxhost_module_wants_cpus(void);

/* status.c */
void tdxhost_status_reset(void);
void tdxhost_status_device(struct device *dev);
void tdxhost_status_pamt(u64 bytes);
void tdxhost_status_running(void);
void tdxhost_status_step(const struct tdxhost_step_result *result, bool begin);
void tdxhost_status_progress(u64 done, u64 total);
void tdxhost_status_module(u32 module_status, const struct tdxhost_step_result *result);
void tdxhost_status_cpus_changed(void);
void tdxhost_status_get(struct tdxhost_status *status);
void tdxhost_steps_get(struct tdxhost_step_result *results);
extern const struct attribute_group *tdxhost_attribute_groups[];

/* metadata.c */

/**
 * struct tdxhost_metadata - what the TDX module says about itself
 * @major: version
 * @minor: likewise
 * @update: likewise
 * @build_date: yyyymmdd as a number, 0 where the TDX module does not tell
 * @build_num: 0 where the TDX module does not tell
 * @features0: TDX_FEATURES0
 * @limits: for the layout of TDMRs
 * @nr_cmrs: used entries of @cmrs
 * @cmrs: convertible memory
 */
struct tdxhost_metadata {
	u16 major;
	u16 minor;
	u16 update;
	u32 build_date;
	u16 build_num;
	u64 features0;
	struct tdmr_limits limits;
	u32 nr_cmrs;
	struct tdmr_range cmrs[32];
};

int tdxhost_metadata_probe(struct tdxhost_call *call);
int tdxhost_metadata_read(struct tdxhost_step_result *result, struct tdxhost_metadata *metadata);

/* memory.c */

/**
 * struct tdxhost_regions - a list of memory regions that grows
 * @list: ascending, disjoint
 * @nr: entries in use
 * @room: entries allocated
 */
struct tdxhost_regions {
	struct tdmr_region *list;
	u32 nr;
	u32 room;
};

/**
 * struct tdxhost_map - what tdx_enable() has made of the machine's memory
 * @metadata: what the TDX module says of itself
 * @has_metadata: whether @metadata has been read
 * @outside: System RAM outside every CMR
 * @tdx: TDX-usable memory
 * @tdmrs: array of TDMRs, NULL before the layout is known
 * @nr_tdmrs: how many
 * @pieces: array of pieces of memory for PAMTs, NULL before there are any
 * @nr_pieces: how many
 * @pamt_bytes: memory held for PAMTs: all of @pieces
 */
struct tdxhost_map {
	struct tdxhost_metadata metadata;
	bool has_metadata;
	struct tdxhost_regions outside;
	struct tdxhost_regions tdx;
	struct tdmr *tdmrs;
	u32 nr_tdmrs;
	struct tdmr_piece *pieces;
	u32 nr_pieces;
	u64 pamt_bytes;
};

/**
 * struct tdxhost_ranges - a list of ranges for user space that grows
 * @list: entries
 * @nr: entries in use
 * @room: entries allocated
 */
struct tdxhost_ranges {
	struct tdxhost_range *list;
	u32 nr;
	u32 room;
};

int tdxhost_memory_init(void);
void tdxhost_memory_exit(void);
void tdxhost_map_free(void);
struct tdxhost_map *tdxhost_map_lock(void);
void tdxhost_map_unlock(void);
void tdxhost_map_forget_tdmrs(void);
int tdxhost_ram_get(struct tdxhost_regions *ram);
int tdxhost_region_add(struct tdxhost_regions *regions, u64 base, u64 size, int node);
void tdxhost_regions_free(struct tdxhost_regions *regions);
int tdxhost_memory_find(struct tdxhost_step_result *result, bool skip_outside);
int tdxhost_memory_check(struct tdxhost_step_result *result);
void tdxhost_memory_hold(bool hold);

/* report.c */
int tdxhost_ranges_get(struct tdxhost_ranges *ranges, u64 *pamt_bytes);
void tdxhost_info_get(struct tdxhost_info *info);
u32 tdxhost_host_code(void);

/* pamt.c */
int tdxhost_pamt_alloc(struct tdmr_piece *piece, u64 bytes, int node,
		       const struct tdmr_memory *memory, const struct tdmr_limits *limits,
		       const bool *stop);
void tdxhost_pamt_trim(struct tdmr_piece *piece);
void tdxhost_pamt_free(struct tdmr_piece *piece);

/* direct */
bool tdxhost_keys_pending(void);

/* power.c */
int tdxhost_power_init(void);
void tdxhost_power_exit(void);

/* platform.c */

/**
 * struct tdxhost_platform - what the processor and the firmware offer
 * @code: why TDX can't be used here, TDXHOST_CODE_*
 * @keyid_first: first private KeyID
 * @nr_keyids: number of private KeyIDs, 0 without TDX
 */
struct tdxhost_platform {
	u32 code;
	u32 keyid_first;
	u32 nr_keyids;
};

void tdxhost_platform_get(struct tdxhost_platform *platform);

#endif /* TDXHOST_H */
