/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef CALLS_CALLS_H
#define CALLS_CALLS_H

int device_open(int flags);
int replay(const char *path);
int race(long seconds);

#endif /* CALLS_CALLS_H */
