// SPDX-License-Identifier: GPL-2.0-or-later
/* Numbers to names. */
#include "leaves.h"
#include "module.h"

#define PSEAMLDR_BIT (1ull << 63)
#define DETAILS 0xffffffffull

struct name {
	uint64_t value;
	const char *name;
};

#define LEAF_NAME(number, text) { number, text },
#define STATUS_NAME(status, number) { number, #status },

static const struct name leaf_names[] = { SEAM_TDX_LEAVES(LEAF_NAME) };
static const struct name pseamldr_leaf_names[] = { SEAM_PSEAMLDR_LEAVES(LEAF_NAME) };
static const struct name status_names[] = { SEAM_TDX_STATUSES(STATUS_NAME) };
static const struct name pseamldr_status_names[] = { SEAM_PSEAMLDR_STATUSES(STATUS_NAME) };

static const char *find_name(const struct name *names, size_t count, uint64_t value)
{
	for (size_t i = 0; i < count; i++)
		if (names[i].value == value)
			return names[i].name;
	return NULL;
}

const char *seam_leaf_name(uint64_t rax)
{
	if (rax & PSEAMLDR_BIT)
		return find_name(pseamldr_leaf_names, ARRAY_SIZE(pseamldr_leaf_names), rax);
	return find_name(leaf_names, ARRAY_SIZE(leaf_names), (uint16_t)rax);
}

/*
 * A status of P-SEAMLDR uses its low half as a number, one of the TDX module for
 * details; bits 62:32 of the former are 0, which no failure of the latter has.
 */
const char *seam_status_name(uint64_t status)
{
	const char *name = find_name(pseamldr_status_names, ARRAY_SIZE(pseamldr_status_names),
				     status);

	if (status && name)
		return name;
	name = find_name(status_names, ARRAY_SIZE(status_names), status);
	if (name)
		return name;
	return find_name(status_names, ARRAY_SIZE(status_names), status & ~DETAILS);
}
