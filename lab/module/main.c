// SPDX-License-Identifier: GPL-2.0-only
/* The module and its device. */
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/ptrace.h>
#include <linux/uaccess.h>
#include <linux/sched/task_stack.h>

#include "lab.h"

static atomic_t opened = ATOMIC_INIT(0);

static int lab_open(struct inode *inode, struct file *file)
{
	return atomic_cmpxchg(&opened, 0, 1) ? -EBUSY : 0;
}

static int lab_release(struct inode *inode, struct file *file)
{
	atomic_set(&opened, 0);
	return 0;
}

static ssize_t lab_read(struct file *file, char __user *to, size_t size, loff_t *offset)
{
	return lab_journal_read(to, size);
}

static long tell_state(void __user *to)
{
	struct lab_state state = {
		.lost = lab_journal_lost() + lab_probes_missed(),
		.hz = HZ,
		.cpus_off = lab_detection_off_cpus(),
	};
	ktime_t next;

	lab_counts(&state);
	/*
	 * The next tick has the next number, unless it comes between the two. Another CPU that counts it adds to
	 * the number first and moves its moment then: until it has, that moment is past.
	 */
	do {
		next = READ_ONCE(*lab_symbols.tick_next_period);
		state.tick_jiffies = get_jiffies_64() + 1;
		state.tick_ns = ktime_to_ns(next);
	} while (ktime_get() >= next || next != READ_ONCE(*lab_symbols.tick_next_period) ||
		 state.tick_jiffies != get_jiffies_64() + 1);
	return copy_to_user(to, &state, sizeof(state)) ? -EFAULT : 0;
}

static long lab_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct pt_regs *regs = task_pt_regs(current);

	switch (command) {
	case LAB_SPLIT:
		return lab_split(false, regs->ip, regs) != LAB_COMPLETED;
	case LAB_NOTE:
		lab_note(LAB_MARK, current, argument);
		return 0;
	case LAB_CLEAR:
		lab_journal_clear();
		lab_forget_threads();
		return 0;
	case LAB_DETECT:
		lab_detection_set_all(argument);
		return 0;
	case LAB_STATE:
		return tell_state((void __user *)argument);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.open = lab_open,
	.release = lab_release,
	.read = lab_read,
	.unlocked_ioctl = lab_ioctl,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "split_lock_lab",
	.fops = &operations,
};

static int __init lab_init(void)
{
	int err = lab_find_symbols();

	if (err)
		return err;
	err = lab_journal_open();
	if (err)
		return err;
	err = lab_detection_switch_on();
	if (err)
		goto no_detection;
	err = lab_probes_attach();
	if (err)
		goto no_probes;
	err = lab_guest_attach();
	if (err)
		goto no_guest;
	err = misc_register(&device);
	if (err)
		goto no_device;
	return 0;

no_device:
	lab_guest_detach();
	lab_wait_until_nobody_is_in_handler();
	lab_policy_stop();
no_guest:
	lab_probes_detach();
no_probes:
	lab_detection_restore();
no_detection:
	lab_journal_close();
	return err;
}

static void __exit lab_exit(void)
{
	misc_deregister(&device);
	lab_guest_detach();
	lab_wait_until_nobody_is_in_handler();
	lab_policy_stop();
	lab_probes_detach();
	lab_detection_restore();
	lab_journal_close();
}

module_init(lab_init);
module_exit(lab_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Leads stand-in split locks through the kernel's own handler, and notes what it does");
