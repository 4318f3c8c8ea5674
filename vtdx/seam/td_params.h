/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers that both TDH.SYS.INFO and TDH.SYS.RD give (values of 1.5.01). */
#ifndef VTDX_TD_PARAMS_H
#define VTDX_TD_PARAMS_H

#define VENDOR_INTEL 0x8086

#define TDR_BASE_BYTES 4096
#define TDCS_BASE_BYTES 24576
#define TDVPS_BASE_BYTES 24576

#define ATTRIBUTES_FIXED0 (1ull << 0 | 1ull << 28 | 1ull << 29 | 1ull << 30 | 1ull << 63)
#define ATTRIBUTES_FIXED1 0ull
#define XFAM_FIXED1 3ull

/* SSB_NO, RRSBA, BHI_NO, PBRSB_NO */
#define ARCH_CAPABILITIES_CONFIG (1ull << 4 | 1ull << 19 | 1ull << 20 | 1ull << 24)

#endif /* VTDX_TD_PARAMS_H */
