// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>
#include <string.h>

#include "fault.h"
#include "platform.h"
#include "vtdx.h"

/* SEAMOPS CAPABILITIES that TDH.SYS.INIT wants: bits 4 and 5. */
#define DEFAULT_SEAM_CAPABILITIES 0x30

#define MSR_CORE_THREAD_COUNT 0x35

/* A platform file that is being read. */
struct reader {
	GError **error;
	GKeyFile *file;
	const char *path;
	const struct seam_library *library;
	struct platform *platform;
};

static bool fail(struct reader *r, const char *section, const char *key, const char *why)
{
	g_set_error(r->error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE, "%s: [%s] %s: %s",
		    r->path, section, key, why);
	return false;
}

static bool read_name(struct reader *r, const char *section, const char *key, const char *value)
{
	(void)section;
	if (!strcmp(key, "name")) {
		g_free(r->platform->name);
		r->platform->name = g_strdup(value);
	}
	return true;
}

/**
 * struct field - a key that is a number
 * @section: where it stands
 * @key: its name
 * @offset: of the member in struct platform
 * @bytes: size of the member
 * @least: lowest value
 */
struct field {
	const char *section;
	const char *key;
	size_t offset;
	size_t bytes;
	uint64_t least;
};

#define AT(member) offsetof(struct platform, member)

static const struct field fields[] = {
	{ "cpu", "family", AT(family), 4, 1 },
	{ "cpu", "model", AT(model), 4, 0 },
	{ "cpu", "stepping", AT(stepping), 4, 0 },
	{ "cpu", "sockets", AT(sockets), 4, 1 },
	{ "cpu", "cores", AT(cores), 4, 1 },
	{ "cpu", "threads", AT(threads), 4, 1 },
	{ "seam", "loaded", AT(seam.loaded), 4, 0 },
	{ "seam", "capabilities", AT(seam_capabilities), 8, 0 },
	{ "seam", "no_integrity", AT(seam.no_integrity), 4, 0 },
	{ "seam", "skip_smrr2", AT(seam.skip_smrr2), 4, 0 },
	{ "module", "internal", AT(seam.internal), 2, 0 },
	{ "module", "build_date", AT(seam.build_date), 4, 0 },
	{ "module", "build_num", AT(seam.build_num), 2, 0 },
	{ "module", "tdx_features0", AT(seam.tdx_features0), 8, 0 },
	{ "module", "module_hv", AT(seam.module_hv), 2, 0 },
	{ "module", "min_update_hv", AT(seam.min_update_hv), 2, 0 },
	{ "module", "num_handoff_pages", AT(seam.num_handoff_pages), 2, 0 },
	{ "module", "no_downgrade", AT(seam.no_downgrade), 4, 0 },
	{ "module", "remaining_updates", AT(seam.remaining_updates), 4, 0 },
};

static const struct field *find_field(const char *section, const char *key)
{
	for (size_t i = 0; i < G_N_ELEMENTS(fields); i++)
		if (!strcmp(fields[i].section, section) && !strcmp(fields[i].key, key))
			return &fields[i];
	return NULL;
}

static bool read_field(struct reader *r, const char *section, const char *key, const char *text)
{
	const struct field *field = find_field(section, key);
	uint64_t value;

	if (!field)
		return fail(r, section, key, "is not a key of this section");
	if (!parse_u64(text, &value) || value < field->least ||
	    (field->bytes < 8 && value >> (8 * field->bytes)))
		return fail(r, section, key, "is not a number that fits");
	/* x86 is little endian: the low bytes come first. */
	memcpy((char *)r->platform + field->offset, &value, field->bytes);
	return true;
}

/* What the machine and its processors are called is for QEMU's command line alone. */
static bool read_cpu(struct reader *r, const char *section, const char *key, const char *value)
{
	if (!strcmp(key, "vendor") || !strcmp(key, "brand") || !strcmp(key, "hypervisor"))
		return true;
	return read_field(r, section, key, value);
}

