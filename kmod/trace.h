/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM tdxhost

#if !defined(TDXHOST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define TDXHOST_TRACE_H

#include <linux/tracepoint.h>

#include "seamcall.h"

/*
 * One try of a SEAMCALL, on the CPU that made it and with interrupts off: read
 * the registers here, not in a probe that may fault or sleep.
 */
TRACE_EVENT(seamcall,
	TP_PROTO(const struct tdxhost_call *call, u64 duration_ns),
	TP_ARGS(call, duration_ns),
	TP_STRUCT__entry(
		__field(u64, leaf)
		__field(u64, status)
		__field(u64, duration_ns)
		__field(u32, code)
		__field(u32, trap)
		__array(u64, in, 6)
		__array(u64, out, 6)
	),
	TP_fast_assign(
		__entry->leaf = call->leaf;
		__entry->status = call->status;
		__entry->duration_ns = duration_ns;
		__entry->code = call->code;
		__entry->trap = call->trap;
		memcpy(__entry->in, &call->in, sizeof(call->in));
		memcpy(__entry->out, &call->out, sizeof(call->out));
	),
	TP_printk("leaf=%llu status=0x%016llx code=%u trap=%u duration_ns=%llu "
		  "in: rcx=0x%llx rdx=0x%llx r8=0x%llx r9=0x%llx r10=0x%llx r11=0x%llx "
		  "out: rcx=0x%llx rdx=0x%llx r8=0x%llx r9=0x%llx r10=0x%llx r11=0x%llx",
		  __entry->leaf, __entry->status, __entry->code, __entry->trap,
		  __entry->duration_ns,
		  __entry->in[0], __entry->in[1], __entry->in[2],
		  __entry->in[3], __entry->in[4], __entry->in[5],
		  __entry->out[0], __entry->out[1], __entry->out[2],
		  __entry->out[3], __entry->out[4], __entry->out[5])
);

#endif /* TDXHOST_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
