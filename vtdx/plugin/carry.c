// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a machine takes over that starts from the memory and devices of another one
 * (QEMU's migration knows nothing of plugins). As words, because it is little: all
 * other state belongs to VMX and the TDX module, which must not be in use.
 */
#include <string.h>

#include "vtdx.h"

/* Why a vCPU has state that is not in the guest's registers, or NULL. */
static const char *vcpu_obstacle(const struct vcpu *vcpu)
{
	if (vcpu->vmx || vcpu->vmxe)
		return "uses VMX";
	if (vcpu->under_way || vcpu->gp_raised)
		return "is in the middle of an instruction";
	return NULL;
}

/**
 * carry_save - say what another process has to know to go on with this machine
 * @vtdx: the platform, with the machine stopped
 * @answer: words for carry_restore(), or why not
 */
bool carry_save(struct vtdx *vtdx, GString *answer)
{
	if (__atomic_load_n(&vtdx->module_used, __ATOMIC_RELAXED)) {
		g_string_append(answer, "the TDX module was called");
		return false;
	}
	for (unsigned int i = 0; i < vtdx->nr_vcpus; i++) {
		const char *obstacle = vcpu_obstacle(&vtdx->vcpus[i]);

		if (obstacle) {
			g_string_append_printf(answer, "CPU %u %s", i, obstacle);
			return false;
		}
	}
	g_string_append_printf(answer, "iretq=%#" G_GINT64_MODIFIER "x",
			       __atomic_load_n(&vtdx->iretq_va, __ATOMIC_RELAXED));
	msr_list_written(vtdx, answer);
	return true;
}

/* CPU:ADDRESS:VALUE */
static bool restore_msr(struct vtdx *vtdx, const char *text)
{
	char **parts = g_strsplit(text, ":", 3);
	uint64_t lp, msr, value;
	bool ok = g_strv_length(parts) == 3 && parse_u64(parts[0], &lp) && lp < vtdx->nr_vcpus &&
		  parse_u64(parts[1], &msr) && msr <= UINT32_MAX && parse_u64(parts[2], &value) &&
		  msr_put(vtdx, lp, msr, value);

	g_strfreev(parts);
	return ok;
}

static bool restore_word(struct vtdx *vtdx, const char *word)
{
	uint64_t va;

	if (g_str_has_prefix(word, "msr="))
		return restore_msr(vtdx, word + strlen("msr="));
	if (!g_str_has_prefix(word, "iretq=") || !parse_u64(word + strlen("iretq="), &va))
		return false;
	__atomic_store_n(&vtdx->iretq_va, va, __ATOMIC_RELAXED);
	return true;
}

/**
 * carry_restore - take over what carry_save() said
 * @vtdx: the platform, with the machine stopped
 * @words: the words
 * @answer: why not
 */
bool carry_restore(struct vtdx *vtdx, const char *words, GString *answer)
{
	char **each = g_strsplit(words, " ", -1);
	bool ok = true;

	for (char **word = each; ok && *word; word++) {
		ok = restore_word(vtdx, *word);
		if (!ok)
			g_string_append_printf(answer, "'%s' is not understood here", *word);
	}
	g_strfreev(each);
	return ok;
}
