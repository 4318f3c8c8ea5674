/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef TDXHOST_IOCTL_H
#define TDXHOST_IOCTL_H

struct file;
struct inode;

int tdxhost_open(struct inode *inode, struct file *file);
long tdxhost_ioctl(struct file *file, unsigned int command, unsigned long arg);

#endif /* TDXHOST_IOCTL_H */
