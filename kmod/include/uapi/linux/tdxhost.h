/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * /dev/tdxhost: bring-up of the Intel TDX module on a host.
 *
 * Every argument is a struct that begins with its own size, from 8 to 4096
 * bytes. A caller sets "size" to the sizeof() that it was built with. The kernel
 * takes a shorter struct (missing fields read as 0) and a longer one whose extra
 * bytes are 0; on the way out it writes no more than "size" bytes.
 *
 * Arrays travel by address, count and entry_size. On input, count is the room
 * in entries and entry_size the sizeof() of the caller's entry; on output they
 * are the number of entries there are and the kernel's sizeof(). Entries stand
 * entry_size (the caller's, from 1 to 4096) bytes apart; what the kernel does not
 * know of an entry is zeroed, what the caller does not know is left out. An
 * address of 0 with count 0 asks for the count alone.
 *
 * What errno means, for every call; it says whether the request was served.
 * Where several are right, any of them may come:
 *  - ENOTTY: the number is not one of this driver's calls;
 *  - E2BIG: the struct, or an entry that is read, has bytes set that this kernel
 *    does not know, or the struct is longer than 4096 bytes;
 *  - EINVAL: size, entry_size, a flag, a reserved field or a value is wrong;
 *  - EFAULT: an address could not be read or written;
 *  - EMSGSIZE: an array has too little room; count says how much is needed;
 *  - ENOMEM: no kernel memory for the request itself;
 *  - EINTR: a signal came before anything was started;
 *  - ENODEV: this host has no TDX (CPU_ENABLE, CPUS_ENABLE, ENABLE, SYS_RD);
 *  - ENXIO: no enabled CPU is there to ask the TDX module on (SYS_RD);
 *  - EOPNOTSUPP: the provider in use does not serve this call, or a flag of it.
 * open() answers EPERM without CAP_SYS_ADMIN or under kernel lockdown.
 *
 * What the hardware answered is never in errno but in fields: "error" (an
 * errno as a positive number, 0 is success), "code" (TDXHOST_CODE_*, the
 * driver's own finding), "trap", "leaf", "seam_status" and registers.
 *
 * Times are CLOCK_MONOTONIC nanoseconds, addresses physical, sizes bytes.
 */
#ifndef _UAPI_LINUX_TDXHOST_H
#define _UAPI_LINUX_TDXHOST_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TDXHOST_IOCTL_TYPE 0xBB

#define TDXHOST_GET_INFO _IO(TDXHOST_IOCTL_TYPE, 0x00)
#define TDXHOST_GET_STATUS _IO(TDXHOST_IOCTL_TYPE, 0x01)
#define TDXHOST_CPU_ENABLE _IO(TDXHOST_IOCTL_TYPE, 0x02)
#define TDXHOST_CPUS_ENABLE _IO(TDXHOST_IOCTL_TYPE, 0x03)
#define TDXHOST_GET_CPUS _IO(TDXHOST_IOCTL_TYPE, 0x04)
#define TDXHOST_ENABLE _IO(TDXHOST_IOCTL_TYPE, 0x05)
#define TDXHOST_GET_STEPS _IO(TDXHOST_IOCTL_TYPE, 0x06)
#define TDXHOST_SYS_RD _IO(TDXHOST_IOCTL_TYPE, 0x07)
#define TDXHOST_GET_MEMORY _IO(TDXHOST_IOCTL_TYPE, 0x08)

/* Which code initialises TDX on this kernel. */
#define TDXHOST_PROVIDER_DIRECT 1
#define TDXHOST_PROVIDER_KERNEL 2
#define TDXHOST_PROVIDER_OBSERVER 3

/* Where the TDX module stands, as tdx_enable() knows it. */
#define TDXHOST_MODULE_UNKNOWN 0
#define TDXHOST_MODULE_INITIALIZED 1
#define TDXHOST_MODULE_ERROR 2

/* Where a CPU stands. */
#define TDXHOST_CPU_UNKNOWN 0
#define TDXHOST_CPU_ENABLED 1
#define TDXHOST_CPU_FAILED 2
#define TDXHOST_CPU_OFFLINE 3

/* The steps of tdx_enable(), in order; each provider has some of them. */
#define TDXHOST_STEP_NONE 0
#define TDXHOST_STEP_PLATFORM 1
#define TDXHOST_STEP_CPUS 2
#define TDXHOST_STEP_MODULE_INFO 3
#define TDXHOST_STEP_MEMORY 4
#define TDXHOST_STEP_TDMR_LAYOUT 5
#define TDXHOST_STEP_PAMT_ALLOC 6
#define TDXHOST_STEP_CONFIG 7
#define TDXHOST_STEP_CACHE_FLUSH 8
#define TDXHOST_STEP_KEY_CONFIG 9
#define TDXHOST_STEP_TDMR_INIT 10
#define TDXHOST_STEP_KERNEL 11 /* the kernel's own tdx_enable(), whatever its steps */

/* The driver's own findings; no number here is a TDX completion status. */
#define TDXHOST_CODE_NONE 0
#define TDXHOST_CODE_SEAMCALL 1 /* the TDX module refused: see seam_status */
#define TDXHOST_CODE_NO_MODULE 2 /* VMfailInvalid: no TDX module is loaded */
#define TDXHOST_CODE_TRAP 3 /* SEAMCALL faulted: see trap */
#define TDXHOST_CODE_NO_KEYIDS 4 /* firmware set no private KeyIDs aside */
#define TDXHOST_CODE_ONE_KEYID 5 /* one private KeyID, and two are needed */
#define TDXHOST_CODE_NO_VMX 6 /* the CPU does not offer VMX */
#define TDXHOST_CODE_VMX_LOCKED_OFF 7 /* IA32_FEATURE_CONTROL forbids VMXON */
#define TDXHOST_CODE_VMXON_FAILED 8 /* VMXON failed or faulted: see trap */
#define TDXHOST_CODE_NO_SEAMRR 9 /* the SEAM range is not enabled on the CPU */
#define TDXHOST_CODE_CPU_NOT_ENABLED 10 /* an online CPU is not enabled: see cpu */
#define TDXHOST_CODE_CPU_OFFLINE 11 /* the CPU is not online */
#define TDXHOST_CODE_BAD_METADATA 12 /* the TDX module's metadata makes no sense */
#define TDXHOST_CODE_NO_CMRS 13 /* the TDX module lists no convertible memory */
#define TDXHOST_CODE_RAM_OUTSIDE_CMR 14 /* see OUTSIDE ranges of GET_MEMORY */
#define TDXHOST_CODE_TOO_MANY_TDMRS 15 /* memory needs more TDMRs than there are */
#define TDXHOST_CODE_TOO_MANY_RESERVED 16 /* a TDMR needs too many reserved areas */
#define TDXHOST_CODE_NO_MEMORY 17 /* an allocation failed */
#define TDXHOST_CODE_PACKAGE_OFFLINE 18 /* a package has no online CPU */
#define TDXHOST_CODE_EARLIER_FAILURE 19 /* ERROR state; ask again with RETRY */
#define TDXHOST_CODE_FINAL 20 /* RETRY can't help: a reboot or another TDX module can */
#define TDXHOST_CODE_INTERRUPTED 21 /* a signal ended the call between two steps */
#define TDXHOST_CODE_NO_MOVDIR64B 22 /* the CPU lacks MOVDIR64B */
#define TDXHOST_CODE_KERNEL 23 /* the kernel's own initialisation failed: its log says more */
#define TDXHOST_CODE_VMX_BUSY 24 /* somebody else was just turning VMX on or off */

/* Bits of tdxhost_info.features: what this driver can do, on this kernel. */
#define TDXHOST_FEATURE_RETRY 0x1
#define TDXHOST_FEATURE_SKIP_NON_CMR 0x2

/* Bits of tdxhost_info.valid: which groups of fields hold something. */
#define TDXHOST_INFO_KEYIDS 0x1
#define TDXHOST_INFO_MODULE 0x2

/**
 * struct tdxhost_info - what am I talking to (GET_INFO)
 * @size: sizeof(struct tdxhost_info)
 * @flags: in, must be 0
 * @features: TDXHOST_FEATURE_* bits
 * @valid: TDXHOST_INFO_* bits
 * @provider: TDXHOST_PROVIDER_*
 * @code: why TDX can't be used here, TDXHOST_CODE_*, or NONE
 * @nr_cpus: room that GET_CPUS needs
 * @nr_packages: packages with a present CPU
 * @keyid_first: first private KeyID; with INFO_KEYIDS
 * @nr_keyids: number of private KeyIDs; with INFO_KEYIDS
 * @keyid_global: the KeyID given to TDH.SYS.CONFIG; with INFO_KEYIDS
 * @module_major: TDX module version; with INFO_MODULE
 * @module_minor: likewise
 * @module_update: likewise
 * @module_build_date: yyyymmdd as a number; with INFO_MODULE
 * @module_build_num: with INFO_MODULE
 * @tdx_features0: TDX_FEATURES0; with INFO_MODULE
 */
struct tdxhost_info {
	__u32 size;
	__u32 flags;
	__aligned_u64 features;
	__aligned_u64 valid;
	__u32 provider;
	__u32 code;
	__u32 nr_cpus;
	__u32 nr_packages;
	__u32 keyid_first;
	__u32 nr_keyids;
	__u32 keyid_global;
	__u32 module_major;
	__u32 module_minor;
	__u32 module_update;
	__u32 module_build_date;
	__u32 module_build_num;
	__aligned_u64 tdx_features0;
};

/**
 * struct tdxhost_status - where do things stand (GET_STATUS)
 * @size: sizeof(struct tdxhost_status)
 * @flags: in, must be 0
 * @module_status: TDXHOST_MODULE_*
 * @step: step under way, step that failed, or the last one once initialised
 * @running: 1 while a caller is inside tdx_enable()
 * @error: what tdx_enable() ended with, 0 while unknown
 * @code: TDXHOST_CODE_*
 * @trap: vector of the fault, 0 for none
 * @cpu: CPU that the failure is about, ~0 for none
 * @cpus_online: CPUs online now
 * @cpus_enabled: CPUs on which TDH.SYS.LP.INIT succeeded
 * @cpus_failed: online CPUs whose last try failed
 * @leaf: RAX of the SEAMCALL that failed
 * @seam_status: its completion status
 * @progress: units of the current step that are done (CPUs, packages, TDMR GiB)
 * @progress_total: units that the step has in all, 0 for unknown
 * @pamt_bytes: memory held for PAMTs, ~0 where only the kernel knows
 * @generation: grows with every change of state
 */
struct tdxhost_status {
	__u32 size;
	__u32 flags;
	__u32 module_status;
	__u32 step;
	__u32 running;
	__u32 error;
	__u32 code;
	__u32 trap;
	__u32 cpu;
	__u32 cpus_online;
	__u32 cpus_enabled;
	__u32 cpus_failed;
	__aligned_u64 leaf;
	__aligned_u64 seam_status;
	__aligned_u64 progress;
	__aligned_u64 progress_total;
	__aligned_u64 pamt_bytes;
	__aligned_u64 generation;
};

/* Bits of tdxhost_cpu_result.flags. */
#define TDXHOST_CPU_DID_GLOBAL_INIT 0x1 /* ran TDH.SYS.INIT for the machine */
#define TDXHOST_CPU_WAS_DONE 0x2 /* was enabled before this call */
/* the kernel made the SEAMCALLs: leaf to r11, retries and DID_GLOBAL_INIT are not known */
#define TDXHOST_CPU_BY_KERNEL 0x4

/**
 * struct tdxhost_cpu_result - what enabling one CPU came to
 * @cpu: Linux CPU number
 * @package: physical package, ~0 for a CPU that was never online
 * @apic_id: x2APIC id
 * @node: NUMA node, ~0 for none
 * @state: TDXHOST_CPU_*
 * @error: what tdx_cpu_enable() ended with
 * @code: TDXHOST_CODE_*
 * @trap: vector of the fault, 0 for none
 * @flags: TDXHOST_CPU_*
 * @retries: SEAMCALLs that were repeated
 * @leaf: RAX of the last SEAMCALL, 0 when none was made
 * @seam_status: its completion status
 * @rcx: its output registers
 * @rdx: likewise
 * @r8: likewise
 * @r9: likewise
 * @r10: likewise
 * @r11: likewise
 * @start_ns: when tdx_cpu_enable() began on the CPU, 0 where it was not called here
 * @duration_ns: how long it took
 */
struct tdxhost_cpu_result {
	__u32 cpu;
	__u32 package;
	__u32 apic_id;
	__u32 node;
	__u32 state;
	__u32 error;
	__u32 code;
	__u32 trap;
	__u32 flags;
	__u32 retries;
	__aligned_u64 leaf;
	__aligned_u64 seam_status;
	__aligned_u64 rcx;
	__aligned_u64 rdx;
	__aligned_u64 r8;
	__aligned_u64 r9;
	__aligned_u64 r10;
	__aligned_u64 r11;
	__aligned_u64 start_ns;
	__aligned_u64 duration_ns;
};

/**
 * struct tdxhost_cpu_enable - enable the CPU that I run on (CPU_ENABLE)
 * @size: sizeof(struct tdxhost_cpu_enable)
 * @flags: in, must be 0
 * @result: address of one struct tdxhost_cpu_result
 * @entry_size: sizeof(struct tdxhost_cpu_result)
 * @__reserved: must be 0
 */
struct tdxhost_cpu_enable {
	__u32 size;
	__u32 flags;
	__aligned_u64 result;
	__u32 entry_size;
	__u32 __reserved;
};

/**
 * struct tdxhost_cpus - a set of CPUs and their results (CPUS_ENABLE, GET_CPUS)
 * @size: sizeof(struct tdxhost_cpus)
 * @flags: in, must be 0
 * @mask: address of a bit mask of CPUs, bit n of byte n / 8; 0 means every
 *	online CPU for CPUS_ENABLE and every present CPU for GET_CPUS
 * @mask_bytes: its length, from 1 to 4096, 0 when @mask is 0
 * @count: in: room in entries; out: CPUs in the set
 * @results: address of struct tdxhost_cpu_result entries, ascending by CPU
 * @entry_size: sizeof(struct tdxhost_cpu_result)
 * @__reserved: must be 0
 *
 * CPUS_ENABLE needs room for every CPU of the set before it enables any. A CPU
 * of the set that is present but offline gets a result that says so; one that
 * can't exist is EINVAL.
 */
struct tdxhost_cpus {
	__u32 size;
	__u32 flags;
	__aligned_u64 mask;
	__u32 mask_bytes;
	__u32 count;
	__aligned_u64 results;
	__u32 entry_size;
	__u32 __reserved;
};

/* Bits of tdxhost_enable.flags. */
#define TDXHOST_ENABLE_CPUS 0x1 /* enable every online CPU first */
#define TDXHOST_ENABLE_RETRY 0x2 /* after a failure, go on at the step that failed */
#define TDXHOST_ENABLE_SKIP_NON_CMR 0x4 /* leave System RAM outside CMRs to the kernel */

/**
 * struct tdxhost_enable - initialise the TDX module (ENABLE)
 * @size: sizeof(struct tdxhost_enable)
 * @flags: TDXHOST_ENABLE_CPUS, TDXHOST_ENABLE_RETRY, TDXHOST_ENABLE_SKIP_NON_CMR
 * @module_status: out, TDXHOST_MODULE_*
 * @step: out, step that failed, or the last one
 * @error: out, what tdx_enable() returned
 * @code: out, TDXHOST_CODE_*
 * @trap: out, vector of the fault, 0 for none
 * @cpu: out, CPU that the failure is about, ~0 for none
 * @leaf: out, RAX of the SEAMCALL that failed
 * @seam_status: out, its completion status
 *
 * After a failure RETRY goes on at the step that failed. Steps before it whose
 * outcome can't be relied on any more are run again: a failure before
 * TDH.SYS.CONFIG has succeeded gives all memory back, so memory is looked at
 * afresh, and so are the CPUs when one has come online since. Without a failure
 * the flag changes nothing.
 *
 * With SKIP_NON_CMR, System RAM outside every CMR does not fail the step memory.
 * That RAM stays with the kernel, can't be given to a TD, and is listed by
 * GET_MEMORY as OUTSIDE.
 */
struct tdxhost_enable {
	__u32 size;
	__u32 flags;
	__u32 module_status;
	__u32 step;
	__u32 error;
	__u32 code;
	__u32 trap;
	__u32 cpu;
	__aligned_u64 leaf;
	__aligned_u64 seam_status;
};

/* Bits of tdxhost_step_result.flags. */
/* the kernel made the SEAMCALLs: leaf to r11, retries, seamcalls and chain_ns are not known */
#define TDXHOST_STEPF_BY_KERNEL 0x1
/* it has failed, and can't succeed any more: RETRY is answered with TDXHOST_CODE_FINAL */
#define TDXHOST_STEPF_FINAL 0x2

/**
 * struct tdxhost_step_result - what one step of tdx_enable() came to
 * @step: TDXHOST_STEP_*
 * @runs: how often the step was begun, 0 when it never was
 * @error: how its last run ended
 * @code: TDXHOST_CODE_*
 * @trap: vector of the fault, 0 for none
 * @cpu: CPU that a failure is about, ~0 for none
 * @retries: SEAMCALLs that were repeated in the last run
 * @flags: TDXHOST_STEPF_*
 * @leaf: RAX of the SEAMCALL that failed, or of the last one
 * @seam_status: its completion status
 * @rcx: its output registers
 * @rdx: likewise
 * @r8: likewise
 * @r9: likewise
 * @r10: likewise
 * @r11: likewise
 * @seamcalls: SEAMCALLs made in the last run, repeated ones included
 * @start_ns: when the last run began
 * @duration_ns: how long it took
 * @base_pa: memory that a failure is about: the first range outside every CMR,
 *	the TDMR that can't be, the TDMR whose PAMT found no room
 * @bytes: its length, 0 for none
 * @needed: how much was needed of what there was too little of: TDMRs, reserved
 *	areas of one TDMR, bytes of PAMT
 * @limit: how much there can be, 0 where that is not known
 * @chain_ns: time of the SEAMCALLs of the last run that had to follow one another, on
 *	whichever CPUs: of those that may run side by side, the longest chain; 0 for none
 */
struct tdxhost_step_result {
	__u32 step;
	__u32 runs;
	__u32 error;
	__u32 code;
	__u32 trap;
	__u32 cpu;
	__u32 retries;
	__u32 flags;
	__aligned_u64 leaf;
	__aligned_u64 seam_status;
	__aligned_u64 rcx;
	__aligned_u64 rdx;
	__aligned_u64 r8;
	__aligned_u64 r9;
	__aligned_u64 r10;
	__aligned_u64 r11;
	__aligned_u64 seamcalls;
	__aligned_u64 start_ns;
	__aligned_u64 duration_ns;
	__aligned_u64 base_pa;
	__aligned_u64 bytes;
	__aligned_u64 needed;
	__aligned_u64 limit;
	__aligned_u64 chain_ns;
};

/**
 * struct tdxhost_steps - results of the steps (GET_STEPS)
 * @size: sizeof(struct tdxhost_steps)
 * @flags: in, must be 0
 * @results: address of struct tdxhost_step_result entries, in step order
 * @count: in: room in entries; out: number of steps that the provider has
 * @entry_size: sizeof(struct tdxhost_step_result)
 */
struct tdxhost_steps {
	__u32 size;
	__u32 flags;
	__aligned_u64 results;
	__u32 count;
	__u32 entry_size;
};

/**
 * struct tdxhost_field - one metadata field
 * @id: in, field id as the TDX module spec writes it
 * @value: out, R8
 * @next_id: out, RDX
 * @seam_status: out, completion status of TDH.SYS.RD
 * @error: out, 0 when @value holds the field
 * @trap: out, vector of the fault, 0 for none
 */
struct tdxhost_field {
	__aligned_u64 id;
	__aligned_u64 value;
	__aligned_u64 next_id;
	__aligned_u64 seam_status;
	__u32 error;
	__u32 trap;
};

/**
 * struct tdxhost_sys_rd - read metadata fields (SYS_RD)
 * @size: sizeof(struct tdxhost_sys_rd)
 * @flags: in, must be 0
 * @fields: address of struct tdxhost_field entries, read and written
 * @count: number of entries, at most 1024
 * @entry_size: sizeof(struct tdxhost_field), at least 8, which is the id alone
 * @cpu: out, CPU that asked
 * @__reserved: must be 0
 *
 * Served by the CPU that the caller runs on where that is enabled, otherwise
 * by another enabled one.
 */
struct tdxhost_sys_rd {
	__u32 size;
	__u32 flags;
	__aligned_u64 fields;
	__u32 count;
	__u32 entry_size;
	__u32 cpu;
	__u32 __reserved;
};

/* Kinds of memory range. */
#define TDXHOST_RANGE_RAM 1 /* System RAM of the kernel, above 1 MiB */
#define TDXHOST_RANGE_CMR 2 /* convertible memory, as the TDX module lists it */
#define TDXHOST_RANGE_OUTSIDE 3 /* System RAM outside every CMR */
#define TDXHOST_RANGE_TDX 4 /* TDX-usable memory */
#define TDXHOST_RANGE_TDMR 5
#define TDXHOST_RANGE_RESERVED 6 /* reserved area of a TDMR */
#define TDXHOST_RANGE_PAMT_4K 7
#define TDXHOST_RANGE_PAMT_2M 8
#define TDXHOST_RANGE_PAMT_1G 9

/**
 * struct tdxhost_range - one range of physical memory
 * @base_pa: first byte
 * @bytes: length
 * @kind: TDXHOST_RANGE_*
 * @node: NUMA node, ~0 for unknown
 * @tdmr: index of the TDMR that the range is, is in or describes, ~0 for none
 * @__reserved: 0
 */
struct tdxhost_range {
	__aligned_u64 base_pa;
	__aligned_u64 bytes;
	__u32 kind;
	__u32 node;
	__u32 tdmr;
	__u32 __reserved;
};

/**
 * struct tdxhost_memory - CMRs, TDX memory, TDMRs, PAMTs (GET_MEMORY)
 * @size: sizeof(struct tdxhost_memory)
 * @flags: in, must be 0
 * @ranges: address of struct tdxhost_range entries, by kind, then by address
 * @count: in: room in entries; out: number of ranges
 * @entry_size: sizeof(struct tdxhost_range)
 * @pamt_bytes: out, memory held for PAMTs, ~0 where only the kernel knows
 *
 * RAM is always there. The other kinds are there as far as tdx_enable() got:
 * CMRs once the TDX module told them, and so on. Where the kernel initialises TDX
 * it keeps TDX memory, TDMRs and PAMTs to itself.
 */
struct tdxhost_memory {
	__u32 size;
	__u32 flags;
	__aligned_u64 ranges;
	__u32 count;
	__u32 entry_size;
	__aligned_u64 pamt_bytes;
};

#endif /* _UAPI_LINUX_TDXHOST_H */
