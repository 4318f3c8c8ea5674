// SPDX-License-Identifier: GPL-2.0-or-later
/* Finds the instructions that the platform answers, as QEMU translates them. */
#include <string.h>

#include "vtdx.h"

/* Prefixes that belong to an opcode (SDM vol. 2, 3.1.1.1: 66, F3, NP). */
enum prefix {
	PREFIX_ANY,
	PREFIX_NP,
	PREFIX_66,
	PREFIX_F3,
};

enum operand {
	OPERAND_ANY,
	OPERAND_MEMORY,
};

/**
 * struct rule - an instruction to look for
 * @map: opcode map
 * @opcode: opcode
 * @prefix: mandatory prefix
 * @modrm_mask: bits of ModRM that belong to the opcode
 * @modrm: their value
 * @operand: what ModRM may name
 * @handler: called before it executes
 * @after: called before the instruction that follows it, or NULL
 */
struct rule {
	uint8_t map;
	uint8_t opcode;
	uint8_t prefix;
	uint8_t modrm_mask;
	uint8_t modrm;
	uint8_t operand;
	qemu_vcpu_cb handler;
	qemu_vcpu_cb after;
};

static const struct rule rules[] = {
	/* SEAMCALL */
	{ INSN_MAP_0F, 0x01, PREFIX_66, 0xff, 0xcf, OPERAND_ANY, on_seamcall, NULL },
	/* VMXON: /6 */
	{ INSN_MAP_0F, 0xc7, PREFIX_F3, 0x38, 0x30, OPERAND_MEMORY, on_vmxon, NULL },
	/* VMXOFF, VMLAUNCH, VMRESUME */
	{ INSN_MAP_0F, 0x01, PREFIX_NP, 0xff, 0xc4, OPERAND_ANY, on_vmxoff, NULL },
	{ INSN_MAP_0F, 0x01, PREFIX_NP, 0xff, 0xc2, OPERAND_ANY, on_vmlaunch, NULL },
	{ INSN_MAP_0F, 0x01, PREFIX_NP, 0xff, 0xc3, OPERAND_ANY, on_vmresume, NULL },
	/* VMCLEAR and VMPTRLD: /6, VMPTRST: /7 */
	{ INSN_MAP_0F, 0xc7, PREFIX_66, 0x38, 0x30, OPERAND_MEMORY, on_vmclear, NULL },
	{ INSN_MAP_0F, 0xc7, PREFIX_NP, 0x38, 0x30, OPERAND_MEMORY, on_vmptrld, NULL },
	{ INSN_MAP_0F, 0xc7, PREFIX_NP, 0x38, 0x38, OPERAND_MEMORY, on_vmptrst, NULL },
	/* VMREAD, VMWRITE */
	{ INSN_MAP_0F, 0x78, PREFIX_NP, 0, 0, OPERAND_ANY, on_vmread, NULL },
	{ INSN_MAP_0F, 0x79, PREFIX_NP, 0, 0, OPERAND_ANY, on_vmwrite, NULL },
	/* INVEPT, INVVPID */
	{ INSN_MAP_0F38, 0x80, PREFIX_66, 0, 0, OPERAND_MEMORY, on_invept, NULL },
	{ INSN_MAP_0F38, 0x81, PREFIX_66, 0, 0, OPERAND_MEMORY, on_invvpid, NULL },
	/* MOV to CR4, MOV from CR4: /4 */
	{ INSN_MAP_0F, 0x22, PREFIX_ANY, 0x38, 0x20, OPERAND_ANY, on_mov_to_cr, NULL },
	{ INSN_MAP_0F, 0x20, PREFIX_ANY, 0x38, 0x20, OPERAND_ANY, on_mov_from_cr, NULL },
	/* RDMSR */
	{ INSN_MAP_0F, 0x32, PREFIX_ANY, 0, 0, OPERAND_ANY, on_rdmsr, on_after_rdmsr },
	/* WRMSR */
	{ INSN_MAP_0F, 0x30, PREFIX_ANY, 0, 0, OPERAND_ANY, on_wrmsr, NULL },
	/* CPUID */
	{ INSN_MAP_0F, 0xa2, PREFIX_ANY, 0, 0, OPERAND_ANY, on_cpuid, on_after_cpuid },
	/* MOVDIR64B */
	{ INSN_MAP_0F38, 0xf8, PREFIX_66, 0, 0, OPERAND_MEMORY, on_movdir64b, NULL },
	/* PAUSE */
	{ INSN_MAP_ONE, 0x90, PREFIX_F3, 0, 0, OPERAND_ANY, on_pause, NULL },
};

