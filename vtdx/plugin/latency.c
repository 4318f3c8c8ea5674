// SPDX-License-Identifier: GPL-2.0-or-later
/* Modelled time of leaves and of VMX instructions (README.md, [latency]). */
#include <string.h>

#include "platform.h"

static bool parse_instruction(const char *text, uint64_t *leaf)
{
	if (!strcmp(text, "VMXON"))
		*leaf = LATENCY_VMXON;
	else if (!strcmp(text, "VMXOFF"))
		*leaf = LATENCY_VMXOFF;
	else
		return false;
	return true;
}

/* The line of a leaf, or NULL; with the lock held. */
static struct platform_latency *find(struct platform *platform, uint64_t leaf)
{
	for (guint i = 0; i < platform->latencies->len; i++) {
		struct platform_latency *line =
			&g_array_index(platform->latencies, struct platform_latency, i);

		if (line->leaf == leaf)
			return line;
	}
	return NULL;
}

static void set(struct platform *platform, const struct platform_latency *latency)
{
	struct platform_latency *line = find(platform, latency->leaf);

	if (line)
		line->ns = latency->ns;
	else
		g_array_append_vals(platform->latencies, latency, 1);
}

static int64_t look_up(struct platform *platform, uint64_t leaf)
{
	bool instruction = leaf >= LATENCY_VMXOFF;
	const struct platform_latency *line = find(platform, leaf);

	return line ? line->ns : instruction ? 0 : platform->default_latency_ns;
}

static void fill_leaf_ns(struct platform *platform)
{
	for (uint64_t leaf = 0; leaf < PLATFORM_LEAVES; leaf++)
		__atomic_store_n(&platform->leaf_ns[leaf], look_up(platform, leaf),
				 __ATOMIC_RELAXED);
}

/**
 * latency_set - set the time that a leaf takes
 * @platform: the platform
 * @library: for names of leaves
 * @leaf: the leaf's name or number, or "default" for those without a time of their own;
 *	or "VMXON" or "VMXOFF"
 * @time: a number with ns, us, ms or s
 * @why: what is wrong with these
 */
bool latency_set(struct platform *platform, const struct seam_library *library, const char *leaf,
		 const char *time, const char **why)
{
	bool others = !strcmp(leaf, "default");
	struct platform_latency latency;

	if (!parse_duration_ns(time, &latency.ns)) {
		*why = "is not a time in ns, us, ms or s";
		return false;
	}
	if (!others && !parse_instruction(leaf, &latency.leaf) &&
	    !parse_leaf(library, leaf, &latency.leaf)) {
		*why = "is not a leaf that the seam library knows";
		return false;
	}
	g_rw_lock_writer_lock(&platform->lock);
	if (others)
		platform->default_latency_ns = latency.ns;
	else
		set(platform, &latency);
	fill_leaf_ns(platform);
	g_rw_lock_writer_unlock(&platform->lock);
	return true;
}

/**
 * latency_ns - modelled time of a leaf
 * @platform: the platform
 * @leaf: RAX without version, or LATENCY_*
 */
int64_t latency_ns(struct platform *platform, uint64_t leaf)
{
	int64_t ns;

	if (leaf < PLATFORM_LEAVES)
		return __atomic_load_n(&platform->leaf_ns[leaf], __ATOMIC_RELAXED);
	g_rw_lock_reader_lock(&platform->lock);
	ns = look_up(platform, leaf);
	g_rw_lock_reader_unlock(&platform->lock);
	return ns;
}
