// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel could do instead: the alternatives of docs/policies.md, carried out by a real kernel.
 *
 * They sleep with the kernel's timers and end their windows with its delayed work. The semaphore is
 * replaced, because the kernel's has no waiters that leave and keep their place.
 */
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <asm/msr.h>

#include "lab.h"

enum policy { UPSTREAM, PROCEED, KILLABLE, DEBT, SENTENCE };

static const char *const names[] = { "upstream", "proceed", "killable", "debt", "sentence" };
static int policy = UPSTREAM;

static DEFINE_RAW_SPINLOCK(lock);
static LIST_HEAD(line);			/* of waiters, lowest ticket first */
static struct lab_thread *holder;
static unsigned long last_ticket;

static void reenable(struct work_struct *work);
static DECLARE_DELAYED_WORK(reenable_work, reenable);

bool lab_policy_is_ours(void)
{
	return READ_ONCE(policy) != UPSTREAM;
}

bool lab_policy_owns_work(const struct work_struct *work)
{
	return work == &reenable_work.work;
}

/* 10 ms as msleep() counts them: it lost an extra tick in 6.12. */
static unsigned long punishment(void)
{
	return msecs_to_jiffies(10) + (LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0));
}

/* Its name since 6.2. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 2, 0)
#define timer_delete_sync del_timer_sync
#endif

static bool disturbed(void)
{
	return policy == KILLABLE ? fatal_signal_pending(current) : signal_pending(current);
}

static unsigned int wait_state(void)
{
	return policy == KILLABLE ? TASK_KILLABLE : TASK_INTERRUPTIBLE;
}

/* So many ticks; the answer is how many are left. */
static long sleep_ticks(long ticks)
{
	while (ticks && !disturbed()) {
		set_current_state(wait_state());
		ticks = schedule_timeout(ticks);
	}
	return ticks;
}

static void wake_sleeper(struct timer_list *alarm)
{
	wake_up_process(container_of(alarm, struct lab_thread, alarm)->task);
}

/*
 * Until this tick is over; the answer is how many are left, itself included. A timer that is told the
 * tick, and not how many there are until then, sleeps no longer if one comes meanwhile.
 */
static long sleep_past(struct lab_thread *thread, unsigned long end)
{
	timer_setup(&thread->alarm, wake_sleeper, 0);
	while (time_before_eq(jiffies, end) && !disturbed()) {
		set_current_state(wait_state());
		mod_timer(&thread->alarm, end);
		schedule();
		timer_delete_sync(&thread->alarm);
	}
	return max_t(long, end + 1 - jiffies, 0);
}

/* Whether the thread may go on to the queue. */
static bool serve(struct lab_thread *thread)
{
	unsigned long now;
	long left;

	if (thread->served)
		return true;
	now = lab_note(LAB_SLEEP, current, 10);
	if (policy == SENTENCE) {
		if (!thread->sentenced) {
			thread->sentenced = true;
			thread->until = now + punishment();
		}
		left = sleep_past(thread, thread->until);
	} else {
		left = sleep_ticks(thread->owed ?: punishment());
	}
	lab_note(LAB_SLEPT, current, jiffies_to_msecs(left));
	thread->owed = policy == DEBT ? left : 0;
	thread->served = !left && (policy == DEBT || policy == SENTENCE);
	return !left || policy == PROCEED;
}

static void join_line(struct lab_thread *thread)
{
	struct lab_thread *other;

	if (!thread->ticket)
		thread->ticket = ++last_ticket;
	list_for_each_entry(other, &line, place)
		if (other->ticket > thread->ticket)
			break;
	/* Before the other, or at the end if there is none. */
	list_add_tail(&thread->place, &other->place);
	lab_note(LAB_LINE, current, 0);
}

/* With the lock held, which is given up meanwhile: whether the thread got its turn. */
static bool wait_in_line(struct lab_thread *thread, unsigned long *flags)
{
	thread->granted = false;
	while (!disturbed()) {
		set_current_state(wait_state());
		raw_spin_unlock_irqrestore(&lock, *flags);
		schedule();
		raw_spin_lock_irqsave(&lock, *flags);
		if (thread->granted)
			return true;
	}
	list_del(&thread->place);
	if (policy != SENTENCE)
		thread->ticket = 0;
	return false;
}

static bool take_turn(struct lab_thread *thread)
{
	unsigned long flags;
	bool taken = true;

	lab_note(LAB_DOWN, current, 0);
	raw_spin_lock_irqsave(&lock, flags);
	if (holder) {
		join_line(thread);
		taken = wait_in_line(thread, &flags);
		__set_current_state(TASK_RUNNING);
	} else {
		holder = thread;
	}
	raw_spin_unlock_irqrestore(&lock, flags);
	/* Who leaves the queue has served: the next trap does not sleep again. */
	thread->served = !taken && (policy == DEBT || policy == SENTENCE);
	lab_note(LAB_TOOK, current, taken ? 0 : -EINTR);
	return taken;
}

static void give_turn(void)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&lock, flags);
	holder = list_first_entry_or_null(&line, struct lab_thread, place);
	if (holder) {
		list_del(&holder->place);
		holder->granted = true;
		wake_up_process(holder->task);
	}
	raw_spin_unlock_irqrestore(&lock, flags);
}

static void reenable(struct work_struct *work)
{
	lab_note(LAB_WORK, current, 1);
	wrmsrl(MSR_TEST_CTRL, MSR_TEST_CTRL_SPLIT_LOCK_DETECT);
	give_turn();
	lab_note(LAB_WORKED, current, 0);
}

static void open_window(struct lab_thread *thread)
{
	int cpu = get_cpu();

	thread->served = thread->sentenced = false;
	thread->owed = thread->ticket = 0;
	schedule_delayed_work_on(cpu, &reenable_work, 2);
	wrmsrl(MSR_TEST_CTRL, 0);
	put_cpu();
}

void lab_policy_handle(struct lab_thread *thread)
{
	if (serve(thread) && take_turn(thread))
		open_window(thread);
}

void lab_policy_stop(void)
{
	flush_delayed_work(&reenable_work);
}

static int set_policy(const char *value, const struct kernel_param *parameter)
{
	int chosen = sysfs_match_string(names, value);

	if (chosen < 0)
		return chosen;
	WRITE_ONCE(policy, chosen);
	return 0;
}

static int get_policy(char *buffer, const struct kernel_param *parameter)
{
	return sysfs_emit(buffer, "%s\n", names[READ_ONCE(policy)]);
}

static const struct kernel_param_ops policy_ops = { .set = set_policy, .get = get_policy };

module_param_cb(policy, &policy_ops, NULL, 0644);
MODULE_PARM_DESC(policy, "upstream (the kernel's own handler), proceed, killable, debt or sentence; only while nobody splits locks");