static bool prefix_fits(const struct rule *rule, const struct insn *insn)
{
	switch (rule->prefix) {
	case PREFIX_NP:
		return !insn->opsize && !insn->rep;
	case PREFIX_66:
		return insn->opsize && !insn->rep;
	case PREFIX_F3:
		return insn->rep == 0xf3;
	}
	return true;
}

/* REX.R makes CR12 of CR4, which does not exist. */
static bool modrm_fits(const struct rule *rule, const struct insn *insn)
{
	if ((insn->modrm & rule->modrm_mask) != rule->modrm)
		return false;
	if (rule->handler == on_mov_to_cr || rule->handler == on_mov_from_cr)
		return insn->reg == 4;
	return rule->operand != OPERAND_MEMORY || insn->mod != 3;
}

static const struct rule *rule_for(const struct insn *insn)
{
	for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
		const struct rule *rule = &rules[i];

		if (rule->map == insn->map && rule->opcode == insn->opcode &&
		    prefix_fits(rule, insn) && modrm_fits(rule, insn))
			return rule;
	}
	return NULL;
}

/*
 * TCG stops reading an instruction that it finds illegal, so the rest of it comes
 * from memory.
 */
static bool decode(struct insn *insn, uint64_t va, const uint8_t *data, size_t nr)
{
	uint8_t bytes[INSN_MAX_BYTES];
	GByteArray *buf;
	bool ok;

	if (insn_decode(insn, va, data, nr))
		return true;
	if (nr < 2 || !memchr(data, 0x0f, nr))
		return false;
	buf = g_byte_array_new();
	ok = qemu_plugin_read_memory_vaddr(va, buf, MIN(sizeof(bytes), 0x1000 - (va & 0xfff)));
	if (ok) {
		nr = buf->len;
		memcpy(bytes, buf->data, nr);
	}
	g_byte_array_free(buf, TRUE);
	return ok && insn_decode(insn, va, bytes, nr);
}

/* Sites are kept for good and shared: code is translated again and again. */
static struct site *site_for(struct vtdx *vtdx, const struct insn *insn, qemu_vcpu_cb after)
{
	struct site key = { .insn = *insn };
	struct site *site;

	g_mutex_lock(&vtdx->lock);
	site = g_hash_table_lookup(vtdx->sites, &key);
	if (!site) {
		site = g_new0(struct site, 1);
		site->vtdx = vtdx;
		site->insn = *insn;
		site->after = after;
		g_hash_table_add(vtdx->sites, site);
	}
	g_mutex_unlock(&vtdx->lock);
	return site;
}

/* An IRETQ of the kernel half, for vcpu_resume_flags(). */
static bool is_kernel_iretq(const struct insn *insn)
{
	return insn->map == INSN_MAP_ONE && insn->opcode == 0xcf && insn->rex == 0x48 &&
	       insn->len == 2 && insn_is_in_upper_half(insn);
}

static void translate_insn(struct vtdx *vtdx, struct qemu_plugin_tb *tb, size_t i)
{
	struct qemu_plugin_insn *handle = qemu_plugin_tb_get_insn(tb, i);
	uint8_t data[INSN_MAX_BYTES];
	size_t nr = qemu_plugin_insn_data(handle, data, sizeof(data));
	const struct rule *rule;
	struct site *site;
	struct insn insn;

	if (!decode(&insn, qemu_plugin_insn_vaddr(handle), data, nr))
		return;
	if (is_kernel_iretq(&insn))
		__atomic_store_n(&vtdx->iretq_va, insn.va, __ATOMIC_RELAXED);
	rule = rule_for(&insn);
	if (!rule)
		return;
	site = site_for(vtdx, &insn, rule->after);
	qemu_plugin_register_vcpu_insn_exec_cb(handle, rule->handler, QEMU_CB_RW_REGS_PC, site);
	/* Where it is the last one, on_block_due() comes next. */
	if (site->after && i + 1 < qemu_plugin_tb_n_insns(tb))
		qemu_plugin_register_vcpu_insn_exec_cb(qemu_plugin_tb_get_insn(tb, i + 1),
						       site->after, QEMU_CB_RW_REGS, site);
}

/**
 * translate_tb - called by QEMU for each block that it translates
 * @tb: the block
 * @userdata: the platform
 */
void translate_tb(struct qemu_plugin_tb *tb, void *userdata)
{
	struct vtdx *vtdx = userdata;
	size_t nr = qemu_plugin_tb_n_insns(tb);

	qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_block_due, QEMU_CB_RW_REGS, QEMU_COND_NE,
						  vtdx->due, 0, vtdx);
	for (size_t i = 0; i < nr; i++)
		translate_insn(vtdx, tb, i);
}
