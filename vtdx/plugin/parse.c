// SPDX-License-Identifier: GPL-2.0-or-later
/* Numbers and names as platform files write them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"
#include "vtdx.h"

#define PSEAMLDR_LEAF BIT_ULL(63)
#define LEAF_NUMBER 0xffffull
/* No leaf number of the TDX module or P-SEAMLDR is higher. */
#define LEAF_NUMBERS 256

/**
 * parse_u64 - a decimal or 0x number and nothing else
 * @text: the text
 * @value: the number
 */
bool parse_u64(const char *text, uint64_t *value)
{
	bool hex = g_ascii_strncasecmp(text, "0x", 2) == 0;
	char *end;

	if (!g_ascii_isxdigit(text[hex ? 2 : 0]))
		return false;
	errno = 0;
	*value = strtoull(text, &end, hex ? 16 : 10);
	return !errno && !*end;
}

/**
 * parse_range - BASE+SIZE
 * @text: the text
 * @base: first byte
 * @bytes: size
 */
bool parse_range(const char *text, uint64_t *base, uint64_t *bytes)
{
	char **parts = g_strsplit(text, "+", 2);
	bool ok = parts[0] && parts[1] && parse_u64(g_strstrip(parts[0]), base) &&
		  parse_u64(g_strstrip(parts[1]), bytes);

	g_strfreev(parts);
	return ok;
}

/**
 * parse_duration_ns - a number with ns, us, ms or s
 * @text: the text
 * @ns: the time
 */
bool parse_duration_ns(const char *text, int64_t *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "ns", 1 }, { "us", 1e3 }, { "ms", 1e6 }, { "s", 1e9 } };
	char *end;
	double value = g_ascii_strtod(text, &end);

	if (end == text || !(value >= 0))
		return false;
	while (*end == ' ')
		end++;
	for (size_t i = 0; i < G_N_ELEMENTS(units); i++)
		if (!strcmp(end, units[i].name) && value * units[i].ns < 1e18) {
			*ns = value * units[i].ns;
			return true;
		}
	return false;
}

/**
 * leaf_without_version - what identifies a leaf
 * @rax: RAX of a SEAMCALL
 *
 * P-SEAMLDR takes all of RAX for the number, the TDX module bits 15:0.
 */
uint64_t leaf_without_version(uint64_t rax)
{
	return rax & PSEAMLDR_LEAF ? rax : rax & LEAF_NUMBER;
}

/**
 * parse_leaf - a leaf's name or number
 * @library: knows the names
 * @text: the text
 * @leaf: the number, without version
 */
bool parse_leaf(const struct seam_library *library, const char *text, uint64_t *leaf)
{
	static const uint64_t callees[] = { 0, PSEAMLDR_LEAF };

	if (parse_u64(text, leaf)) {
		*leaf = leaf_without_version(*leaf);
		return true;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(callees); i++)
		for (uint64_t number = 0; number < LEAF_NUMBERS; number++) {
			const char *name = library->leaf_name(callees[i] | number);

			if (name && !strcmp(name, text)) {
				*leaf = callees[i] | number;
				return true;
			}
		}
	return false;
}

/**
 * parse_status - a completion status' name or number
 * @text: the text
 * @status: the number
 */
bool parse_status(const char *text, uint64_t *status)
{
	static const struct {
		const char *name;
		uint64_t value;
	} statuses[] = {
#define TDX_STATUS(name, value) { #name, value },
#define PSEAMLDR_STATUS(name, value) { #name, value },
#include "../seam/status_list.h"
#undef TDX_STATUS
#undef PSEAMLDR_STATUS
	};

	if (parse_u64(text, status))
		return true;
	for (size_t i = 0; i < G_N_ELEMENTS(statuses); i++)
		if (!strcmp(statuses[i].name, text)) {
			*status = statuses[i].value;
			return true;
		}
	return false;
}
