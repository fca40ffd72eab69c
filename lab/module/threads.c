// SPDX-License-Identifier: GPL-2.0-only
/* Which threads have met the handler. */
#include <linux/spinlock.h>

#include "lab.h"

static struct lab_thread threads[LAB_THREADS];
static unsigned int known;
static DEFINE_SPINLOCK(lock);

/* Slots are only ever added while somebody may look, so that looking needs no lock. */
struct lab_thread *lab_thread_of(struct task_struct *task)
{
	unsigned int i, count = smp_load_acquire(&known);

	for (i = 0; i < count; i++)
		if (threads[i].task == task)
			return &threads[i];
	return NULL;
}

struct lab_thread *lab_thread_make(struct task_struct *task)
{
	struct lab_thread *thread = lab_thread_of(task);

	if (thread)
		return thread;
	spin_lock(&lock);
	if (known < LAB_THREADS) {
		thread = &threads[known];
		*thread = (struct lab_thread) { .task = task };
		smp_store_release(&known, known + 1);
	}
	spin_unlock(&lock);
	return thread;
}

/* Only while nobody splits locks. */
void lab_forget_threads(void)
{
	smp_store_release(&known, 0);
}
