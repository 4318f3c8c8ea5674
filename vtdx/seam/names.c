// SPDX-License-Identifier: GPL-2.0-or-later
/* Numbers to names. */
#include "module.h"

#define PSEAMLDR_BIT BIT_ULL(63)
#define DETAILS 0xffffffffull
/* Bits 63:32 of every failure of P-SEAMLDR, and of no status of the TDX module. */
#define PSEAMLDR_HIGH 0x80000000

struct name {
	uint64_t value;
	const char *name;
};

#define TDX_LEAF(value, name) { value, name },
#define PSEAMLDR_LEAF(value, name) { value, name },

static const struct name leaf_names[] = {
#include "leaf_list.h"
};

#define TDX_STATUS(status, value) { value, #status },
#define PSEAMLDR_STATUS(status, value) { value, #status },

static const struct name status_names[] = {
#include "status_list.h"
};

static const char *find_name(const struct name *names, size_t count, uint64_t value)
{
	for (size_t i = 0; i < count; i++)
		if (names[i].value == value)
			return names[i].name;
	return NULL;
}

const char *seam_leaf_name(uint64_t rax)
{
	/* P-SEAMLDR compares all of RAX, the TDX module has a version above the leaf. */
	uint64_t leaf = rax & PSEAMLDR_BIT ? rax : (uint16_t)rax;

	return find_name(leaf_names, ARRAY_SIZE(leaf_names), leaf);
}

/*
 * A status of P-SEAMLDR is a number of 64 bits, one of the TDX module has details
 * in its low half. Success is the same for both, and first in the list.
 */
const char *seam_status_name(uint64_t status)
{
	const char *name = find_name(status_names, ARRAY_SIZE(status_names), status);

	if (name || status >> 32 == PSEAMLDR_HIGH)
		return name;
	return find_name(status_names, ARRAY_SIZE(status_names), status & ~DETAILS);
}
