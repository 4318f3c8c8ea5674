/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Decoding of the few instructions that the platform answers itself. */
#ifndef VTDX_INSN_H
#define VTDX_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSN_MAX_BYTES 15

/* Opcode maps, as the SDM (vol. 2, appendix A) counts them. */
enum insn_map {
	INSN_MAP_ONE,
	INSN_MAP_0F,
	INSN_MAP_0F38,
};

enum insn_segment {
	INSN_SEG_NONE,
	INSN_SEG_FS,
	INSN_SEG_GS,
};

#define INSN_NO_REG 0xff

/**
 * struct insn - one decoded instruction in 64-bit mode
 * @va: its address
 * @bytes: its bytes, as far as they could be read
 * @nr_bytes: how many
 * @len: length in bytes
 * @map: opcode map
 * @opcode: last opcode byte
 * @opsize: 66 prefix present
 * @rep: F2 or F3 when that prefix is present, else 0
 * @addr32: 67 prefix present
 * @rex: the REX prefix, or 0
 * @segment: segment override that matters in 64-bit mode
 * @has_modrm: the members below are valid
 * @modrm: the byte
 * @mod: mod field
 * @reg: reg field with REX.R
 * @rm: rm field with REX.B
 * @base: register number or INSN_NO_REG
 * @index: likewise
 * @scale: shift for the index
 * @rip_relative: displacement counts from the next instruction
 * @disp: displacement, sign extended
 * @imm: immediate or relative offset, sign extended
 */
struct insn {
	uint64_t va;
	uint8_t bytes[INSN_MAX_BYTES];
	uint8_t nr_bytes;
	uint8_t len;
	uint8_t map;
	uint8_t opcode;
	bool opsize;
	uint8_t rep;
	bool addr32;
	uint8_t rex;
	uint8_t segment;
	bool has_modrm;
	uint8_t modrm;
	uint8_t mod;
	uint8_t reg;
	uint8_t rm;
	uint8_t base;
	uint8_t index;
	uint8_t scale;
	bool rip_relative;
	int32_t disp;
	int32_t imm;
};

#define INSN_REX_W 8
#define INSN_REX_R 4
#define INSN_REX_X 2
#define INSN_REX_B 1

bool insn_decode(struct insn *insn, uint64_t va, const uint8_t *bytes, size_t nr);

/* Only 64-bit code is there, which has paging on and a code segment with base 0. */
static inline bool insn_is_in_upper_half(const struct insn *insn)
{
	return (int64_t)insn->va < 0;
}

bool insn_is_jcc(const struct insn *insn);
bool insn_is_setcc(const struct insn *insn);
bool insn_is_cmovcc(const struct insn *insn);
bool insn_condition(const struct insn *insn, bool cf, bool zf);

#endif /* VTDX_INSN_H */
