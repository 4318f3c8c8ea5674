// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "fault.h"
#include "vtdx.h"

static const char *const output_names[FAULT_OUTPUTS] = { "rcx", "rdx", "r8", "r9", "r10", "r11" };

/* Order of output_names, as bits. */
enum {
	OUT_RCX = 1,
	OUT_RDX = 2,
	OUT_R8 = 4,
	OUT_R9 = 8,
	OUT_R10 = 16,
};

/*
 * What leaves write to their outputs before they check anything (TDX module ABI
 * specification, host-side interface functions): all ones or zeros.
 */
static const struct {
	uint64_t leaf;
	uint32_t zeros;
	uint32_t ones;
} cleared_outputs[] = {
	{ 32, OUT_RDX | OUT_R9, 0 }, /* TDH.SYS.INFO */
	{ 33, OUT_RCX | OUT_RDX | OUT_R8 | OUT_R9 | OUT_R10, 0 }, /* TDH.SYS.INIT */
	{ 34, OUT_R8, OUT_RDX }, /* TDH.SYS.RD */
	{ 35, OUT_RCX | OUT_RDX | OUT_R8, 0 }, /* TDH.SYS.LP.INIT */
	{ 36, OUT_RDX, 0 }, /* TDH.SYS.TDMR.INIT */
	{ 37, 0, OUT_R8 }, /* TDH.SYS.RDALL */
};

/* A fault as it is being read: what may still be wrong with it. */
struct parser {
	struct fault_rule *rule;
	const struct platform *platform;
	const struct seam_library *library;
	bool answered;
	uint64_t detail;
	bool has_detail;
};

static bool parse_what(struct parser *p, const char *what)
{
	struct fault_rule *rule = p->rule;

	if (!strcmp(what, "VMXON")) {
		rule->at = FAULT_AT_VMXON;
		return true;
	}
	if (g_str_has_prefix(what, "RDMSR:")) {
		rule->at = FAULT_AT_RDMSR;
		return parse_u64(what + strlen("RDMSR:"), &rule->target);
	}
	rule->at = FAULT_AT_SEAMCALL;
	rule->any = !strcmp(what, "SEAMCALL");
	return rule->any || parse_leaf(p->library, what, &rule->target);
}

static bool parse_cpu_range(struct parser *p, const char *text)
{
	char **ends = g_strsplit(text, "-", 2);
	uint64_t first = 0, last = 0;
	bool ok = ends[0] && parse_u64(ends[0], &first) &&
		  parse_u64(ends[1] ? ends[1] : ends[0], &last) && first <= last &&
		  last < p->platform->lps;

	for (uint64_t cpu = first; ok && cpu <= last; cpu++)
		p->rule->cpus[cpu] = 1;
	g_strfreev(ends);
	return ok;
}

static bool parse_cpus(struct parser *p, const char *list)
{
	char **ranges = g_strsplit(list, ",", -1);
	bool ok = *list;

	if (!p->rule->cpus)
		p->rule->cpus = g_new0(uint8_t, p->platform->lps);
	for (char **range = ranges; ok && *range; range++)
		ok = parse_cpu_range(p, *range);
	g_strfreev(ranges);
	return ok;
}

static bool set_answer(struct parser *p, enum fault_answer answer)
{
	bool first = !p->answered;

	p->answered = true;
	p->rule->fault.answer = answer;
	return first;
}

static bool parse_trap(struct parser *p, const char *trap)
{
	if (!strcmp(trap, "GP"))
		return set_answer(p, FAULT_TRAP_GP);
	return !strcmp(trap, "UD") && p->rule->at == FAULT_AT_SEAMCALL &&
	       set_answer(p, FAULT_TRAP_UD);
}

static bool parse_output(struct parser *p, const char *key, const char *value)
{
	for (unsigned int i = 0; i < FAULT_OUTPUTS; i++)
		if (!strcmp(key, output_names[i])) {
			p->rule->fault.has_output |= 1u << i;
			return p->rule->at == FAULT_AT_SEAMCALL &&
			       parse_u64(value, &p->rule->fault.output[i]);
		}
	return false;
}

static bool parse_pair(struct parser *p, const char *key, const char *value)
{
	struct fault_rule *rule = p->rule;

	if (!strcmp(key, "cpu"))
		return parse_cpus(p, value);
	if (!strcmp(key, "call"))
		return parse_u64(value, &rule->call) && rule->call;
	if (!strcmp(key, "times"))
		return parse_u64(value, &rule->times) && rule->times;
	if (!strcmp(key, "status"))
		return rule->at == FAULT_AT_SEAMCALL && set_answer(p, FAULT_STATUS) &&
		       parse_status(value, &rule->fault.value);
	if (!strcmp(key, "value"))
		return rule->at == FAULT_AT_RDMSR && set_answer(p, FAULT_VALUE) &&
		       parse_u64(value, &rule->fault.value);
	if (!strcmp(key, "trap"))
		return parse_trap(p, value);
	if (!strcmp(key, "detail")) {
		p->has_detail = true;
		return parse_u64(value, &p->detail) && p->detail <= UINT32_MAX;
	}
	return parse_output(p, key, value);
}

static bool parse_word(struct parser *p, const char *word)
{
	char **pair = g_strsplit(word, "=", 2);
	bool ok;

	if (pair[1])
		ok = parse_pair(p, pair[0], pair[1]);
	else
		ok = !strcmp(word, "vmfail") && p->rule->at != FAULT_AT_RDMSR &&
		     set_answer(p, FAULT_VMFAIL);
	g_strfreev(pair);
	return ok;
}

