/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields of the SYS context in the order in which TDH.SYS.RD walks them, with the
 * values of 1.5.01 (TDX module ABI spec, global metadata fields). To be included
 * by metadata.c alone, which has the get_ functions.
 */

/*
 * What only later modules have. Without the features that they belong to
 * (MAXPA_VIRT, EVENT_FILTERING) a TD has the width of the platform and no filter.
 */
#define LATER_MAX_VCPUS_PER_TD 576
#define LATER_MIN_VIRT_MAXPA MAX_PA_BITS
#define LATER_MAX_EVENT_FILTERS 0
#define LATER_PAMT_PAGE_BITMAP_ENTRY_BITS 1
#define LATER_MIN_DYNAMIC_PAMT_HKID_BITS 4

static const struct field {
	uint64_t id;
	uint16_t fields;
	uint8_t elements; /* of a field */
	bool later;
	uint64_t value;
	uint64_t (*get)(const struct seam *seam, uint32_t index);
} fields[] = {
	{ 0x0000000200000000ull, 1, 1, .get = get_num_pkgs }, /* NUM_PKGS */
	{ 0x0000000200000001ull, 8, 1, .get = get_pkg_fms }, /* PKG_FMS */
	{ 0x0800000200000000ull, 1, 1, .value = VENDOR_INTEL }, /* VENDOR_ID */
	{ 0x8800000200000001ull, 1, 1, .get = get_build_date }, /* BUILD_DATE */
	{ 0x8800000100000002ull, 1, 1, .get = get_build_num }, /* BUILD_NUM */
	{ 0x0800000100000003ull, 1, 1, .get = get_minor_version }, /* MINOR_VERSION */
	{ 0x0800000100000004ull, 1, 1, .get = get_major_version }, /* MAJOR_VERSION */
	{ 0x0800000100000005ull, 1, 1, .get = get_update_version }, /* UPDATE_VERSION */
	{ 0x0800000100000006ull, 1, 1, .get = get_internal_version }, /* INTERNAL_VERSION */
	{ 0x8900000100000000ull, 1, 1, .get = get_module_hv }, /* MODULE_HV */
	{ 0x8900000100000001ull, 1, 1, .get = get_min_update_hv }, /* MIN_UPDATE_HV */
	{ 0x8900000000000002ull, 1, 1, .get = get_no_downgrade }, /* NO_DOWNGRADE */
	{ 0x8900000100000003ull, 1, 1, .get = get_num_handoff_pages }, /* NUM_HANDOFF_PAGES */
	{ 0x8900000000000004ull, 1, 1, .get = get_handoff_data_valid }, /* HANDOFF_DATA_VALID */
	{ 0x8900000100000005ull, 1, 1, .get = get_handoff_data_hv }, /* HANDOFF_DATA_HV */
	{ 0x8900000200000006ull, 1, 1, .get = get_handoff_data_size }, /* HANDOFF_DATA_SIZE */
	{ 0x0a00000200000000ull, 1, 1, .value = 0 }, /* SYS_ATTRIBUTES */
	{ 0x0a00000000000001ull, 1, 1, .value = 1 }, /* NUM_TDX_FEATURES */
	{ 0x0a00000300000008ull, 1, 1, .get = get_tdx_features0 }, /* TDX_FEATURES0 */
	{ 0x9000000100000000ull, 1, 1, .value = SEAM_MAX_CMRS }, /* NUM_CMRS */
	{ 0x9000000300000080ull, 32, 1, .get = get_cmr_base }, /* CMR_BASE */
	{ 0x9000000300000100ull, 32, 1, .get = get_cmr_size }, /* CMR_SIZE */
	{ 0x9100000100000008ull, 1, 1, .value = MAX_TDMRS }, /* MAX_TDMRS */
	{ 0x9100000100000009ull, 1, 1, .value = MAX_RESERVED }, /* MAX_RESERVED_PER_TDMR */
	{ 0x9100000100000010ull, 1, 1, .value = PAMT_ENTRY_BYTES }, /* PAMT_4K_ENTRY_SIZE */
	{ 0x9100000100000011ull, 1, 1, .value = PAMT_ENTRY_BYTES }, /* PAMT_2M_ENTRY_SIZE */
	{ 0x9100000100000012ull, 1, 1, .value = PAMT_ENTRY_BYTES }, /* PAMT_1G_ENTRY_SIZE */
	{ 0x9100000000000013ull, 1, 1, .later = true, .value = LATER_PAMT_PAGE_BITMAP_ENTRY_BITS },
	{ 0x9100000000000014ull, 1, 1, .later = true, .value = LATER_MIN_DYNAMIC_PAMT_HKID_BITS },
	{ 0x9800000100000000ull, 1, 1, .value = TDR_BASE_BYTES }, /* TDR_BASE_SIZE */
	{ 0x9800000100000100ull, 1, 1, .value = TDCS_BASE_BYTES }, /* TDCS_BASE_SIZE */
	{ 0x9800000100000101ull, 1, 1, .value = 4096 }, /* TDCS_SIZE_PER_L2_VM */
	{ 0x9800000100000200ull, 1, 1, .value = TDVPS_BASE_BYTES }, /* TDVPS_BASE_SIZE */
	{ 0x9800000100000201ull, 1, 1, .value = 0x3000 }, /* TDVPS_SIZE_PER_L2_VM */
	{ 0x1900000300000000ull, 1, 1, .value = ATTRIBUTES_FIXED0 }, /* ATTRIBUTES_FIXED0 */
	{ 0x1900000300000001ull, 1, 1, .value = ATTRIBUTES_FIXED1 }, /* ATTRIBUTES_FIXED1 */
	{ 0x1900000300000002ull, 1, 1, .get = get_xfam_fixed0 }, /* XFAM_FIXED0 */
	{ 0x1900000300000003ull, 1, 1, .value = XFAM_FIXED1 }, /* XFAM_FIXED1 */
	{ 0x9900000100000004ull, 1, 1, .value = NR_CPUID_CONFIG }, /* NUM_CPUID_CONFIG */
	{ 0x9900000300000006ull, 1, 1, .value = 7 }, /* CONFIG_FLAGS_FIXED0 */
	{ 0x9900000300000007ull, 1, 1, .value = 0 }, /* CONFIG_FLAGS_FIXED1 */
	{ 0x9900000100000008ull, 1, 1, .later = true, .value = LATER_MAX_VCPUS_PER_TD },
	{ 0x9900000000000009ull, 1, 1, .later = true, .value = LATER_MIN_VIRT_MAXPA },
	{ 0x990000010000000aull, 1, 1, .later = true, .value = LATER_MAX_EVENT_FILTERS },
	{ 0x9900000300000400ull, 32, 1, .get = get_cpuid_config_leaves }, /* CPUID_CONFIG_LEAVES */
	{ 0x9900000300000500ull, 32, 2, .get = get_cpuid_config_values }, /* CPUID_CONFIG_VALUES */
	{ 0x9900000300000600ull, 1, 1, .value = ARCH_CAPABILITIES_CONFIG },
	{ 0x9900000100000800ull, 1, 1, .get = get_num_allowed_fms }, /* NUM_ALLOWED_FMS */
	{ 0x9900000100000801ull, 1, 1, .value = 0 }, /* NUM_DISALLOWED_FMS */
	{ 0x9900000300000810ull, 64, 1, .get = get_allowed_fms }, /* ALLOWED_FMS */
	{ 0x9900000300000850ull, 64, 1, .value = 0 }, /* DISALLOWED_FMS */
	{ 0xa000000300000000ull, 1, 1, .value = 0 }, /* MIG_ATTRIBUTES */
	{ 0x2000000100000001ull, 1, 1, .value = 0 }, /* MIN_EXPORT_VERSION */
	{ 0x2000000100000002ull, 1, 1, .value = 0 }, /* MAX_EXPORT_VERSION */
	{ 0x2000000100000003ull, 1, 1, .value = 0 }, /* MIN_IMPORT_VERSION */
	{ 0x2000000100000004ull, 1, 1, .value = 0 }, /* MAX_IMPORT_VERSION */
	{ 0xa000000100000010ull, 1, 1, .value = 512 }, /* MAX_MIGS */
	{ 0xa000000000000020ull, 1, 1, .value = 3 }, /* NUM_IMMUTABLE_STATE_PAGES */
	{ 0xa000000000000021ull, 1, 1, .value = 2 }, /* NUM_TD_STATE_PAGES */
	{ 0xa000000000000022ull, 1, 1, .value = 5 }, /* NUM_VP_STATE_PAGES */
	{ 0xa100000100000000ull, 1, 1, .value = 1 }, /* MAX_SERV_TDS */
	{ 0xa100000300000001ull, 1, 1, .value = 0x7ff00000001 }, /* SERVTD_ATTR_FIXED0 */
	{ 0xa100000300000002ull, 1, 1, .value = 0 }, /* SERVTD_ATTR_FIXED1 */
	{ 0xa200000100000000ull, 1, 1, .value = 0x807f }, /* GUEST_L2_GPA_ATTR_MASK */
	{ 0xa200000300000001ull, 1, 1, .value = 1 }, /* VM_CTLS_FIXED0 */
	{ 0xa200000300000002ull, 1, 1, .value = 0 }, /* VM_CTLS_FIXED1 */
	{ 0xa200000300000003ull, 1, 1, .value = 3 }, /* VPCU_L2_CTLS_FIXED0 */
	{ 0xa200000300000004ull, 1, 1, .value = 0 }, /* VCPU_L2_CTLS_FIXED1 */
	{ 0xa200000300000005ull, 1, 1, .value = 7 }, /* VPCU_L2_DEBUG_CTLS_FIXED0 */
	{ 0xa200000300000006ull, 1, 1, .value = 0 }, /* VCPU_L2_DEBUG_CTLS_FIXED1 */
};
