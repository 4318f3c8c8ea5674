// SPDX-License-Identifier: GPL-2.0-or-later
#include <string.h>

#include "insn.h"

/* Takes bytes off the front of an instruction, and remembers running out. */
struct cursor {
	const uint8_t *bytes;
	size_t nr;
	size_t at;
	bool short_of;
};

static uint8_t peek(const struct cursor *c)
{
	return c->at < c->nr ? c->bytes[c->at] : 0;
}

static uint8_t take(struct cursor *c)
{
	if (c->at >= c->nr) {
		c->short_of = true;
		return 0;
	}
	return c->bytes[c->at++];
}

static int32_t take_signed(struct cursor *c, unsigned int bytes)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint32_t)take(c) << (8 * i);
	return bytes == 1 ? (int8_t)value : (int32_t)value;
}

static bool take_prefix(struct insn *insn, struct cursor *c)
{
	switch (peek(c)) {
	case 0x66:
		insn->opsize = true;
		break;
	case 0x67:
		insn->addr32 = true;
		break;
	case 0xf2:
	case 0xf3:
		insn->rep = peek(c);
		break;
	case 0x64:
		insn->segment = INSN_SEG_FS;
		break;
	case 0x65:
		insn->segment = INSN_SEG_GS;
		break;
	case 0x26: /* CS, DS, ES and SS overrides mean nothing in 64-bit mode */
	case 0x2e:
	case 0x36:
	case 0x3e:
		break;
	default:
		return false;
	}
	take(c);
	return true;
}

static void take_opcode(struct insn *insn, struct cursor *c)
{
	if ((peek(c) & 0xf0) == 0x40)
		insn->rex = take(c);
	insn->opcode = take(c);
	if (insn->opcode != 0x0f)
		return;
	insn->map = INSN_MAP_0F;
	insn->opcode = take(c);
	if (insn->opcode != 0x38)
		return;
	insn->map = INSN_MAP_0F38;
	insn->opcode = take(c);
}

static uint8_t rex_bit(const struct insn *insn, uint8_t bit)
{
	return insn->rex & bit ? 8 : 0;
}

static void take_sib(struct insn *insn, struct cursor *c)
{
	uint8_t sib = take(c);

	insn->scale = sib >> 6;
	insn->index = ((sib >> 3) & 7) | rex_bit(insn, INSN_REX_X);
	if (insn->index == 4)
		insn->index = INSN_NO_REG;
	insn->base = (sib & 7) | rex_bit(insn, INSN_REX_B);
	if (insn->mod == 0 && (sib & 7) == 5)
		insn->base = INSN_NO_REG;
}

/* SDM vol. 2, tables 2-2 and 2-3. */
static void take_modrm(struct insn *insn, struct cursor *c)
{
	uint8_t low;

	insn->has_modrm = true;
	insn->modrm = take(c);
	insn->mod = insn->modrm >> 6;
	insn->reg = ((insn->modrm >> 3) & 7) | rex_bit(insn, INSN_REX_R);
	low = insn->modrm & 7;
	insn->rm = low | rex_bit(insn, INSN_REX_B);
	insn->base = insn->rm;
	if (insn->mod == 3)
		return;
	if (low == 4)
		take_sib(insn, c);
	if (insn->mod == 0 && low == 5) {
		insn->rip_relative = true;
		insn->base = INSN_NO_REG;
	}
	if (insn->mod == 1)
		insn->disp = take_signed(c, 1);
	else if (insn->mod == 2 || insn->base == INSN_NO_REG)
		insn->disp = take_signed(c, 4);
}

bool insn_is_jcc(const struct insn *insn)
{
	if (insn->map == INSN_MAP_ONE)
		return (insn->opcode & 0xf0) == 0x70;
	return insn->map == INSN_MAP_0F && (insn->opcode & 0xf0) == 0x80;
}

bool insn_is_setcc(const struct insn *insn)
{
	return insn->map == INSN_MAP_0F && (insn->opcode & 0xf0) == 0x90;
}

bool insn_is_cmovcc(const struct insn *insn)
{
	return insn->map == INSN_MAP_0F && (insn->opcode & 0xf0) == 0x40;
}