/* Words that only make sense together. */
static bool finish(struct parser *p, char **why)
{
	struct fault *fault = &p->rule->fault;

	if (!p->answered) {
		*why = g_strdup("says nothing to answer (status=, trap=, vmfail or value=)");
		return false;
	}
	if ((p->has_detail || fault->has_output) && fault->answer != FAULT_STATUS) {
		*why = g_strdup("detail= and registers go with status=");
		return false;
	}
	if (p->has_detail)
		fault->value = (fault->value & ~(uint64_t)UINT32_MAX) | p->detail;
	return true;
}

/* WHAT [cpu=LIST] [call=N] [times=N] ANSWER; why says what is wrong, to be freed. */
static bool parse(struct parser *p, const char *spec, char **why)
{
	char **words = g_strsplit_set(spec, " \t", -1);
	bool first = true, ok = true;

	for (char **word = words; ok && *word; word++) {
		if (!**word)
			continue;
		ok = first ? parse_what(p, *word) : parse_word(p, *word);
		if (!ok)
			*why = g_strdup_printf("'%s' is not understood here", *word);
		first = false;
	}
	g_strfreev(words);
	return ok && finish(p, why);
}

static void free_rule(void *rule)
{
	g_free(((struct fault_rule *)rule)->cpus);
}

/**
 * fault_rules_new - an empty list of struct fault_rule
 */
GArray *fault_rules_new(void)
{
	GArray *rules = g_array_new(FALSE, FALSE, sizeof(struct fault_rule));

	g_array_set_clear_func(rules, free_rule);
	return rules;
}

/**
 * fault_add - add a fault after those there are
 * @platform: the platform
 * @library: for names of leaves
 * @number: its number, 0 for the one after the highest that ever was
 * @spec: WHAT [cpu=LIST] [call=N] [times=N] ANSWER
 * @why: what is wrong with it, to be freed
 *
 * Return: its number, or 0 when something is wrong.
 */
unsigned int fault_add(struct platform *platform, const struct seam_library *library,
		       unsigned int number, const char *spec, char **why)
{
	struct fault_rule rule = { 0 };
	struct parser p = { .rule = &rule, .platform = platform, .library = library };

	if (!parse(&p, spec, why)) {
		free_rule(&rule);
		return 0;
	}
	g_rw_lock_writer_lock(&platform->lock);
	rule.fault.number = number ? number : platform->last_fault + 1;
	platform->last_fault = MAX(platform->last_fault, rule.fault.number);
	g_array_append_val(platform->faults, rule);
	__atomic_store_n(&platform->has_faults, true, __ATOMIC_RELEASE);
	g_rw_lock_writer_unlock(&platform->lock);
	return rule.fault.number;
}

/**
 * faults_clear - remove all faults
 * @platform: the platform
 */
void faults_clear(struct platform *platform)
{
	g_rw_lock_writer_lock(&platform->lock);
	g_array_set_size(platform->faults, 0);
	__atomic_store_n(&platform->has_faults, false, __ATOMIC_RELEASE);
	g_rw_lock_writer_unlock(&platform->lock);
}

static bool matches(const struct fault_rule *rule, enum fault_at at, uint64_t target,
		    unsigned int cpu)
{
	return rule->at == at && (rule->any || rule->target == target) &&
	       (!rule->cpus || rule->cpus[cpu]);
}

static bool strikes(struct fault_rule *rule)
{
	uint64_t call = __atomic_add_fetch(&rule->calls, 1, __ATOMIC_RELAXED);
	uint64_t first = MAX(rule->call, 1);

	return call >= first && (!rule->times || call - first < rule->times);
}

/**
 * fault_strike - find the fault that strikes an instruction
 * @platform: the platform
 * @at: instruction
 * @target: leaf without version, or MSR
 * @cpu: the vCPU
 * @struck: a copy of the fault: the list may change at any time
 *
 * Counts the call for every fault that it matches. Return: false for none.
 */
bool fault_strike(struct platform *platform, enum fault_at at, uint64_t target, unsigned int cpu,
		  struct fault *struck)
{
	bool found = false;

	if (!__atomic_load_n(&platform->has_faults, __ATOMIC_ACQUIRE))
		return false;
	g_rw_lock_reader_lock(&platform->lock);
	for (guint i = 0; i < platform->faults->len; i++) {
		struct fault_rule *rule = &g_array_index(platform->faults, struct fault_rule, i);

		if (!matches(rule, at, target, cpu) || !strikes(rule) || found)
			continue;
		*struck = rule->fault;
		found = true;
	}
	g_rw_lock_reader_unlock(&platform->lock);
	return found;
}

/**
 * fault_outputs - registers after a leaf that a fault struck
 * @fault: the fault, with a status
 * @leaf: the leaf without version
 * @regs: registers
 */
void fault_outputs(const struct fault *fault, uint64_t leaf, struct seam_regs *regs)
{
	uint64_t *const out[] = { &regs->rcx, &regs->rdx, &regs->r8,
				  &regs->r9,  &regs->r10, &regs->r11 };
	uint32_t zeros = 0, ones = 0;

	for (size_t i = 0; i < G_N_ELEMENTS(cleared_outputs); i++)
		if (cleared_outputs[i].leaf == leaf) {
			zeros = cleared_outputs[i].zeros;
			ones = cleared_outputs[i].ones;
		}
	regs->rax = fault->value;
	for (unsigned int i = 0; i < FAULT_OUTPUTS; i++) {
		if (fault->has_output & 1u << i)
			*out[i] = fault->output[i];
		else if (zeros & 1u << i)
			*out[i] = 0;
		else if (ones & 1u << i)
			*out[i] = ~0ull;
	}
}
