// SPDX-License-Identifier: GPL-2.0-or-later
/* SEAMCALL: from the instruction to the seam library and back. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "fault.h"
#include "vtdx.h"
#include "witness.h"

#define MTRRCAP_SEAMRR BIT_ULL(15)
#define SEAMRR_VALID BIT_ULL(11)

#define NS_PER_S 1000000000ll
/* Shorter waits are collected: a sleep takes some time of its own. */
#define LEAST_SLEEP_NS 1000000ll
/* So much of what a sleep took too long shortens the waits to come. */
#define MOST_CREDIT_NS LEAST_SLEEP_NS

#define LEAF_SYS_CONFIG 45
#define LEAF_OF_PSEAMLDR BIT_ULL(63)
#define MAX_TDMRS 64
#define RESERVED_AREAS 16

/* TDMR_INFO (TDX module ABI specification). */
struct tdmr_info {
	uint64_t base;
	uint64_t size;
	uint64_t pamt[3][2]; /* for 1 GiB, 2 MiB and 4 KiB pages: base, size */
	uint64_t reserved[RESERVED_AREAS][2];
};

/* GPR number of each member of struct seam_regs, in its order. */
static const uint8_t seam_gprs[] = { GPR_RAX, GPR_RCX, GPR_RDX, GPR_RBX, GPR_RBP,
				     GPR_RSI, GPR_RDI, GPR_R8,	GPR_R9,	 GPR_R10,
				     GPR_R11, GPR_R12, GPR_R13, GPR_R14, GPR_R15 };

G_STATIC_ASSERT(sizeof(struct seam_regs) == sizeof(uint64_t) * G_N_ELEMENTS(seam_gprs));

/* What TDH.SYS leaves take and return. */
static const uint32_t sys_leaf_gprs = 1u << GPR_RAX | 1u << GPR_RCX | 1u << GPR_RDX | 1u << GPR_R8 |
				      1u << GPR_R9 | 1u << GPR_R10 | 1u << GPR_R11;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* The vCPU whose thread this is: the memory ops are not told. */
static __thread struct vcpu *running;

static int op_read_pa(void *opaque, uint64_t pa, void *buf, uint64_t bytes)
{
	(void)opaque;
	return vcpu_read_pa(running, pa, buf, bytes) ? 0 : -1;
}

static int op_write_pa(void *opaque, uint64_t pa, const void *buf, uint64_t bytes)
{
	(void)opaque;
	return vcpu_write_pa(running, pa, buf, bytes) ? 0 : -1;
}

static int op_rdmsr(void *opaque, uint32_t lp, uint32_t msr, uint64_t *value)
{
	return msr_read(opaque, lp, msr, value) ? 0 : -1;
}

static void op_cpuid(void *opaque, uint32_t lp, uint32_t leaf, uint32_t subleaf, uint32_t *regs)
{
	cpuid_module(opaque, lp, leaf, subleaf, regs);
}

static int op_rdrand(void *opaque, uint32_t lp, uint64_t *value)
{
	(void)opaque;
	(void)lp;
	return getrandom(value, sizeof(*value), 0) == sizeof(*value);
}

static int op_pconfig(void *opaque, uint32_t lp, uint32_t keyid, uint32_t keyid_ctrl)
{
	(void)opaque;
	(void)lp;
	(void)keyid;
	(void)keyid_ctrl;
	return SEAM_PCONFIG_SUCCESS;
}

static uint64_t op_seam_capabilities(void *opaque, uint32_t lp)
{
	struct vtdx *vtdx = opaque;

	(void)lp;
	return vtdx->platform->seam_capabilities;
}

