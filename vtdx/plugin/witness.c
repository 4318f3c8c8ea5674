// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "witness.h"

/**
 * struct witness - the log
 * @lock: protects @file, and makes the order of lines that of their times
 * @file: where it goes
 * @start: when the plugin started
 */
struct witness {
	GMutex lock;
	FILE *file;
	struct timespec start;
};

#define HEX64 "\"0x%016" G_GINT64_MODIFIER "x\""

static int64_t since_ns(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000000000ll + (now.tv_nsec - start->tv_nsec);
}

/* Quoted, with what JSON (RFC 8259, section 7) wants escaped; or null. */
static void append_string(GString *line, const char *text)
{
	if (!text) {
		g_string_append(line, "null");
		return;
	}
	g_string_append_c(line, '"');
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			g_string_append_c(line, '\\');
		if ((unsigned char)*text < 0x20)
			g_string_append_printf(line, "\\u%04x", *text);
		else
			g_string_append_c(line, *text);
	}
	g_string_append_c(line, '"');
}

/* Writes a line; takes over members, which start with a comma or are empty. */
static void emit(struct witness *witness, int cpu, const char *event, GString *members)
{
	char number[16] = "null";

	if (cpu >= 0)
		g_snprintf(number, sizeof(number), "%d", cpu);
	g_mutex_lock(&witness->lock);
	fprintf(witness->file, "{\"t_ns\": %" G_GINT64_FORMAT ", \"cpu\": %s, \"event\": \"%s\"%s}\n",
		since_ns(&witness->start), number, event, members->str);
	fflush(witness->file);
	g_mutex_unlock(&witness->lock);
	g_string_free(members, TRUE);
}

/**
 * witness_open - start a log
 * @path: file, emptied first
 * @error: why not
 */
struct witness *witness_open(const char *path, GError **error)
{
	struct witness *witness;
	FILE *file = fopen(path, "we");

	if (!file) {
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", path,
			    strerror(errno));
		return NULL;
	}
	witness = g_new0(struct witness, 1);
	g_mutex_init(&witness->lock);
	witness->file = file;
	clock_gettime(CLOCK_MONOTONIC, &witness->start);
	return witness;
}

/**
 * witness_start - write the first line
 * @witness: the log
 * @platform: name
 * @cpus: how many there are
 */
void witness_start(struct witness *witness, const char *platform, unsigned int cpus)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(", \"schema\": \"vtdx-log/1\", \"platform\": ");
	append_string(line, platform);
	g_string_append_printf(line, ", \"cpus\": %u", cpus);
	emit(witness, -1, "start", line);
}

static void append_regs(GString *line, const char *name, const struct seam_regs *regs)
{
	g_string_append_printf(line,
			       ", \"%s\": {\"rax\": " HEX64 ", \"rcx\": " HEX64 ", \"rdx\": " HEX64
			       ", \"r8\": " HEX64 ", \"r9\": " HEX64 ", \"r10\": " HEX64
			       ", \"r11\": " HEX64 "}",
			       name, regs->rax, regs->rcx, regs->rdx, regs->r8, regs->r9, regs->r10,
			       regs->r11);
}

/**
 * witness_seamcall - log a SEAMCALL
 * @witness: the log
 * @call: the call
 */
void witness_seamcall(struct witness *witness, const struct witness_call *call)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(", \"leaf\": ");
	if (call->leaf)
		append_string(line, call->leaf);
	else
		g_string_append_printf(line, HEX64, call->in->rax);
	append_regs(line, "in", call->in);
	append_regs(line, "out", call->out);
	g_string_append(line, ", \"status\": ");
	append_string(line, call->status);
	g_string_append_printf(line, ", \"result\": \"%s\", \"fault\": ", call->result);
	if (call->fault)
		g_string_append_printf(line, "%u", call->fault);
	else
		g_string_append(line, "null");
	g_string_append_printf(line, ", \"duration_ns\": %" G_GINT64_FORMAT, call->duration_ns);
	if (call->tdmrs)
		g_string_append_printf(line, ", \"tdmrs\": %s", call->tdmrs);
	emit(witness, call->cpu, "seamcall", line);
}

/**
 * witness_vmxon - log a VMXON
 * @witness: the log
 * @cpu: the vCPU
 * @pa: VMXON region
 * @result: "done" and so on
 * @reason: why not, or NULL
 */
void witness_vmxon(struct witness *witness, unsigned int cpu, uint64_t pa, const char *result,
		   const char *reason)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(NULL);
	g_string_printf(line, ", \"pa\": " HEX64 ", \"result\": \"%s\", \"reason\": ", pa, result);
	append_string(line, reason);
	emit(witness, cpu, "vmxon", line);
}

/**
 * witness_vmxoff - log a VMXOFF
 * @witness: the log
 * @cpu: the vCPU
 * @result: "done" and so on
 */
void witness_vmxoff(struct witness *witness, unsigned int cpu, const char *result)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(NULL);
	g_string_printf(line, ", \"result\": \"%s\"", result);
	emit(witness, cpu, "vmxoff", line);
}

/**
 * witness_vmxe - log a change of CR4.VMXE
 * @witness: the log
 * @cpu: the vCPU
 * @value: new value
 */
void witness_vmxe(struct witness *witness, unsigned int cpu, bool value)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(NULL);
	g_string_printf(line, ", \"value\": %d", value);
	emit(witness, cpu, "cr4.vmxe", line);
}

/**
 * witness_msr - log an access to an MSR of the platform
 * @witness: the log
 * @cpu: the vCPU
 * @write: WRMSR
 * @msr: address
 * @value: value read or written
 * @gp: the access faulted
 */
void witness_msr(struct witness *witness, unsigned int cpu, bool write, uint32_t msr,
		 uint64_t value, bool gp)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(NULL);
	g_string_printf(line, ", \"msr\": " HEX64 ", \"value\": " HEX64 ", \"result\": \"%s\"",
			(uint64_t)msr, value, gp ? "gp" : "done");
	emit(witness, cpu, write ? "wrmsr" : "rdmsr", line);
}
