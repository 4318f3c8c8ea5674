// SPDX-License-Identifier: GPL-2.0-or-later
/* TDH.SYS.RD and TDH.SYS.RDALL: metadata fields of the SYS context. */
#include <string.h>

#include "module.h"
#include "td_params.h"

/* Metadata field identifier (TDX module ABI spec, MD_FIELD_ID). */
#define ID_CODE(id) (0xffffff & (id))
#define ID_SIZE(id) ((id) >> 32 & 3)
#define ID_CLASS(id) ((id) >> 56 & 0x3f)
#define ID_CONTEXT (7ull << 52)
#define ID_LAST_ELEMENT(n) ((uint64_t)(n) << 34)
#define ID_LAST_FIELD(n) ((uint64_t)(n) << 38)
#define ID_NULL (~0ull)
/* 31:24, 37:34, 46:38 and 49:47; TDH.SYS.RD minds 55 and 62 too. */
#define ID_MUST_BE_0 (0xffull << 24 | 0xffffull << 34)
#define ID_MUST_BE_0_RD (ID_MUST_BE_0 | BIT_ULL(55) | BIT_ULL(62))

#define NO_ROW ((size_t)-1)

#define LIST_BYTES 4096

#define GET_CONFIG(name, expression)                                        \
	static uint64_t get_##name(const struct seam *seam, uint32_t index) \
	{                                                                   \
		const struct seam_config *config = &seam->config;           \
		(void)index;                                                \
		return expression;                                          \
	}

GET_CONFIG(num_pkgs, config->packages)
GET_CONFIG(pkg_fms, index < config->packages ? config->package_fms[index] : 0)
GET_CONFIG(build_date, config->build_date)
GET_CONFIG(build_num, config->build_num)
GET_CONFIG(minor_version, config->minor)
GET_CONFIG(major_version, config->major)
GET_CONFIG(update_version, config->update)
GET_CONFIG(internal_version, config->internal)
GET_CONFIG(module_hv, config->module_hv)
GET_CONFIG(min_update_hv, config->min_update_hv)
GET_CONFIG(no_downgrade, !!config->no_downgrade)
GET_CONFIG(num_handoff_pages, config->num_handoff_pages)
GET_CONFIG(cmr_base, config->cmrs[index].bytes ? config->cmrs[index].base_pa : 0)
GET_CONFIG(cmr_size, config->cmrs[index].bytes)

static uint64_t get_handoff_data_valid(const struct seam *seam, uint32_t index)
{
	(void)index;
	return atomic_load(&seam->handoff_valid);
}

static uint64_t get_handoff_data_hv(const struct seam *seam, uint32_t index)
{
	(void)index;
	return seam->handoff.hv;
}

static uint64_t get_handoff_data_size(const struct seam *seam, uint32_t index)
{
	(void)index;
	return seam->handoff.bytes;
}

static uint64_t get_tdx_features0(const struct seam *seam, uint32_t index)
{
	(void)index;
	return seam_features0(seam);
}

static uint64_t get_xfam_fixed0(const struct seam *seam, uint32_t index)
{
	(void)index;
	return seam_xfam_fixed0(seam);
}

static uint64_t get_cpuid_config_leaves(const struct seam *seam, uint32_t index)
{
	(void)seam;
	return seam_cpuid_config_leaf(index);
}

static uint64_t get_cpuid_config_values(const struct seam *seam, uint32_t index)
{
	(void)seam;
	return seam_cpuid_config_direct(index / 2, index % 2);
}

/* A TD may be shown the models of the platform: those the module was loaded on. */
static uint32_t list_fms(const struct seam_config *config, uint32_t fms[SEAM_MAX_PACKAGES])
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < config->packages; i++) {
		uint32_t j = 0;

		while (j < count && fms[j] != config->package_fms[i])
			j++;
		if (j == count)
			fms[count++] = config->package_fms[i];
	}
	return count;
}

static uint64_t get_num_allowed_fms(const struct seam *seam, uint32_t index)
{
	uint32_t fms[SEAM_MAX_PACKAGES];

	(void)index;
	return list_fms(&seam->config, fms);
}

static uint64_t get_allowed_fms(const struct seam *seam, uint32_t index)
{
	uint32_t fms[SEAM_MAX_PACKAGES];
	uint32_t count = list_fms(&seam->config, fms);

	return index < count ? fms[index] : 0;
}

#include "fields.h"

static bool row_exists(const struct seam *seam, size_t row)
{
	return row < ARRAY_SIZE(fields) && (!fields[row].later || is_later(seam));
}

static uint32_t row_codes(const struct field *field)
{
	return (uint32_t)field->fields * field->elements;
}

static size_t find_row(const struct seam *seam, uint64_t id)
{
	for (size_t row = 0; row < ARRAY_SIZE(fields); row++) {
		uint64_t first = ID_CODE(fields[row].id);

		if (row_exists(seam, row) && ID_CLASS(fields[row].id) == ID_CLASS(id) &&
		    ID_CODE(id) >= first && ID_CODE(id) < first + row_codes(&fields[row]))
			return row;
	}
	return NO_ROW;
}

static size_t next_row(const struct seam *seam, size_t row)
{
	do
		row++;
	while (row < ARRAY_SIZE(fields) && !row_exists(seam, row));
	return row;
}

static uint64_t row_id(size_t row)
{
	return row < ARRAY_SIZE(fields) ? fields[row].id : ID_NULL;
}

static uint64_t read_element(const struct seam *seam, size_t row, uint32_t index)
{
	return fields[row].get ? fields[row].get(seam, index) : fields[row].value;
}

