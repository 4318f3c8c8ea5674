/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of QEMU's plugin interface that vtdx uses, declared from its
 * documentation (docs/devel/tcg-plugins, API version 7): no distribution
 * packages the header.
 */
#ifndef VTDX_QEMU_API_H
#define VTDX_QEMU_API_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QEMU_PLUGIN_API_VERSION 7

#define QEMU_EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_register;
struct qemu_plugin_scoreboard;

struct qemu_info {
	const char *target_name;
	struct {
		int min;
		int cur;
	} version;
	bool system_emulation;
	int smp_vcpus;
	int max_vcpus;
};

/* One element of what qemu_plugin_get_registers() returns. */
struct qemu_register_info {
	struct qemu_plugin_register *handle;
	const char *name;
	const char *feature;
	bool is_readonly;
};

/* What a callback may do with registers. */
enum qemu_cb_flags {
	QEMU_CB_NO_REGS = 0,
	QEMU_CB_R_REGS = 1,
	QEMU_CB_RW_REGS = 2,
	QEMU_CB_RW_REGS_PC = 3,
};

#define QEMU_DISCON_EXCEPTION 2

#define QEMU_COND_NE 3

#define QEMU_HWADDR_OK 0

/* A 64-bit number of each vCPU, which translated code can look at by itself. */
struct qemu_u64 {
	struct qemu_plugin_scoreboard *scoreboard;
	size_t offset;
};

typedef void (*qemu_vcpu_cb)(unsigned int vcpu, void *userdata);
typedef void (*qemu_tb_cb)(struct qemu_plugin_tb *tb, void *userdata);
typedef void (*qemu_exit_cb)(void *userdata);
typedef void (*qemu_discon_cb)(unsigned int vcpu, int type, uint64_t from, uint64_t to,
			       void *userdata);

extern QEMU_EXPORT int qemu_plugin_version;
QEMU_EXPORT int qemu_plugin_install(uint64_t id, const struct qemu_info *info, int argc,
				    char **argv);

void qemu_plugin_register_vcpu_init_cb(uint64_t id, qemu_vcpu_cb cb, void *userdata);
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, qemu_tb_cb cb, void *userdata);
void qemu_plugin_register_vcpu_discon_cb(uint64_t id, int type, qemu_discon_cb cb, void *userdata);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn, qemu_vcpu_cb cb,
					    int flags, void *userdata);

void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, qemu_vcpu_cb cb,
					       int flags, int condition, struct qemu_u64 entry,
					       uint64_t value, void *userdata);

struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
void qemu_plugin_u64_set(struct qemu_u64 entry, unsigned int vcpu, uint64_t value);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *dest, size_t bytes);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);

/* The reads append to the array, or set its size: start with an empty one. */
GArray *qemu_plugin_get_registers(void);
bool qemu_plugin_read_register(struct qemu_plugin_register *handle, GByteArray *buf);
bool qemu_plugin_write_register(struct qemu_plugin_register *handle, GByteArray *buf);
bool qemu_plugin_read_memory_vaddr(uint64_t va, GByteArray *data, size_t bytes);
bool qemu_plugin_write_memory_vaddr(uint64_t va, GByteArray *data);
int qemu_plugin_read_memory_hwaddr(uint64_t pa, GByteArray *data, size_t bytes);
int qemu_plugin_write_memory_hwaddr(uint64_t pa, GByteArray *data);

/* Never returns: whatever the callback holds has to be let go before. */
void qemu_plugin_set_pc(uint64_t va) G_GNUC_NORETURN;

#endif /* VTDX_QEMU_API_H */