static bool read_seam(struct reader *r, const char *section, const char *key, const char *value)
{
	struct seam_config *seam = &r->platform->seam;

	if (strcmp(key, "range"))
		return read_field(r, section, key, value);
	if (!parse_range(value, &seam->seamrr_base_pa, &seam->seamrr_bytes))
		return fail(r, section, key, "is not BASE+SIZE");
	return true;
}

static bool read_module(struct reader *r, const char *section, const char *key, const char *value)
{
	struct seam_config *seam = &r->platform->seam;
	unsigned int major, minor, update;
	char rest;

	if (strcmp(key, "version"))
		return read_field(r, section, key, value);
	if (sscanf(value, "%5u.%5u.%5u%c", &major, &minor, &update, &rest) != 3 ||
	    MAX(MAX(major, minor), update) > UINT16_MAX)
		return fail(r, section, key, "is not MAJOR.MINOR.UPDATE");
	seam->major = major;
	seam->minor = minor;
	seam->update = update;
	return true;
}

static bool read_cmr(struct reader *r, const char *section, const char *key, const char *value)
{
	struct seam_config *seam = &r->platform->seam;
	struct seam_cmr *cmr;
	uint64_t number;

	if (!parse_u64(key, &number) || number >= SEAM_MAX_CMRS)
		return fail(r, section, key, "is not a number from 0 to 31");
	cmr = &seam->cmrs[number];
	if (!parse_range(value, &cmr->base_pa, &cmr->bytes))
		return fail(r, section, key, "is not BASE+SIZE");
	seam->nr_cmrs = MAX(seam->nr_cmrs, number + 1);
	return true;
}

/* Cuts "@CPU" off a key. */
static bool take_cpu(char *key, uint32_t *cpu)
{
	char *at = strchr(key, '@');
	uint64_t value;

	*cpu = PLATFORM_ALL_CPUS;
	if (!at)
		return true;
	*at = '\0';
	if (!parse_u64(at + 1, &value) || value >= SEAM_MAX_LPS)
		return false;
	*cpu = value;
	return true;
}

/* ADDRESS, or FIRST-LAST. */
static bool parse_msr_key(char *key, struct platform_msr *msr)
{
	char *dash = strchr(key, '-');
	uint64_t first, last;

	if (!take_cpu(key, &msr->cpu))
		return false;
	if (dash)
		*dash = '\0';
	if (!parse_u64(key, &first) || first > UINT32_MAX)
		return false;
	last = first;
	if (dash && (!parse_u64(dash + 1, &last) || last > UINT32_MAX || last < first))
		return false;
	msr->first = first;
	msr->last = last;
	return true;
}

static bool read_msr(struct reader *r, const char *section, const char *key, const char *value)
{
	struct platform_msr msr = { .gp = !strcmp(value, "gp") };
	char *copy = g_strdup(key);
	bool ok = parse_msr_key(copy, &msr);

	g_free(copy);
	if (!ok)
		return fail(r, section, key, "is not ADDRESS, ADDRESS@CPU or FIRST-LAST");
	if (!msr.gp && (msr.first != msr.last || !parse_u64(value, &msr.value)))
		return fail(r, section, key, "has a value that is neither a number nor gp");
	g_array_append_val(r->platform->msrs, msr);
	return true;
}

static bool parse_cpuid_key(char *key, struct platform_cpuid *cpuid)
{
	uint64_t leaf, subleaf = 0;
	char *dot;

	if (!take_cpu(key, &cpuid->cpu))
		return false;
	dot = strchr(key, '.');
	if (dot)
		*dot = '\0';
	if (!parse_u64(key, &leaf) || leaf > UINT32_MAX)
		return false;
	if (dot && (!parse_u64(dot + 1, &subleaf) || subleaf > UINT32_MAX))
		return false;
	cpuid->leaf = leaf;
	cpuid->subleaf = subleaf;
	cpuid->any_subleaf = !dot;
	return true;
}

