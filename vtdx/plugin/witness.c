// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "witness.h"

/**
 * struct witness - the log
 * @lock: makes the order of lines that of their times
 * @head: room for the first members of a line, of whoever has @lock
 * @fd: where it goes
 * @complained: a write failed, and that was said
 * @start: when the plugin started
 */
struct witness {
	GMutex lock;
	GString *head;
	int fd;
	bool complained;
	struct timespec start;
};

#define HEX64_BYTES (sizeof("\"0x0123456789abcdef\"") - 1)
#define DECIMAL_BYTES (sizeof("-9223372036854775808") - 1)

static int64_t since_ns(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000000000ll + (now.tv_nsec - start->tv_nsec);
}

static bool is_plain(char c)
{
	return (unsigned char)c >= 0x20 && c != '"' && c != '\\';
}

/* Quoted, with what JSON (RFC 8259, section 7) wants escaped; or null. */
static void append_string(GString *line, const char *text)
{
	if (!text) {
		g_string_append(line, "null");
		return;
	}
	g_string_append_c(line, '"');
	while (*text) {
		size_t plain = 0;

		while (is_plain(text[plain]))
			plain++;
		g_string_append_len(line, text, plain);
		text += plain;
		if (*text == '"' || *text == '\\')
			g_string_append_printf(line, "\\%c", *text++);
		else if (*text)
			g_string_append_printf(line, "\\u%04x", *text++);
	}
	g_string_append_c(line, '"');
}

/* A disk may be full: the guest runs on, and the log says no more. */
static void complain_once(struct witness *witness)
{
	if (!witness->complained)
		fprintf(stderr, "vtdx: log: %s\n", strerror(errno));
	witness->complained = true;
}

/* ASCII of 8 hex digits, in memory the highest first, all of them worked out at once. */
static uint64_t hex_digits(uint32_t value)
{
	uint64_t nibbles = value;
	uint64_t above_9;

	nibbles = (nibbles << 16 & 0x0000ffff00000000ull) | (nibbles & 0x0000ffff);
	nibbles = (nibbles << 8 & 0x00ff000000ff0000ull) | (nibbles & 0x000000ff000000ffull);
	nibbles = (nibbles << 4 & 0x0f000f000f000f00ull) | (nibbles & 0x000f000f000f000full);
	nibbles = GUINT64_TO_BE(nibbles);
	above_9 = (nibbles + 0x0606060606060606ull) >> 4 & 0x0101010101010101ull;
	return nibbles + 0x3030303030303030ull + above_9 * ('a' - '9' - 1);
}

/* Returns where they end. */
static char *put_hex_digits(char *at, uint64_t value)
{
	const uint64_t digits[] = { hex_digits(value >> 32), hex_digits(value) };

	memcpy(at, digits, sizeof(digits));
	return at + sizeof(digits);
}

static void append_hex64(GString *line, const char *before, uint64_t value)
{
	char text[HEX64_BYTES] = "\"0x";

	*put_hex_digits(text + 3, value) = '"';
	g_string_append(line, before);
	g_string_append_len(line, text, sizeof(text));
}

static void append_decimal(GString *line, int64_t value)
{
	uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
	char text[DECIMAL_BYTES];
	char *at = text + sizeof(text);

	do {
		*--at = '0' + rest % 10;
		rest /= 10;
	} while (rest);
	if (value < 0)
		*--at = '-';
	g_string_append_len(line, at, text + sizeof(text) - at);
}

/*
 * Writes a line, at once: what happened is in the file even if QEMU is killed next.
 * Takes over members, which start with a comma or are empty.
 */
