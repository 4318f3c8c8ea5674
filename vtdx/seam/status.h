/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completion statuses as constants. Those of the TDX module carry details in bits
 * 31:0, those of P-SEAMLDR do not.
 */
#ifndef VTDX_STATUS_H
#define VTDX_STATUS_H

#define ENUMERATOR(...) __VA_ARGS__
#define TDX_STATUS(name, value) ENUMERATOR(name = value),
#define PSEAMLDR_STATUS(name, value) ENUMERATOR(name = value),

enum seam_status {
#include "status_list.h"
};

#undef ENUMERATOR
#undef TDX_STATUS
#undef PSEAMLDR_STATUS

#endif /* VTDX_STATUS_H */
