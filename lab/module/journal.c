// SPDX-License-Identifier: GPL-2.0-only
/* Events in the order in which they happened, until user space takes them. */
#include <linux/jiffies.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "lab.h"

#define CAPACITY (1 << 18)

/* Probes take it in any context, with run queues locked. */
static DEFINE_RAW_SPINLOCK(lock);
static struct lab_event *events;
static size_t written;
static size_t taken;
static u64 lost;

int lab_journal_open(void)
{
	events = vzalloc(array_size(CAPACITY, sizeof(*events)));
	return events ? 0 : -ENOMEM;
}

void lab_journal_close(void)
{
	vfree(events);
	events = NULL;
}

/* The answer is the tick that it notes. */
u64 lab_note(enum lab_kind kind, struct task_struct *task, s64 value)
{
	struct lab_thread *thread = lab_thread_of(task);
	u8 event_flags = 0;
	unsigned long irq;
	u64 tick;

	if (signal_pending(task))
		event_flags |= LAB_SIGNAL_PENDING;
	if (thread && thread->in_guest)
		event_flags |= LAB_GUEST;

	raw_spin_lock_irqsave(&lock, irq);
	if (lab_detects())
		event_flags |= LAB_DETECTS;
	/* Before the time: another CPU may count a tick in between, which must not look early. */
	tick = get_jiffies_64();
	if (written < CAPACITY) {
		events[written++] = (struct lab_event) {
			.ns = ktime_get_mono_fast_ns(),
			.jiffies = tick,
			.value = value,
			.pid = task->pid,
			.cpu = raw_smp_processor_id(),
			.kind = kind,
			.flags = event_flags,
		};
	} else {
		lost++;
	}
	raw_spin_unlock_irqrestore(&lock, irq);
	return tick;
}

/* One reader: the device can be open once. */
ssize_t lab_journal_read(char __user *to, size_t size)
{
	size_t ready, count;

	/* Nothing would look like the end. */
	if (size < sizeof(*events))
		return -EINVAL;
	raw_spin_lock_irq(&lock);
	ready = written - taken;
	raw_spin_unlock_irq(&lock);
	count = min(ready, size / sizeof(*events));
	/* What is written is never written again. */
	if (copy_to_user(to, events + taken, count * sizeof(*events)))
		return -EFAULT;
	taken += count;
	return count * sizeof(*events);
}

void lab_journal_clear(void)
{
	raw_spin_lock_irq(&lock);
	written = taken = lost = 0;
	raw_spin_unlock_irq(&lock);
}

u64 lab_journal_lost(void)
{
	return READ_ONCE(lost);
}