static bool parse_cpuid_regs(const char *text, uint32_t *regs)
{
	char **words = g_strsplit_set(text, " \t", -1);
	unsigned int nr = 0;
	bool ok = true;

	for (char **word = words; ok && *word; word++) {
		uint64_t value;

		if (!**word)
			continue;
		ok = nr < 4 && parse_u64(*word, &value) && value <= UINT32_MAX;
		if (ok)
			regs[nr++] = value;
	}
	g_strfreev(words);
	return ok && nr == 4;
}

static bool read_cpuid(struct reader *r, const char *section, const char *key, const char *value)
{
	struct platform_cpuid cpuid = { 0 };
	char *copy = g_strdup(key);
	bool ok = parse_cpuid_key(copy, &cpuid);

	g_free(copy);
	if (!ok)
		return fail(r, section, key, "is not LEAF, LEAF.SUBLEAF or these with @CPU");
	if (!parse_cpuid_regs(value, cpuid.regs))
		return fail(r, section, key, "is not EAX EBX ECX EDX");
	g_array_append_val(r->platform->cpuids, cpuid);
	return true;
}

static bool read_latency(struct reader *r, const char *section, const char *key, const char *value)
{
	const char *why;

	return latency_set(r->platform, r->library, key, value, &why) || fail(r, section, key, why);
}

static bool read_fault(struct reader *r, const char *section, const char *key, const char *value)
{
	char *why = NULL;
	uint64_t number;

	if (!parse_u64(key, &number) || !number || number > INT32_MAX)
		return fail(r, section, key, "faults are numbered from 1");
	if (fault_add(r->platform, r->library, number, value, &why))
		return true;
	fail(r, section, key, why);
	g_free(why);
	return false;
}

/* [memory] and [system] are for QEMU's command line alone. */
static bool read_nothing(struct reader *r, const char *section, const char *key, const char *value)
{
	(void)r;
	(void)section;
	(void)key;
	(void)value;
	return true;
}

/* Faults come last: they name CPUs. */
static const struct {
	const char *section;
	bool (*read)(struct reader *r, const char *section, const char *key, const char *value);
} sections[] = {
	{ "platform", read_name },   { "cpu", read_cpu },      { "memory", read_nothing },
	{ "system", read_nothing },  { "cmr", read_cmr },      { "seam", read_seam },
	{ "module", read_module },   { "msr", read_msr },      { "cpuid", read_cpuid },
	{ "latency", read_latency }, { "faults", read_fault },
};

static void count_lps(struct platform *p)
{
	p->lps = p->sockets * p->cores * p->threads;
	p->seam.lps = p->lps;
	p->seam.packages = p->sockets;
	for (uint32_t i = 0; i < MIN(p->sockets, (uint32_t)SEAM_MAX_PACKAGES); i++)
		p->seam.package_fms[i] = cpuid_signature(p);
}

static bool check_cpus(struct reader *r)
{
	const struct platform *p = r->platform;

	if (!p->family || !p->sockets || !p->cores || !p->threads)
		return fail(r, "cpu", "family, sockets, cores, threads", "are needed, all of them");
	if (p->sockets > SEAM_MAX_PACKAGES)
		return fail(r, "cpu", "sockets", "is more than 8");
	if ((uint64_t)p->cores * p->threads > SEAM_MAX_LPS / p->sockets)
		return fail(r, "cpu", "cores", "makes more than 4096 logical processors");
	return true;
}

static bool read_section(struct reader *r, size_t i)
{
	const char *section = sections[i].section;
	char **keys = g_key_file_get_keys(r->file, section, NULL, NULL);
	bool ok = true;

	for (char **key = keys; ok && key && *key; key++) {
		char *value = g_key_file_get_value(r->file, section, *key, NULL);

		ok = sections[i].read(r, section, *key, g_strstrip(value));
		g_free(value);
	}
	g_strfreev(keys);
	if (ok && !strcmp(section, "cpu")) {
		ok = check_cpus(r);
		if (ok)
			count_lps(r->platform);
	}
	return ok;
}

