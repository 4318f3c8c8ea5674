/* SPDX-License-Identifier: GPL-2.0-only */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM tdxhost

#if !defined(TDXHOST_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define TDXHOST_TRACE_H

#include <linux/tracepoint.h>

#include "seamcall.h"

/*
 * One try of a SEAMCALL, on the CPU that made it, with interrupts off. in and out
 * are RCX, RDX and R8 to R11, in this order.
 */
TRACE_EVENT(seamcall, TP_PROTO(const struct tdxhost_call *call, u64 duration_ns),
	    TP_ARGS(call, duration_ns),
	    TP_STRUCT__entry(__field(u64, leaf)
			     __field(u64, status)
			     __field(u64, duration_ns)
			     __field(u32, code)
			     __field(u32, trap)
			     __array(u64, in, 6)
			     __array(u64, out, 6)),
	    TP_fast_assign(__entry->leaf = call->leaf;
			   __entry->status = call->status;
			   __entry->duration_ns = duration_ns;
			   __entry->code = call->code;
			   __entry->trap = call->trap;
			   memcpy(__entry->in, &call->in, sizeof(call->in));
			   memcpy(__entry->out, &call->out, sizeof(call->out));),
	    TP_printk("leaf=%llu status=0x%016llx code=%u trap=%u duration_ns=%llu in=%s out=%s",
		      __entry->leaf, __entry->status, __entry->code, __entry->trap,
		      __entry->duration_ns,
		      __print_array(__entry->in, 6, sizeof(u64)),
		      __print_array(__entry->out, 6, sizeof(u64)))
);

#endif /* TDXHOST_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
