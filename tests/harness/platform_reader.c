// SPDX-License-Identifier: GPL-2.0-or-later
/* Reads platform files as the plugin does, without QEMU: a line for each. */
#include <stdio.h>

#include "../../vtdx/plugin/platform.h"
#include "../../vtdx/plugin/vtdx.h"

/* In cpuid.c, which needs QEMU; the files' content does not depend on it. */
uint32_t cpuid_signature(const struct platform *platform)
{
	return platform->family;
}

int main(int argc, char **argv)
{
	const struct seam_library library = { .leaf_name = seam_leaf_name };

	for (int i = 1; i < argc; i++) {
		GError *error = NULL;

		if (platform_read(argv[i], &library, &error))
			puts("read");
		else
			puts(error->message);
		g_clear_error(&error);
	}
	return 0;
}
