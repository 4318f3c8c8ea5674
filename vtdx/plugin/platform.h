/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A platform file (README.md, "Platform files"), read. */
#ifndef VTDX_PLATFORM_H
#define VTDX_PLATFORM_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "../seam/seam.h"

struct seam_library;

/* For every CPU. */
#define PLATFORM_ALL_CPUS UINT32_MAX

/**
 * struct platform_msr - a line of [msr]
 * @first: address
 * @last: last address, @first but for a run
 * @cpu: the CPU that it is for, or PLATFORM_ALL_CPUS
 * @gp: access faults
 * @value: value otherwise
 */
struct platform_msr {
	uint32_t first;
	uint32_t last;
	uint32_t cpu;
	bool gp;
	uint64_t value;
};

/**
 * struct platform_cpuid - a line of [cpuid]
 * @leaf: leaf
 * @subleaf: sub-leaf
 * @any_subleaf: the leaf has none
 * @cpu: the CPU that it is for, or PLATFORM_ALL_CPUS
 * @regs: EAX, EBX, ECX, EDX
 */
struct platform_cpuid {
	uint32_t leaf;
	uint32_t subleaf;
	bool any_subleaf;
	uint32_t cpu;
	uint32_t regs[4];
};

/**
 * struct platform_latency - a line of [latency]
 * @leaf: RAX without version, or LATENCY_*
 * @ns: time
 */
struct platform_latency {
	uint64_t leaf;
	int64_t ns;
};

/* Leaf numbers of the TDX module, as far as there are any. */
#define PLATFORM_LEAVES 128

/**
 * struct platform - a platform file
 * @name: for the log
 * @family: as CPUID gives them, extended parts added
 * @model: likewise
 * @stepping: likewise
 * @sockets: packages
 * @cores: in a package
 * @threads: in a core
 * @lps: all of them together
 * @seam: for the TDX module
 * @seam_capabilities: SEAMOPS CAPABILITIES
 * @msrs: struct platform_msr, as the file has them
 * @cpuids: struct platform_cpuid, likewise
 * @lock: protects what follows, which may change while the guest runs
 * @latencies: struct platform_latency
 * @default_latency_ns: of the other leaves
 * @leaf_ns: what the two above come to for each leaf; changed with the lock held, looked at
 *	without
 * @faults: struct fault_rule, in order
 * @has_faults: @faults is not empty; changed with the lock held, looked at without
 * @last_fault: highest number that a fault ever had
 */
struct platform {
	char *name;
	uint32_t family;
	uint32_t model;
	uint32_t stepping;
	uint32_t sockets;
	uint32_t cores;
	uint32_t threads;
	uint32_t lps;
	struct seam_config seam;
	uint64_t seam_capabilities;
	GArray *msrs;
	GArray *cpuids;
	GRWLock lock;
	GArray *latencies;
	int64_t default_latency_ns;
	int64_t leaf_ns[PLATFORM_LEAVES];
	GArray *faults;
	bool has_faults;
	unsigned int last_fault;
};

struct platform *platform_read(const char *path, const struct seam_library *library,
			       GError **error);
const struct platform_cpuid *platform_cpuid(const struct platform *platform, uint32_t cpu,
					    uint32_t leaf, uint32_t subleaf);

/* In place of a leaf, with version bits that no leaf has left: these take no default. */
#define LATENCY_VMXON UINT64_MAX
#define LATENCY_VMXOFF (UINT64_MAX - 1)

/* latency.c */
bool latency_set(struct platform *platform, const struct seam_library *library, const char *leaf,
		 const char *time, const char **why);
int64_t latency_ns(struct platform *platform, uint64_t leaf);

/* Names and numbers, parse.c. */
bool parse_u64(const char *text, uint64_t *value);
bool parse_range(const char *text, uint64_t *base, uint64_t *bytes);
bool parse_duration_ns(const char *text, int64_t *ns);
bool parse_leaf(const struct seam_library *library, const char *text, uint64_t *leaf);
bool parse_status(const char *text, uint64_t *status);
uint64_t leaf_without_version(uint64_t rax);

#endif /* VTDX_PLATFORM_H */
