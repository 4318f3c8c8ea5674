/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers that both TDH.SYS.INFO and TDH.SYS.RD give (values of 1.5.01). */
#ifndef VTDX_TD_PARAMS_H
#define VTDX_TD_PARAMS_H

#define VENDOR_INTEL 0x8086

#define TDR_BASE_BYTES 4096
#define TDCS_BASE_BYTES 24576
#define TDVPS_BASE_BYTES 24576

#define ATTRIBUTES_FIXED0 (BIT_ULL(0) | BIT_ULL(28) | BIT_ULL(29) | BIT_ULL(30) | BIT_ULL(63))
#define ATTRIBUTES_FIXED1 0ull
#define XFAM_FIXED1 3ull

/* SSB_NO, RRSBA, BHI_NO, PBRSB_NO */
#define ARCH_CAPABILITIES_CONFIG (BIT_ULL(4) | BIT_ULL(19) | BIT_ULL(20) | BIT_ULL(24))

#endif /* VTDX_TD_PARAMS_H */
