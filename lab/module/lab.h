/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What user space sees of the module, and what its files see of each other.
 *
 * The Rust side of the first half is lab/src/journal.rs.
 */
#ifndef SPLIT_LOCK_LAB_H
#define SPLIT_LOCK_LAB_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What happened. Threads are only followed while the kernel's handler has them. */
enum lab_kind {
	LAB_TRAP = 1,	/* a split lock met detection; value: its address */
	LAB_SLEEP,	/* msleep_interruptible() entered; value: milliseconds */
	LAB_TIMER,	/* a timer was set; value: the tick that it asks for */
	LAB_WAKE,	/* somebody wakes the thread */
	LAB_SLEPT,	/* msleep_interruptible() left; value: milliseconds not slept */
	LAB_DOWN,	/* down_interruptible() entered */
	LAB_TOOK,	/* down_interruptible() left; value: its result */
	LAB_MSR,	/* the kernel wrote MSR_TEST_CTRL; value: detection on or off */
	LAB_QUEUE,	/* the timer of the re-enable work has expired; value: it unlocks */
	LAB_WORK,	/* the re-enable work runs; value: it unlocks */
	LAB_RETURN,	/* the handler is done; value: what it returned */
	LAB_DONE,	/* first split lock that detection lets through after a trap */
	LAB_SIGNAL,	/* a signal was made for a thread that is followed; value: its number */
	LAB_MARK,	/* user space says something */
	LAB_LINE,	/* the thread joins the semaphore's queue, with the semaphore locked */
	LAB_WORKED,	/* the re-enable work that unlocks is done */
	LAB_CANCEL,	/* the thread takes its timer back; value: the tick that it asked for */
};

#define LAB_SIGNAL_PENDING	1	/* for the thread named */
#define LAB_DETECTS		2	/* this CPU does */
#define LAB_GUEST		4	/* the thread is a vCPU in KVM_RUN */

struct lab_event {
	__u64 ns;	/* CLOCK_MONOTONIC */
	__u64 jiffies;
	__s64 value;
	__s32 pid;	/* of the thread that this is about */
	__u16 cpu;	/* where it was noted */
	__u8 kind;
	__u8 flags;
};

struct lab_state {
	__u64 lost;		/* events that found the journal full */
	__u64 traps;		/* since the module was loaded */
	__u64 completed;	/* split locks that met no detection */
	__u64 tick_ns;		/* when some tick happens, CLOCK_MONOTONIC */
	__u64 tick_jiffies;	/* and its number */
	__u32 hz;
	__u32 cpus_off;		/* CPUs that do not detect just now */
};

/* A split lock of the calling thread: 1 if it trapped, and is to be tried again; 0 if it is done. */
#define LAB_SPLIT	_IO('L', 1)
/* Puts a number into the journal. */
#define LAB_NOTE	_IO('L', 2)
/* Empties the journal. */
#define LAB_CLEAR	_IO('L', 3)
#define LAB_STATE	_IOR('L', 4, struct lab_state)
/* Switches detection of all CPUs, as if the machine had been booted so. */
#define LAB_DETECT	_IO('L', 5)

#ifdef __KERNEL__

#include <linux/list.h>
#include <linux/sched.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

/* What the module needs of a kernel that does not export it. */
struct lab_symbols {
	bool (*handle_guest_split_lock)(unsigned long ip);
	bool (*handle_user_split_lock)(struct pt_regs *regs, long error_code);
	void *sld_state;
	void *reenable;		/* __split_lock_reenable, or NULL */
	void *reenable_unlock;	/* __split_lock_reenable_unlock */
	ktime_t *tick_next_period;
};

extern struct lab_symbols lab_symbols;
unsigned long lab_lookup(const char *name);
int lab_find_symbols(void);

/* A thread that has trapped at least once. */
struct lab_thread {
	struct task_struct *task;
	bool in_handler;
	bool in_guest;
	bool completed;	/* something, since its last trap */
	/* Of its guest's last trap, and whether the vCPU is shown behind it: see guest.c. */
	unsigned long prefix;
	bool stepped_out;
	/* Under a policy of ours: what it still has to serve, and its place in line. See policy.c. */
	bool served;
	bool sentenced;
	unsigned long until;
	struct timer_list alarm;
	unsigned long owed;
	struct list_head place;
	unsigned long ticket;
	bool granted;
};

#define LAB_THREADS 64
struct lab_thread *lab_thread_of(struct task_struct *task);
struct lab_thread *lab_thread_make(struct task_struct *task);
void lab_forget_threads(void);

int lab_journal_open(void);
void lab_journal_close(void);
u64 lab_note(enum lab_kind kind, struct task_struct *task, s64 value);
ssize_t lab_journal_read(char __user *to, size_t size);
void lab_journal_clear(void);
u64 lab_journal_lost(void);

int lab_detection_switch_on(void);
void lab_detection_restore(void);
void lab_detection_written(u64 value);
void lab_detection_set_all(bool on);
bool lab_detects(void);
u32 lab_detection_off_cpus(void);

/* One split lock: whether the handler had it, or it was done. */
enum lab_outcome { LAB_COMPLETED, LAB_HANDLED, LAB_FATAL };
enum lab_outcome lab_split(bool guest, unsigned long ip, struct pt_regs *regs);
void lab_wait_until_nobody_is_in_handler(void);
void lab_counts(struct lab_state *state);

bool lab_policy_is_ours(void);
bool lab_policy_owns_work(const struct work_struct *work);
void lab_policy_handle(struct lab_thread *thread);
void lab_policy_stop(void);

u64 lab_probes_missed(void);
int lab_probes_attach(void);
void lab_probes_detach(void);

int lab_guest_attach(void);
void lab_guest_detach(void);

#endif
#endif
