// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether detection is on: the kernel's own switch, and each CPU's bit.
 *
 * QEMU's CPU has no detection, so the kernel has left it off, and its writes to MSR_TEST_CTRL go
 * nowhere. The switch is turned by hand, and the bits are kept here, as the kernel writes them.
 */
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/vmalloc.h>
#include <asm/msr-index.h>

#include "lab.h"

/* enum split_lock_detect_state, first of all kernels that have it. */
#define SLD_OFF 0
#define SLD_WARN 1

static DEFINE_PER_CPU(bool, detects);
static int before;

/* The switch is read-only after boot: it is written through a second mapping of its page. */
static int write_switch(int state)
{
	unsigned long address = (unsigned long)lab_symbols.sld_state;
	struct page *page = pfn_to_page(__pa_symbol(address) >> PAGE_SHIFT);
	void *alias = vmap(&page, 1, VM_MAP, PAGE_KERNEL);

	if (!alias)
		return -ENOMEM;
	WRITE_ONCE(*(int *)(alias + offset_in_page(address)), state);
	vunmap(alias);
	return 0;
}

void lab_detection_set_all(bool on)
{
	int cpu;

	for_each_possible_cpu(cpu)
		per_cpu(detects, cpu) = on;
}

int lab_detection_switch_on(void)
{
	before = READ_ONCE(*(int *)lab_symbols.sld_state);
	if (before != SLD_OFF && before != SLD_WARN) {
		pr_err("detection is in state %d: boot without split_lock_detect=\n", before);
		return -EBUSY;
	}
	lab_detection_set_all(true);
	return write_switch(SLD_WARN);
}

void lab_detection_restore(void)
{
	if (write_switch(before))
		pr_err("could not switch detection back\n");
}

/* On the CPU that wrote it. */
void lab_detection_written(u64 value)
{
	this_cpu_write(detects, !!(value & MSR_TEST_CTRL_SPLIT_LOCK_DETECT));
}

bool lab_detects(void)
{
	return this_cpu_read(detects);
}

u32 lab_detection_off_cpus(void)
{
	u32 off = 0;
	int cpu;

	for_each_online_cpu(cpu)
		off += !per_cpu(detects, cpu);
	return off;
}