/* What follows the opcode, for the opcodes that insn_decode() knows. */
enum tail {
	TAIL_UNKNOWN,
	TAIL_NONE,
	TAIL_MODRM,
	TAIL_MODRM_REG,
	TAIL_REL8,
	TAIL_REL32,
};

static enum tail tail_of(const struct insn *insn)
{
	if (insn_is_jcc(insn))
		return insn->map == INSN_MAP_ONE ? TAIL_REL8 : TAIL_REL32;
	if (insn_is_setcc(insn) || insn_is_cmovcc(insn))
		return TAIL_MODRM;
	if (insn->map == INSN_MAP_0F38)
		return insn->opcode == 0xf8 || insn->opcode == 0x80 || insn->opcode == 0x81 ?
			       TAIL_MODRM :
			       TAIL_UNKNOWN;
	if (insn->map == INSN_MAP_ONE)
		return insn->opcode == 0xcf || insn->opcode == 0x90 ? TAIL_NONE : TAIL_UNKNOWN;
	switch (insn->opcode) {
	case 0x30: /* WRMSR */
	case 0x32: /* RDMSR */
	case 0xa2: /* CPUID */
		return TAIL_NONE;
	case 0x20: /* MOV from and to CR: mod is taken as 3 whatever it says */
	case 0x22:
		return TAIL_MODRM_REG;
	case 0x01:
	case 0x78:
	case 0x79:
	case 0xc7:
		return TAIL_MODRM;
	}
	return TAIL_UNKNOWN;
}

static void take_tail(struct insn *insn, struct cursor *c, enum tail tail)
{
	switch (tail) {
	case TAIL_MODRM:
		take_modrm(insn, c);
		break;
	case TAIL_MODRM_REG:
		insn->has_modrm = true;
		insn->modrm = take(c) | 0xc0;
		insn->mod = 3;
		insn->reg = ((insn->modrm >> 3) & 7) | rex_bit(insn, INSN_REX_R);
		insn->rm = (insn->modrm & 7) | rex_bit(insn, INSN_REX_B);
		break;
	case TAIL_REL8:
		insn->imm = take_signed(c, 1);
		break;
	case TAIL_REL32:
		insn->imm = take_signed(c, 4);
		break;
	default:
		break;
	}
}

/**
 * insn_decode - decode one instruction of 64-bit mode
 * @insn: the result
 * @va: where the instruction lies
 * @bytes: its first bytes
 * @nr: how many there are
 *
 * Return: false for an opcode that the plugin has no use for, and when @nr bytes
 * do not hold the whole instruction.
 */
bool insn_decode(struct insn *insn, uint64_t va, const uint8_t *bytes, size_t nr)
{
	struct cursor c = { .bytes = bytes, .nr = nr > INSN_MAX_BYTES ? INSN_MAX_BYTES : nr };
	enum tail tail;

	memset(insn, 0, sizeof(*insn));
	insn->va = va;
	insn->base = INSN_NO_REG;
	insn->index = INSN_NO_REG;
	while (take_prefix(insn, &c))
		;
	take_opcode(insn, &c);
	tail = tail_of(insn);
	if (tail == TAIL_UNKNOWN)
		return false;
	take_tail(insn, &c, tail);
	if (c.short_of)
		return false;
	insn->len = c.at;
	insn->nr_bytes = c.at;
	memcpy(insn->bytes, bytes, c.at);
	return true;
}

/**
 * insn_condition - evaluate the condition of a Jcc, SETcc or CMOVcc
 * @insn: the instruction
 * @cf: carry flag
 * @zf: zero flag
 *
 * All other arithmetic flags count as clear: so VMX instructions leave them (SDM
 * vol. 3, "Conventions" of the VMX instruction reference).
 */
bool insn_condition(const struct insn *insn, bool cf, bool zf)
{
	/* O, B, Z, BE, S, P, L, LE */
	const bool holds[] = { false, cf, zf, cf || zf, false, false, false, zf };

	return holds[(insn->opcode & 0xf) >> 1] != (insn->opcode & 1);
}