static void sleep_until(int64_t ns)
{
	const struct timespec until = { .tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

/*
 * Waits, so that the leaves of many vCPUs take their time side by side: on the thread of
 * its own vCPU, for what that one owes. Whoever takes LEAST_SLEEP_NS or more has all of its
 * own time, however much is to the good.
 */
static void op_hold(void *opaque, uint32_t lp, uint64_t leaf)
{
	struct vtdx *vtdx = opaque;
	struct vcpu *vcpu = &vtdx->vcpus[lp];
	int64_t ns = latency_ns(vtdx->platform, vcpu->leaf);

	(void)leaf;
	if (!ns)
		return;
	vcpu->held = true;
	if (ns >= LEAST_SLEEP_NS)
		vcpu->debt_ns = MAX(vcpu->debt_ns, 0);
	vcpu->debt_ns += ns;
	if (vcpu->debt_ns >= LEAST_SLEEP_NS)
		sleep_until(vcpu->entered_ns + vcpu->debt_ns);
}

/* What a leaf that takes time has taken of it is paid: by sleep, emulation and the log. */
static void settle(struct vcpu *vcpu)
{
	int64_t rest;

	if (!vcpu->held)
		return;
	vcpu->held = false;
	rest = vcpu->debt_ns - (now_ns() - vcpu->entered_ns);
	vcpu->debt_ns = MAX(rest, -MOST_CREDIT_NS);
}

/**
 * seam_library_open - load a seam library
 * @library: the result
 * @path: the file
 */
bool seam_library_open(struct seam_library *library, const char *path)
{
	const struct {
		const char *name;
		void **function;
	} functions[] = {
		{ "seam_abi_version", (void **)&library->abi_version },
		{ "seam_create", (void **)&library->create },
		{ "seam_reload", (void **)&library->reload },
		{ "seam_call", (void **)&library->call },
		{ "seam_leaf_name", (void **)&library->leaf_name },
		{ "seam_status_name", (void **)&library->status_name },
	};
	char *absolute;

	/* dlopen() looks for a plain name elsewhere. */
	absolute = g_canonicalize_filename(path, NULL);
	library->handle = dlopen(absolute, RTLD_NOW | RTLD_LOCAL);
	g_free(absolute);
	if (!library->handle) {
		fprintf(stderr, "vtdx: seam library: %s\n", dlerror());
		return false;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(functions); i++) {
		*functions[i].function = dlsym(library->handle, functions[i].name);
		if (!*functions[i].function) {
			fprintf(stderr, "vtdx: %s has no %s\n", path, functions[i].name);
			return false;
		}
	}
	if (library->abi_version() != SEAM_ABI_VERSION) {
		fprintf(stderr, "vtdx: %s has ABI version %u, not %d\n", path,
			library->abi_version(), SEAM_ABI_VERSION);
		return false;
	}
	for (size_t leaf = 0; leaf < PLATFORM_LEAVES; leaf++) {
		const char *name = library->leaf_name(leaf);

		library->is_sys_leaf[leaf] = name && g_str_has_prefix(name, "TDH.SYS.");
	}
	return true;
}

/**
 * seam_start - load the TDX module
 * @vtdx: the platform
 */
bool seam_start(struct vtdx *vtdx)
{
	const struct seam_ops ops = {
		.size = sizeof(ops),
		.read_pa = op_read_pa,
		.write_pa = op_write_pa,
		.rdmsr = op_rdmsr,
		.cpuid = op_cpuid,
		.rdrand = op_rdrand,
		.pconfig = op_pconfig,
		.seam_capabilities = op_seam_capabilities,
		.hold = op_hold,
	};

	vtdx->seam = vtdx->seam_library.create(&vtdx->platform->seam, &ops, vtdx);
	if (!vtdx->seam)
		fprintf(stderr, "vtdx: the seam library refuses the platform's configuration\n");
	g_rw_lock_init(&vtdx->module_lock);
	return vtdx->seam;
}

/**
 * seam_restart - load the TDX module anew, as firmware does before the system starts
 * @vtdx: the platform
 *
 * Return: false while a SEAMCALL is under way.
 */
bool seam_restart(struct vtdx *vtdx)
{
	if (!g_rw_lock_writer_trylock(&vtdx->module_lock))
		return false;
	vtdx->seam_library.reload(vtdx->seam, 0);
	__atomic_store_n(&vtdx->module_used, false, __ATOMIC_RELAXED);
	g_rw_lock_writer_unlock(&vtdx->module_lock);
	return true;
}

/*
 * Each read costs: those that only leaves about TDs take (TDX module ABI spec) are left
 * out of a system-wide leaf, which has them as 0 and does not write them.
 */
static void read_regs(const struct vtdx *vtdx, struct vcpu *vcpu, struct seam_regs *regs)
{
	uint64_t values[G_N_ELEMENTS(seam_gprs)] = { vcpu_read(vcpu, GPR_RAX) };
	uint64_t leaf = leaf_without_version(values[0]);
	bool few = leaf < PLATFORM_LEAVES && vtdx->seam_library.is_sys_leaf[leaf];

	for (size_t i = 1; i < G_N_ELEMENTS(seam_gprs); i++)
		if (!few || sys_leaf_gprs & 1u << seam_gprs[i])
			values[i] = vcpu_read(vcpu, seam_gprs[i]);
	memcpy(regs, values, sizeof(values));
}

static void write_regs(struct vcpu *vcpu, const struct seam_regs *before,
		       const struct seam_regs *after)
{
	uint64_t old[G_N_ELEMENTS(seam_gprs)], new[G_N_ELEMENTS(seam_gprs)];

	memcpy(old, before, sizeof(old));
	memcpy(new, after, sizeof(new));
	for (size_t i = 0; i < G_N_ELEMENTS(seam_gprs); i++)
		if (old[i] != new[i])
			vcpu_write(vcpu, seam_gprs[i], new[i]);
}

static void append_pair(GString *json, uint64_t first, uint64_t second)
{
	g_string_append_printf(json,
			       "[\"0x%016" G_GINT64_MODIFIER "x\", \"0x%016" G_GINT64_MODIFIER
			       "x\"]",
			       first, second);
}

static void append_tdmr(GString *json, const struct tdmr_info *tdmr)
{
	static const char *const pamts[] = { "pamt_1g", "pamt_2m", "pamt_4k" };
	const char *separator = "";

	g_string_append_printf(json,
			       "{\"base\": \"0x%016" G_GINT64_MODIFIER
			       "x\", \"size\": \"0x%016" G_GINT64_MODIFIER "x\"",
			       tdmr->base, tdmr->size);
	for (size_t i = 0; i < G_N_ELEMENTS(pamts); i++) {
		g_string_append_printf(json, ", \"%s\": ", pamts[i]);
		append_pair(json, tdmr->pamt[i][0], tdmr->pamt[i][1]);
	}
	g_string_append(json, ", \"reserved\": [");
	for (size_t i = 0; i < RESERVED_AREAS && tdmr->reserved[i][1]; i++) {
		g_string_append(json, separator);
		append_pair(json, tdmr->reserved[i][0], tdmr->reserved[i][1]);
		separator = ", ";
	}
	g_string_append(json, "]}");
}

/* The TDMRs that TDH.SYS.CONFIG is given, as far as they can be read. */
static char *tdmrs_json(struct vcpu *vcpu, const struct seam_regs *regs)
{
	GString *json = g_string_new("[");
	uint64_t nr = MIN(regs->rdx, (uint64_t)MAX_TDMRS);

	for (uint64_t i = 0; i < nr; i++) {
		struct tdmr_info tdmr;
		uint64_t pa;

		if (!vcpu_read_pa(vcpu, regs->rcx + i * sizeof(pa), &pa, sizeof(pa)) ||
		    !vcpu_read_pa(vcpu, pa, &tdmr, sizeof(tdmr)))
			break;
		if (i)
			g_string_append(json, ", ");
		append_tdmr(json, &tdmr);
	}
	g_string_append_c(json, ']');
	return g_string_free(json, FALSE);
}

enum ending {
	ENDING_DONE,
	ENDING_VMFAILINVALID,
	ENDING_UD,
	ENDING_GP,
	ENDING_FATAL,
};

static const char *const ending_names[] = {
	[ENDING_DONE] = "done",	  [ENDING_VMFAILINVALID] = "vmfailinvalid",
	[ENDING_UD] = "ud",	  [ENDING_GP] = "gp",
	[ENDING_FATAL] = "fatal",
};

/* A SEAMCALL that a fault struck. */
static enum ending strike(struct vcpu *vcpu, const struct fault *fault, struct seam_regs *regs)
{
	switch (fault->answer) {
	case FAULT_TRAP_UD:
		return ENDING_UD;
	case FAULT_TRAP_GP:
		return ENDING_GP;
	case FAULT_VMFAIL:
		return ENDING_VMFAILINVALID;
	default:
		fault_outputs(fault, vcpu->leaf, regs);
		return ENDING_DONE;
	}
}

/* What the processor itself checks (SEAMCALL in the "Intel TDX CPU architecture"). */
static bool processor_refuses(struct vcpu *vcpu, enum ending *ending)
{
	if (!vcpu->vmx || !(msr_value(vcpu->mtrrcap) & MTRRCAP_SEAMRR))
		*ending = ENDING_UD;
	else if (!vcpu_is_kernel(vcpu) || !(msr_value(vcpu->seamrr_mask) & SEAMRR_VALID))
		*ending = ENDING_GP;
	else
		return false;
	return true;
}

static enum ending enter_module(struct vtdx *vtdx, struct vcpu *vcpu, struct seam_regs *regs)
{
	static const enum ending endings[] = {
		[SEAM_DONE] = ENDING_DONE,
		[SEAM_VMFAILINVALID] = ENDING_VMFAILINVALID,
		[SEAM_FATAL] = ENDING_FATAL,
	};
	int result;

	running = vcpu;
	g_rw_lock_reader_lock(&vtdx->module_lock);
	__atomic_store_n(&vtdx->module_used, true, __ATOMIC_RELAXED);
	result = vtdx->seam_library.call(vtdx->seam, vcpu->index, regs);
	g_rw_lock_reader_unlock(&vtdx->module_lock);
	return result >= 0 && result < (int)G_N_ELEMENTS(endings) ? endings[result] : ENDING_FATAL;
}

static void log_call(struct vtdx *vtdx, struct witness_call *call, enum ending ending, char *tdmrs)
{
	call->leaf = vtdx->seam_library.leaf_name(call->in->rax);
	call->result = ending_names[ending];
	call->tdmrs = tdmrs;
	if (ending == ENDING_DONE)
		call->status = vtdx->seam_library.status_name(call->out->rax);
	witness_seamcall(vtdx->witness, call);
	g_free(tdmrs);
}

/* Does the call, and says so in the log. */
static enum ending answer(struct vtdx *vtdx, struct vcpu *vcpu, const struct seam_regs *in,
			  struct seam_regs *out)
{
	struct witness_call call = { .cpu = vcpu->index, .in = in, .out = out };
	char *tdmrs = NULL;
	enum ending ending;
	struct fault fault;

	vcpu->leaf = leaf_without_version(in->rax);
	if (vtdx->witness && vcpu->leaf == LEAF_SYS_CONFIG)
		tdmrs = tdmrs_json(vcpu, in);
	if (!processor_refuses(vcpu, &ending)) {
		if (fault_strike(vtdx->platform, FAULT_AT_SEAMCALL, vcpu->leaf, vcpu->index,
				 &fault)) {
			call.fault = fault.number;
			ending = strike(vcpu, &fault, out);
		} else {
			ending = enter_module(vtdx, vcpu, out);
		}
	}
	if (!vtdx->witness)
		return ending;
	call.duration_ns = now_ns() - vcpu->entered_ns;
	log_call(vtdx, &call, ending, tdmrs);
	return ending;
}

/**
 * on_seamcall - answer SEAMCALL
 * @index: the vCPU
 * @userdata: the site
 *
 * To TCG it is an illegal instruction: a #UD comes by letting it be. When the TDX
 * module has stopped for good, a real platform shuts down; here the guest gets
 * VMfailInvalid, from this call and every later one, and the log tells.
 */
void on_seamcall(unsigned int index, void *userdata)
{
	const struct site *site = userdata;
	struct vcpu *vcpu = site_vcpu(site, index);
	struct seam_regs in, out;
	enum ending ending;

	vcpu->entered_ns = now_ns();
	if (!insn_is_in_upper_half(&site->insn))
		vmx_check_reset(vcpu);
	read_regs(site->vtdx, vcpu, &in);
	out = in;
	ending = answer(site->vtdx, vcpu, &in, &out);
	settle(vcpu);
	if (ending == ENDING_GP)
		vcpu_raise_gp(vcpu, site);
	if (ending == ENDING_GP || ending == ENDING_UD)
		return;
	if (ending == ENDING_DONE) {
		write_regs(vcpu, &in, &out);
		if (in.rax & LEAF_OF_PSEAMLDR)
			vmx_leave_pseamldr(site->vtdx, vcpu);
	}
	vcpu_resume_flags(site->vtdx, vcpu, vcpu_next(vcpu, &site->insn),
			  ending == ENDING_DONE ? 0 : X86_EFLAGS_CF);
}
