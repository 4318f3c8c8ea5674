// SPDX-License-Identifier: GPL-2.0-or-later
/* The plugin's options, and its start. */
#include <stdio.h>
#include <string.h>

#include "vtdx.h"
#include "witness.h"

int qemu_plugin_version = QEMU_PLUGIN_API_VERSION;

struct options {
	const char *platform;
	const char *seam;
	const char *log;
	const char *control;
};

static bool parse_option(struct options *options, const char *text)
{
	const struct {
		const char *prefix;
		const char **value;
	} known[] = {
		{ "platform=", &options->platform },
		{ "seam=", &options->seam },
		{ "log=", &options->log },
		{ "control=", &options->control },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(known); i++)
		if (g_str_has_prefix(text, known[i].prefix)) {
			*known[i].value = text + strlen(known[i].prefix);
			return true;
		}
	fprintf(stderr, "vtdx: option '%s' is not known: platform=, seam=, log= and control= are\n",
		text);
	return false;
}

static bool parse_options(struct options *options, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!parse_option(options, argv[i]))
			return false;
	if (!options->platform || !options->seam) {
		fprintf(stderr, "vtdx: options platform=FILE and seam=FILE are needed\n");
		return false;
	}
	return true;
}

static bool check_machine(const struct vtdx *vtdx, const struct qemu_info *info)
{
	uint32_t lps = vtdx->platform->lps;

	if (!info->system_emulation || strcmp(info->target_name, "x86_64")) {
		fprintf(stderr, "vtdx: is for qemu-system-x86_64 alone\n");
		return false;
	}
	if (info->smp_vcpus < 0 || (uint32_t)info->smp_vcpus != lps ||
	    info->max_vcpus != info->smp_vcpus) {
		fprintf(stderr, "vtdx: platform %s has %u CPUs, QEMU's -smp has %d (most: %d)\n",
			vtdx->platform->name, lps, info->smp_vcpus, info->max_vcpus);
		return false;
	}
	return true;
}

static guint site_hash(gconstpointer key)
{
	const struct site *site = key;

	return g_int64_hash(&site->insn.va);
}

/* insn_decode() clears the whole struct first, so that padding is equal too. */
static gboolean site_equal(gconstpointer a, gconstpointer b)
{
	const struct site *x = a, *y = b;

	return x->insn.va == y->insn.va && x->insn.len == y->insn.len &&
	       !memcmp(x->insn.bytes, y->insn.bytes, x->insn.len);
}

static void make_vcpus(struct vtdx *vtdx)
{
	vtdx->nr_vcpus = vtdx->platform->lps;
	vtdx->vcpus = g_new0(struct vcpu, vtdx->nr_vcpus);
	for (unsigned int i = 0; i < vtdx->nr_vcpus; i++) {
		vtdx->vcpus[i].index = i;
		vtdx->vcpus[i].buf = g_byte_array_sized_new(VCPU_BUF_BYTES);
	}
	msr_init(vtdx);
}

static bool open_files(struct vtdx *vtdx, const struct options *options)
{
	GError *error = NULL;

	if (!seam_library_open(&vtdx->seam_library, options->seam))
		return false;
	vtdx->platform = platform_read(options->platform, &vtdx->seam_library, &error);
	if (vtdx->platform && options->log)
		vtdx->witness = witness_open(options->log, &error);
	if (error) {
		fprintf(stderr, "vtdx: %s\n", error->message);
		g_error_free(error);
		return false;
	}
	return true;
}

static void on_vcpu_init(unsigned int index, void *userdata)
{
	struct vtdx *vtdx = userdata;

	if (index < vtdx->nr_vcpus)
		vcpu_init(&vtdx->vcpus[index]);
}

static void register_callbacks(uint64_t id, struct vtdx *vtdx)
{
	g_mutex_init(&vtdx->lock);
	vtdx->sites = g_hash_table_new(site_hash, site_equal);
	vtdx->due.scoreboard = qemu_plugin_scoreboard_new(sizeof(uint64_t));
	qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init, vtdx);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate_tb, vtdx);
	qemu_plugin_register_vcpu_discon_cb(id, QEMU_DISCON_EXCEPTION, flow_exception, vtdx);
}

/**
 * qemu_plugin_install - called by QEMU when it loads the plugin
 * @id: QEMU's name of it
 * @info: the machine
 * @argc: number of options
 * @argv: options
 *
 * Return: not 0 when something is wrong; QEMU then exits. What it makes lives as
 * long as QEMU.
 */
int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc, char **argv)
{
	struct options options = { 0 };
	struct vtdx *vtdx;

	if (!parse_options(&options, argc, argv))
		return 1;
	vtdx = g_new0(struct vtdx, 1);
	if (!open_files(vtdx, &options) || !check_machine(vtdx, info))
		return 1;
	make_vcpus(vtdx);
	if (!seam_start(vtdx))
		return 1;
	witness_start(vtdx->witness, vtdx->platform->name, vtdx->nr_vcpus);
	register_callbacks(id, vtdx);
	return options.control && !control_start(vtdx, options.control);
}