static void emit(struct witness *witness, int cpu, const char *event, GString *members)
{
	GString *head = witness->head;
	struct iovec parts[2];

	g_string_append(members, "}\n");
	parts[1].iov_base = members->str;
	parts[1].iov_len = members->len;
	g_mutex_lock(&witness->lock);
	g_string_assign(head, "{\"t_ns\": ");
	append_decimal(head, since_ns(&witness->start));
	g_string_append(head, ", \"cpu\": ");
	if (cpu >= 0)
		append_decimal(head, cpu);
	else
		g_string_append(head, "null");
	g_string_append(head, ", \"event\": ");
	append_string(head, event);
	parts[0].iov_base = head->str;
	parts[0].iov_len = head->len;
	if (writev(witness->fd, parts, G_N_ELEMENTS(parts)) < 0)
		complain_once(witness);
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
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);

	if (fd < 0) {
		g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno), "%s: %s", path,
			    strerror(errno));
		return NULL;
	}
	witness = g_new0(struct witness, 1);
	g_mutex_init(&witness->lock);
	witness->head = g_string_new(NULL);
	witness->fd = fd;
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

/**
 * witness_mark - write a mark, by which readers cut the log
 * @witness: the log
 * @text: UTF-8
 */
void witness_mark(struct witness *witness, const char *text)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(", \"text\": ");
	append_string(line, text);
	emit(witness, -1, "mark", line);
}

/* Two of these are most of a line: put together apart from it, which has GLib called once. */
static void append_regs(GString *line, const struct seam_regs *regs)
{
	static const char *const before[] = {
		"{\"rax\": \"0x",   "\", \"rcx\": \"0x", "\", \"rdx\": \"0x", "\", \"r8\": \"0x",
		"\", \"r9\": \"0x", "\", \"r10\": \"0x", "\", \"r11\": \"0x",
	};
	const uint64_t values[] = { regs->rax, regs->rcx, regs->rdx, regs->r8,
				    regs->r9,  regs->r10, regs->r11 };
	char text[256], *at = text;

	G_STATIC_ASSERT(sizeof(text) > G_N_ELEMENTS(before) * 32);
	for (size_t i = 0; i < G_N_ELEMENTS(before); i++)
		at = put_hex_digits(stpcpy(at, before[i]), values[i]);
	at = stpcpy(at, "\"}");
	g_string_append_len(line, text, at - text);
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
	line = g_string_sized_new(768);
	g_string_append(line, ", \"leaf\": ");
	if (call->leaf)
		append_string(line, call->leaf);
	else
		append_hex64(line, "", call->in->rax);
	g_string_append(line, ", \"in\": ");
	append_regs(line, call->in);
	g_string_append(line, ", \"out\": ");
	append_regs(line, call->out);
	g_string_append(line, ", \"status\": ");
	append_string(line, call->status);
	g_string_append(line, ", \"result\": ");
	append_string(line, call->result);
	g_string_append(line, ", \"fault\": ");
	if (call->fault)
		append_decimal(line, call->fault);
	else
		g_string_append(line, "null");
	g_string_append(line, ", \"duration_ns\": ");
	append_decimal(line, call->duration_ns);
	if (call->tdmrs) {
		g_string_append(line, ", \"tdmrs\": ");
		g_string_append(line, call->tdmrs);
	}
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
	append_hex64(line, ", \"pa\": ", pa);
	g_string_append_printf(line, ", \"result\": \"%s\", \"reason\": ", result);
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
 * witness_vmx - log a VMX instruction other than VMXON and VMXOFF
 * @witness: the log
 * @cpu: the vCPU
 * @instruction: mnemonic
 * @operand: address, type or encoding, or 0
 * @result: "done" and so on
 * @error: VM-instruction error number, 0 for none
 */
void witness_vmx(struct witness *witness, unsigned int cpu, const char *instruction,
		 uint64_t operand, const char *result, unsigned int error)
{
	GString *line;

	if (!witness)
		return;
	line = g_string_new(NULL);
	g_string_printf(line, ", \"instruction\": \"%s\"", instruction);
	append_hex64(line, ", \"operand\": ", operand);
	g_string_append_printf(line, ", \"result\": \"%s\", \"error\": ", result);
	if (error)
		g_string_append_printf(line, "%u", error);
	else
		g_string_append(line, "null");
	emit(witness, cpu, "vmx", line);
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
	append_hex64(line, ", \"msr\": ", msr);
	append_hex64(line, ", \"value\": ", value);
	g_string_append_printf(line, ", \"result\": \"%s\"", gp ? "gp" : "done");
	emit(witness, cpu, write ? "wrmsr" : "rdmsr", line);
}