static uint64_t read_field(struct call *call, uint64_t id)
{
	const struct seam *seam = call->seam;
	size_t row = find_row(seam, id);
	uint32_t index;

	if (id & ID_MUST_BE_0_RD || row == NO_ROW)
		return TDX_METADATA_FIELD_ID_INCORRECT;
	index = ID_CODE(id) - ID_CODE(fields[row].id);
	call->regs->r8 = read_element(seam, row, index);
	/* Inside an array the bits that were ignored in the id stay as they came. */
	call->regs->rdx = index + 1 < row_codes(&fields[row]) ? id + 1 :
								row_id(next_row(seam, row));
	return TDX_SUCCESS;
}

/**
 * tdh_sys_rd() - TDH.SYS.RD
 * @call: the call
 */
uint64_t tdh_sys_rd(struct call *call)
{
	uint64_t id = call->in->rdx;

	call->regs->rdx = ID_NULL;
	call->regs->r8 = 0;
	if (!atomic_load(&call->seam->lp[call->lp].initialised))
		return TDX_SYS_LP_INIT_NOT_DONE;
	if ((id | ID_CONTEXT) == ID_NULL) {
		call->regs->rdx = row_id(0);
		return TDX_METADATA_FIRST_FIELD_ID_IN_CONTEXT;
	}
	return read_field(call, id & ~ID_CONTEXT);
}

/**
 * struct list - the list that TDH.SYS.RDALL writes
 * @bytes: used, with the header
 * @sequences: in it
 * @words: header and sequences
 */
struct list {
	uint16_t bytes;
	uint16_t sequences;
	uint64_t words[LIST_BYTES / sizeof(uint64_t)];
};

/**
 * struct cursor - where in the fields TDH.SYS.RDALL is
 * @row: row of the table
 * @field: in that row
 */
struct cursor {
	size_t row;
	uint32_t field;
};

static bool continues(const struct field *field, const struct field *next)
{
	return ID_CLASS(next->id) == ID_CLASS(field->id) &&
	       ID_SIZE(next->id) == ID_SIZE(field->id) && next->elements == field->elements &&
	       ID_CODE(next->id) == ID_CODE(field->id) + row_codes(field);
}

static void list_row(const struct seam *seam, struct list *list, struct cursor at)
{
	uint32_t elements = fields[at.row].elements;

	for (uint32_t i = at.field * elements; i < row_codes(&fields[at.row]); i++) {
		list->words[list->bytes / sizeof(uint64_t)] = read_element(seam, at.row, i);
		list->bytes += sizeof(uint64_t);
	}
}

/* Rows that follow each other by code make one sequence. Returns where the next begins. */
static size_t sequence_end(const struct seam *seam, struct cursor at, uint32_t *count)
{
	size_t row = at.row, next = next_row(seam, row);

	*count = fields[row].fields - at.field;
	while (next < ARRAY_SIZE(fields) && continues(&fields[row], &fields[next])) {
		*count += fields[next].fields;
		row = next;
		next = next_row(seam, row);
	}
	return next;
}

static bool list_sequence(const struct seam *seam, struct list *list, struct cursor *at)
{
	const struct field *first = &fields[at->row];
	uint32_t count;
	size_t end = sequence_end(seam, *at, &count);
	uint64_t words = 1 + (uint64_t)count * first->elements;

	if (list->bytes + words * sizeof(uint64_t) > LIST_BYTES)
		return false;
	list->words[list->bytes / sizeof(uint64_t)] =
		(first->id + (uint64_t)at->field * first->elements) |
		ID_LAST_ELEMENT(first->elements - 1) | ID_LAST_FIELD(count - 1);
	list->bytes += sizeof(uint64_t);
	for (; at->row != end; *at = (struct cursor){ next_row(seam, at->row), 0 })
		list_row(seam, list, *at);
	list->sequences++;
	return true;
}

static bool find_start(const struct seam *seam, uint64_t id, struct cursor *at)
{
	uint32_t index;

	if (id == ID_NULL)
		return true;
	at->row = find_row(seam, id);
	if (id & ID_MUST_BE_0 || at->row == NO_ROW || ID_SIZE(id) != ID_SIZE(fields[at->row].id))
		return false;
	index = ID_CODE(id) - ID_CODE(fields[at->row].id);
	at->field = index / fields[at->row].elements;
	return index % fields[at->row].elements == 0;
}

/**
 * tdh_sys_rdall() - TDH.SYS.RDALL
 * @call: the call
 */
uint64_t tdh_sys_rdall(struct call *call)
{
	struct list list = { .bytes = sizeof(uint64_t) };
	struct cursor at = { 0, 0 };
	struct seam *seam = call->seam;

	call->regs->r8 = ID_NULL;
	if (!atomic_load(&seam->lp[call->lp].initialised))
		return TDX_SYS_LP_INIT_NOT_DONE;
	if (!seam_pa_is_shared(seam, call->in->rdx, LIST_BYTES))
		return operand_invalid(OPERAND_RDX);
	if (!find_start(seam, call->in->r8, &at))
		return TDX_METADATA_FIELD_ID_INCORRECT;
	while (at.row < ARRAY_SIZE(fields) && list_sequence(seam, &list, &at))
		;
	list.words[0] = list.bytes | (uint64_t)list.sequences << 16;
	seam_write_pa(seam, call->in->rdx, list.words, list.bytes);
	if (at.row == ARRAY_SIZE(fields))
		return TDX_SUCCESS;
	call->regs->r8 = fields[at.row].id + (uint64_t)at.field * fields[at.row].elements;
	return TDX_METADATA_LIST_OVERFLOW;
}
