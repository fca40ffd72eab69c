// SPDX-License-Identifier: GPL-2.0-only
/* A split lock: what the CPU would do with it. */
#include <linux/atomic.h>
#include <linux/delay.h>
#include <linux/rcupdate.h>

#include "lab.h"

static atomic_t in_handler = ATOMIC_INIT(0);
static atomic64_t traps = ATOMIC64_INIT(0);
static atomic64_t completed = ATOMIC64_INIT(0);

static enum lab_outcome let_through(struct lab_thread *thread, unsigned long ip)
{
	atomic64_inc(&completed);
	if (thread && !thread->completed) {
		thread->completed = true;
		lab_note(LAB_DONE, current, ip);
	}
	return LAB_COMPLETED;
}

enum lab_outcome lab_split(bool guest, unsigned long ip, struct pt_regs *regs)
{
	struct lab_thread *thread;
	enum lab_outcome outcome;
	bool handled = true;

	/* An instruction traps or is done: nobody switches detection between the look and the note. */
	preempt_disable();
	if (!lab_detects()) {
		outcome = let_through(lab_thread_of(current), ip);
		preempt_enable();
		return outcome;
	}
	thread = lab_thread_make(current);
	if (!thread) {
		preempt_enable();
		pr_warn_once("more than %d threads split locks: the rest is let through\n", LAB_THREADS);
		return LAB_COMPLETED;
	}
	atomic_inc(&in_handler);
	atomic64_inc(&traps);
	thread->completed = false;
	thread->in_guest = guest;
	thread->in_handler = true;
	lab_note(LAB_TRAP, current, ip);
	preempt_enable();
	if (lab_policy_is_ours())
		lab_policy_handle(thread);
	else if (guest)
		handled = lab_symbols.handle_guest_split_lock(ip);
	else
		handled = lab_symbols.handle_user_split_lock(regs, 0);
	lab_note(LAB_RETURN, current, handled);
	thread->in_handler = false;
	atomic_dec(&in_handler);
	return handled ? LAB_HANDLED : LAB_FATAL;
}

/* Their way back leads through this module. */
void lab_wait_until_nobody_is_in_handler(void)
{
	while (atomic_read(&in_handler))
		msleep(1);
	synchronize_rcu_tasks();
}

void lab_counts(struct lab_state *state)
{
	state->traps = atomic64_read(&traps);
	state->completed = atomic64_read(&completed);
}
