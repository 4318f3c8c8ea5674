// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control channel (README.md, "The control channel"): a Unix socket, a request
 * a line, an answer a line. A thread waits for clients, and each client has one.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fault.h"
#include "vtdx.h"
#include "witness.h"

/**
 * struct control - a channel, or one client of it
 * @vtdx: the platform
 * @fd: the socket
 */
struct control {
	struct vtdx *vtdx;
	int fd;
};

static bool do_fault(struct vtdx *vtdx, char *rest, GString *answer)
{
	char *why = NULL;
	unsigned int number = fault_add(vtdx->platform, &vtdx->seam_library, 0, rest, &why);

	if (number)
		g_string_append_printf(answer, "%u", number);
	else
		g_string_append(answer, why);
	g_free(why);
	return number;
}

static bool do_faults(struct vtdx *vtdx, char *rest, GString *answer)
{
	if (strcmp(rest, "clear")) {
		g_string_append(answer, "all that can be done to faults is clear");
		return false;
	}
	faults_clear(vtdx->platform);
	return true;
}

/* LEAF TIME; the time may have a blank before its unit. */
static bool do_latency(struct vtdx *vtdx, char *rest, GString *answer)
{
	char *time = strchr(rest, ' ');
	const char *why;

	if (!time) {
		g_string_append(answer, "write: latency LEAF TIME");
		return false;
	}
	*time++ = '\0';
	if (latency_set(vtdx->platform, &vtdx->seam_library, rest, time, &why))
		return true;
	g_string_append_printf(answer, "latency %s %s: %s", rest, time, why);
	return false;
}

static bool do_mark(struct vtdx *vtdx, char *rest, GString *answer)
{
	if (!vtdx->witness) {
		g_string_append(answer, "there is no log");
		return false;
	}
	witness_mark(vtdx->witness, rest);
	return true;
}

static bool do_reload(struct vtdx *vtdx, char *rest, GString *answer)
{
	(void)rest;
	if (seam_restart(vtdx))
		return true;
	g_string_append(answer, "a SEAMCALL is under way");
	return false;
}

static bool do_save(struct vtdx *vtdx, char *rest, GString *answer)
{
	(void)rest;
	return carry_save(vtdx, answer);
}

static bool do_restore(struct vtdx *vtdx, char *rest, GString *answer)
{
	return carry_restore(vtdx, rest, answer);
}

static const struct request {
	const char *name;
	bool has_rest;
	bool (*serve)(struct vtdx *vtdx, char *rest, GString *answer);
} requests[] = {
	{ "fault", true, do_fault },	 { "faults", true, do_faults },
	{ "latency", true, do_latency }, { "mark", true, do_mark },
	{ "reload", false, do_reload },	 { "save", false, do_save },
	{ "restore", true, do_restore },
};

static const struct request *find_request(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(requests); i++)
		if (!strcmp(requests[i].name, name))
			return &requests[i];
	return NULL;
}

/* One request; answer starts out empty. */
static bool serve(struct vtdx *vtdx, char *line, size_t bytes, GString *answer)
{
	const struct request *request;
	char *rest;

	/* The log, and what answers repeat, is UTF-8 on one line. */
	if (!g_utf8_validate(line, bytes, NULL)) {
		g_string_append(answer, "not UTF-8, or with NUL");
		return false;
	}
	g_strstrip(line);
	rest = strchr(line, ' ');
	if (rest)
		*rest++ = '\0';
	request = find_request(line);
	if (!request) {
		g_string_append_printf(answer, "'%s' is not a request", line);
		return false;
	}
	if (request->has_rest != !!rest) {
		g_string_append_printf(answer, "'%s' goes %s", line,
				       rest ? "alone" : "with more words");
		return false;
	}
	return request->serve(vtdx, rest, answer);
}

static bool send_answer(int fd, bool ok, const GString *answer)
{
	GString *line = g_string_new(ok ? "ok" : "error");
	const char *at;
	ssize_t sent = 1;

	if (answer->len)
		g_string_append_printf(line, " %s", answer->str);
	g_string_append_c(line, '\n');
	for (at = line->str; *at && sent > 0; at += sent)
		sent = send(fd, at, strlen(at), MSG_NOSIGNAL);
	g_string_free(line, TRUE);
	return sent > 0;
}

/* A line without its end is what a client left that went away: not a request. */
static void *serve_client(void *userdata)
{
	struct control *client = userdata;
	FILE *requests_in = fdopen(client->fd, "r");
	bool there = requests_in;
	size_t room = 0;
	char *line = NULL;
	ssize_t bytes;

	while (there && (bytes = getline(&line, &room, requests_in)) > 0 &&
	       line[bytes - 1] == '\n') {
		GString *answer = g_string_new(NULL);
		bool ok = serve(client->vtdx, line, bytes, answer);

		there = send_answer(client->fd, ok, answer);
		g_string_free(answer, TRUE);
	}
	free(line);
	if (requests_in)
		fclose(requests_in);
	else
		close(client->fd);
	g_free(client);
	return NULL;
}

static void start_thread(const char *name, GThreadFunc function, struct vtdx *vtdx, int fd)
{
	struct control *control = g_new0(struct control, 1);

	control->vtdx = vtdx;
	control->fd = fd;
	g_thread_unref(g_thread_new(name, function, control));
}

static void *wait_for_clients(void *userdata)
{
	const struct control *control = userdata;

	for (;;) {
		int fd = accept(control->fd, NULL, NULL);

		if (fd >= 0)
			start_thread("vtdx-client", serve_client, control->vtdx, fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			break;
	}
	fprintf(stderr, "vtdx: control: %s\n", strerror(errno));
	return NULL;
}

/* What a QEMU that was killed left there is in the way. */
static void remove_old_socket(const char *path)
{
	struct stat found;

	if (!lstat(path, &found) && S_ISSOCK(found.st_mode))
		unlink(path);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	remove_old_socket(path);
	if (!bind(fd, (struct sockaddr *)&address, sizeof(address)) && !listen(fd, SOMAXCONN))
		return fd;
	close(fd);
	return -1;
}

/**
 * control_start - open the control channel
 * @vtdx: the platform
 * @path: of the socket
 */
bool control_start(struct vtdx *vtdx, const char *path)
{
	sigset_t all, before;
	int fd = listen_at(path);

	if (fd < 0) {
		fprintf(stderr, "vtdx: control socket %s: %s\n", path, strerror(errno));
		return false;
	}
	/* Threads inherit the mask: signals are for QEMU's own. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	start_thread("vtdx-control", wait_for_clients, vtdx, fd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return true;
}
