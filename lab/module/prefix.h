/* SPDX-License-Identifier: GPL-2.0-only */
/* Before anything else, so that every message says whose it is. */
#define pr_fmt(fmt) "split_lock_lab: " fmt