static bool check_sections(struct reader *r)
{
	char **groups = g_key_file_get_groups(r->file, NULL);
	bool ok = true;

	for (char **group = groups; ok && *group; group++) {
		bool known = false;

		for (size_t i = 0; i < G_N_ELEMENTS(sections); i++)
			known |= !strcmp(*group, sections[i].section);
		if (!known)
			g_set_error(r->error, G_KEY_FILE_ERROR, G_KEY_FILE_ERROR_INVALID_VALUE,
				    "%s: [%s] is not a section of platform files", r->path, *group);
		ok = known;
	}
	g_strfreev(groups);
	return ok;
}

static struct platform *new_platform(void)
{
	struct platform *p = g_new0(struct platform, 1);

	p->name = g_strdup("unnamed");
	p->seam.size = sizeof(p->seam);
	p->seam.loaded = 1;
	p->seam_capabilities = DEFAULT_SEAM_CAPABILITIES;
	p->msrs = g_array_new(FALSE, FALSE, sizeof(struct platform_msr));
	p->cpuids = g_array_new(FALSE, FALSE, sizeof(struct platform_cpuid));
	p->latencies = g_array_new(FALSE, FALSE, sizeof(struct platform_latency));
	p->faults = fault_rules_new();
	g_rw_lock_init(&p->lock);
	return p;
}

/* IA32_CORE_THREAD_COUNT (SDM vol. 4): logical processors and cores of a package. */
static void add_core_thread_count(struct platform *p)
{
	const struct platform_msr msr = {
		.first = MSR_CORE_THREAD_COUNT,
		.last = MSR_CORE_THREAD_COUNT,
		.cpu = PLATFORM_ALL_CPUS,
		.value = p->cores << 16 | p->cores * p->threads,
	};

	g_array_prepend_val(p->msrs, msr);
}

/**
 * platform_read - read a resolved platform file
 * @path: the file
 * @library: for names of leaves
 * @error: what is wrong with it: file, section and key
 *
 * What it returns lives as long as the plugin.
 */
struct platform *platform_read(const char *path, const struct seam_library *library, GError **error)
{
	struct reader r = { .path = path, .library = library, .error = error };
	bool ok;

	r.file = g_key_file_new();
	ok = g_key_file_load_from_file(r.file, path, G_KEY_FILE_NONE, error);
	if (!ok)
		g_prefix_error(error, "%s: ", path);
	r.platform = new_platform();
	ok = ok && check_sections(&r);
	for (size_t i = 0; ok && i < G_N_ELEMENTS(sections); i++)
		ok = read_section(&r, i);
	g_key_file_free(r.file);
	if (ok)
		add_core_thread_count(r.platform);
	return ok ? r.platform : NULL;
}

/**
 * platform_cpuid - find a CPUID leaf
 * @platform: the platform
 * @cpu: the CPU; its own line goes before that of all
 * @leaf: leaf
 * @subleaf: sub-leaf
 *
 * Return: NULL when the file does not have it.
 */
const struct platform_cpuid *platform_cpuid(const struct platform *platform, uint32_t cpu,
					    uint32_t leaf, uint32_t subleaf)
{
	const struct platform_cpuid *found = NULL;

	for (guint i = 0; i < platform->cpuids->len; i++) {
		const struct platform_cpuid *line =
			&g_array_index(platform->cpuids, struct platform_cpuid, i);

		if (line->leaf != leaf || (!line->any_subleaf && line->subleaf != subleaf))
			continue;
		if (line->cpu == cpu)
			return line;
		if (line->cpu == PLATFORM_ALL_CPUS)
			found = line;
	}
	return found;
}
