/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log (README.md, "The log"). */
#ifndef VTDX_WITNESS_H
#define VTDX_WITNESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "../seam/seam.h"

struct witness;

/**
 * struct witness_call - a SEAMCALL
 * @cpu: the vCPU
 * @leaf: name, or NULL
 * @in: registers before
 * @out: registers after
 * @status: name, or NULL
 * @result: "done" and so on
 * @fault: number of the fault that struck, or 0
 * @duration_ns: time it took
 * @tdmrs: JSON array for TDH.SYS.CONFIG, or NULL
 */
struct witness_call {
	unsigned int cpu;
	const char *leaf;
	const struct seam_regs *in;
	const struct seam_regs *out;
	const char *status;
	const char *result;
	unsigned int fault;
	int64_t duration_ns;
	const char *tdmrs;
};

/* witness may be NULL in all of them: then they do nothing. */
struct witness *witness_open(const char *path, GError **error);
void witness_start(struct witness *witness, const char *platform, unsigned int cpus);
void witness_mark(struct witness *witness, const char *text);
void witness_seamcall(struct witness *witness, const struct witness_call *call);
void witness_vmxon(struct witness *witness, unsigned int cpu, uint64_t pa, const char *result,
		   const char *reason);
void witness_vmxoff(struct witness *witness, unsigned int cpu, const char *result);
void witness_vmx(struct witness *witness, unsigned int cpu, const char *instruction,
		 uint64_t operand, const char *result, unsigned int error);
void witness_vmxe(struct witness *witness, unsigned int cpu, bool value);
void witness_msr(struct witness *witness, unsigned int cpu, bool write, uint32_t msr,
		 uint64_t value, bool gp);

#endif /* VTDX_WITNESS_H */
