// SPDX-License-Identifier: GPL-2.0-only
/* What the handler does with a thread, as seen from its own calls and the kernel's tracepoints. */
#include <linux/kprobes.h>
#include <linux/preempt.h>
#include <linux/sched/signal.h>
#include <linux/timer.h>
#include <linux/tracepoint.h>
#include <linux/workqueue.h>
#include <asm/msr-index.h>

#include "lab.h"

/* Threads that may be between the entry and the return of one function at once. */
#define MAX_ACTIVE 64

static struct lab_thread *handled(struct task_struct *task)
{
	struct lab_thread *thread = lab_thread_of(task);

	return thread && thread->in_handler ? thread : NULL;
}

static int sleep_entered(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	if (!handled(current))
		return 1;
	lab_note(LAB_SLEEP, current, regs->di);
	return 0;
}

static int sleep_left(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	lab_note(LAB_SLEPT, current, regs_return_value(regs));
	return 0;
}

static int down_entered(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	if (!handled(current))
		return 1;
	lab_note(LAB_DOWN, current, 0);
	return 0;
}

static int down_left(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	lab_note(LAB_TOOK, current, (int)regs_return_value(regs));
	return 0;
}

/* Called with the semaphore locked, and only if it is taken: the order of the queue is that of these. */
static int joins_queue(struct kprobe *probe, struct pt_regs *regs)
{
	if (handled(current))
		lab_note(LAB_LINE, current, 0);
	return 0;
}

static int unlocking_work_runs(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	lab_note(LAB_WORK, current, 1);
	return 0;
}

static int unlocking_work_done(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	lab_note(LAB_WORKED, current, 0);
	return 0;
}

static int work_runs(struct kprobe *probe, struct pt_regs *regs)
{
	lab_note(LAB_WORK, current, 0);
	return 0;
}

static struct kretprobe calls[] = {
	{
		.kp.symbol_name = "msleep_interruptible",
		.entry_handler = sleep_entered,
		.handler = sleep_left,
		.maxactive = MAX_ACTIVE,
	},
	{
		.kp.symbol_name = "down_interruptible",
		.entry_handler = down_entered,
		.handler = down_left,
		.maxactive = MAX_ACTIVE,
	},
	{
		.kp.symbol_name = "__split_lock_reenable_unlock",
		.entry_handler = unlocking_work_runs,
		.handler = unlocking_work_done,
		.maxactive = MAX_ACTIVE,
	},
};

/* The last exists since there is the sysctl. */
static struct kprobe moments[] = {
	{ .symbol_name = "__down_interruptible", .pre_handler = joins_queue },
	{ .symbol_name = "__split_lock_reenable", .pre_handler = work_runs },
};

static void on_timer_start(void *data, struct timer_list *timer)
{
	/* Not a timer that an interrupt sets while it borrows the thread. */
	if (in_task() && handled(current))
		lab_note(LAB_TIMER, current, timer->expires);
}

/* The end of schedule_timeout() if its timer has not expired: then it looks how many ticks are left. */
static void on_timer_cancel(void *data, struct timer_list *timer)
{
	if (in_task() && handled(current))
		lab_note(LAB_CANCEL, current, timer->expires);
}

static void on_waking(void *data, struct task_struct *task)
{
	if (handled(task))
		lab_note(LAB_WAKE, task, 0);
}

static void on_signal(void *data, int signal, struct kernel_siginfo *info,
		      struct task_struct *task, int group, int result)
{
	if (lab_thread_of(task))
		lab_note(LAB_SIGNAL, task, signal);
}

static void on_write_msr(void *data, unsigned int msr, u64 value, int failed)
{
	if (msr != MSR_TEST_CTRL)
		return;
	lab_detection_written(value);
	lab_note(LAB_MSR, current, lab_detects());
}

/* Delayed work is queued by its timer: at the tick that the kernel chose, whatever the worker does. */
static void on_queue_work(void *data, int cpu, void *pool, struct work_struct *work)
{
	void *function = work->func;

	if (lab_policy_owns_work(work))
		lab_note(LAB_QUEUE, current, 1);
	else if (function == lab_symbols.reenable_unlock || function == lab_symbols.reenable)
		lab_note(LAB_QUEUE, current, function == lab_symbols.reenable_unlock);
}

static struct {
	const char *name;
	void *probe;
	struct tracepoint *point;
	bool attached;
} points[] = {
	{ "timer_start", on_timer_start },
	{ "timer_cancel", on_timer_cancel },
	{ "sched_waking", on_waking },
	{ "signal_generate", on_signal },
	{ "write_msr", on_write_msr },
	{ "workqueue_queue_work", on_queue_work },
};

static void find_point(struct tracepoint *point, void *data)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		if (!strcmp(point->name, points[i].name))
			points[i].point = point;
}

static int attach_points(void)
{
	int i, err;

	for_each_kernel_tracepoint(find_point, NULL);
	for (i = 0; i < ARRAY_SIZE(points); i++) {
		if (!points[i].point) {
			pr_err("this kernel has no tracepoint %s\n", points[i].name);
			return -ENOENT;
		}
		err = tracepoint_probe_register(points[i].point, points[i].probe, NULL);
		if (err) {
			pr_err("cannot attach to the tracepoint %s (%d)\n", points[i].name, err);
			return err;
		}
		points[i].attached = true;
	}
	return 0;
}

static void detach_points(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(points); i++)
		if (points[i].attached)
			tracepoint_probe_unregister(points[i].point, points[i].probe, NULL);
	tracepoint_synchronize_unregister();
}

static int attach_calls(void)
{
	int i, err;

	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		err = register_kretprobe(&calls[i]);
		if (err) {
			pr_err("cannot probe %s (%d)\n", calls[i].kp.symbol_name, err);
			while (i--)
				unregister_kretprobe(&calls[i]);
			return err;
		}
	}
	return 0;
}

static void detach_calls(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		unregister_kretprobe(&calls[i]);
}

static int attach_moments(void)
{
	int i, err;

	for (i = 0; i < ARRAY_SIZE(moments); i++) {
		err = register_kprobe(&moments[i]);
		if (err) {
			pr_err("cannot probe %s (%d)\n", moments[i].symbol_name, err);
			while (i--)
				unregister_kprobe(&moments[i]);
			return err;
		}
	}
	return 0;
}

static void detach_moments(void)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(moments); i++)
		unregister_kprobe(&moments[i]);
}

/* Calls and moments that the probes had no room to note. */
u64 lab_probes_missed(void)
{
	u64 missed = 0;
	int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		missed += calls[i].nmissed + calls[i].kp.nmissed;
	for (i = 0; i < ARRAY_SIZE(moments); i++)
		missed += moments[i].nmissed;
	return missed;
}

int lab_probes_attach(void)
{
	int err = attach_calls();

	if (err)
		return err;
	err = attach_moments();
	if (err)
		goto no_moments;
	err = attach_points();
	if (err)
		goto no_points;
	return 0;

no_points:
	detach_points();
	detach_moments();
no_moments:
	detach_calls();
	return err;
}

void lab_probes_detach(void)
{
	detach_points();
	detach_moments();
	detach_calls();
}
