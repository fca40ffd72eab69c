// SPDX-License-Identifier: GPL-2.0-only
/* Finds what the kernel does not export, and says what is missing. */
#include <linux/kprobes.h>
#include <linux/kallsyms.h>

#include "lab.h"

struct lab_symbols lab_symbols;

static unsigned long (*lookup)(const char *name);

unsigned long lab_lookup(const char *name)
{
	return lookup(name);
}

/* kallsyms_lookup_name() itself is not exported either, but kprobes find it. */
static int find_lookup(void)
{
	struct kprobe probe = { .symbol_name = "kallsyms_lookup_name" };
	int err = register_kprobe(&probe);

	if (err) {
		pr_err("cannot look up symbols: no kprobe on kallsyms_lookup_name (%d)\n", err);
		return err;
	}
	lookup = (void *)probe.addr;
	unregister_kprobe(&probe);
	return 0;
}

static int need(const char *name, void *where)
{
	unsigned long address = lookup(name);

	if (!address) {
		pr_err("this kernel has no %s: the lab needs the handler as it is since kernel.split_lock_mitigate (6.2, 6.1.2)\n",
		       name);
		return -ENOENT;
	}
	memcpy(where, &address, sizeof(address));
	return 0;
}

int lab_find_symbols(void)
{
	int err = find_lookup();

	err = err ?: need("handle_guest_split_lock", &lab_symbols.handle_guest_split_lock);
	err = err ?: need("handle_user_split_lock", &lab_symbols.handle_user_split_lock);
	err = err ?: need("sld_state", &lab_symbols.sld_state);
	err = err ?: need("__split_lock_reenable_unlock", &lab_symbols.reenable_unlock);
	err = err ?: need("__split_lock_reenable", &lab_symbols.reenable);
	return err ?: need("tick_next_period", &lab_symbols.tick_next_period);
}
