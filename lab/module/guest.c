// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way in from a KVM guest: VMMCALL stands for "the guest executes a split lock".
 *
 * kvm_emulate_hypercall() is led here. While this CPU detects, the kernel's own handler gets the
 * thread, and the guest then tries VMMCALL again; otherwise it goes on behind it. So VMMCALL is like a
 * prefix of the instruction behind it, whose address is the one that the handler is told.
 *
 * Whoever looks at a vCPU between two runs sees it at that instruction, as on a machine that detects
 * split locks: a prefix that has trapped is stepped over on the way out, and back before the next run
 * if the vCPU still is where it was. A breakpoint on the instruction comes before the trap, as there.
 */
#include <linux/ftrace.h>
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/sched/signal.h>

#include "lab.h"

#define VMMCALL_BYTES 3

static int (*skip_instruction)(struct kvm_vcpu *vcpu);
static unsigned long hypercall;

/* SVM has it at hand whenever the guest is out, and loads it from here on entry. */
static unsigned long *guest_ip(struct kvm_vcpu *vcpu)
{
	return &vcpu->arch.regs[VCPU_REGS_RIP];
}

static bool breakpoint_at(struct kvm_vcpu *vcpu, unsigned long ip)
{
	int i;

	if (!(vcpu->guest_debug & KVM_GUESTDBG_USE_HW_BP))
		return false;
	for (i = 0; i < KVM_NR_DB_REGS; i++)
		if (vcpu->arch.guest_debug_dr7 & (3ul << (i * 2)) && vcpu->arch.eff_db[i] == ip)
			return true;
	return false;
}

/* The thread's vCPU has trapped at a prefix, and is shown behind it. */
static void step_out(struct kvm_vcpu *vcpu, struct lab_thread *thread)
{
	unsigned long *ip = guest_ip(vcpu);

	if (thread->prefix && *ip == thread->prefix) {
		*ip += VMMCALL_BYTES;
		thread->stepped_out = true;
	}
}

static void step_back(struct kvm_vcpu *vcpu, struct lab_thread *thread)
{
	unsigned long *ip = guest_ip(vcpu);

	if (thread->stepped_out && *ip == thread->prefix + VMMCALL_BYTES)
		*ip = thread->prefix;
	thread->stepped_out = false;
}

static int run_begins(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (void *)regs->di;
	struct lab_thread *thread = lab_thread_of(current);

	if (!thread)
		return 1;
	*(struct kvm_vcpu **)instance->data = vcpu;
	step_back(vcpu, thread);
	return 0;
}

static int run_ends(struct kretprobe_instance *instance, struct pt_regs *regs)
{
	struct lab_thread *thread = lab_thread_of(current);

	if (thread)
		step_out(*(struct kvm_vcpu **)instance->data, thread);
	return 0;
}

static struct kretprobe runs = {
	.kp.symbol_name = "kvm_arch_vcpu_ioctl_run",
	.entry_handler = run_begins,
	.handler = run_ends,
	.data_size = sizeof(struct kvm_vcpu *),
	.maxactive = 64,
};

static int split_lock_of_guest(struct kvm_vcpu *vcpu)
{
	unsigned long prefix = *guest_ip(vcpu);
	unsigned long ip = prefix + VMMCALL_BYTES;
	struct lab_thread *thread;

	if (breakpoint_at(vcpu, ip))
		return skip_instruction(vcpu);

	switch (lab_split(true, ip, NULL)) {
	case LAB_HANDLED:
		thread = lab_thread_of(current);
		thread->prefix = prefix;
		/* KVM is about to leave, and copies registers for user space before the run ends. */
		if (signal_pending(current))
			step_out(vcpu, thread);
		return 1;
	case LAB_FATAL:
		vcpu->run->exit_reason = KVM_EXIT_EXCEPTION;
		vcpu->run->ex.exception = AC_VECTOR;
		vcpu->run->ex.error_code = 0;
		return 0;
	case LAB_COMPLETED:
	default:
		return skip_instruction(vcpu);
	}
}

static void notrace lead_here(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
		      struct ftrace_regs *fregs)
{
	struct pt_regs *regs = ftrace_get_regs(fregs);

	if (regs)
		regs->ip = (unsigned long)split_lock_of_guest;
}

static struct ftrace_ops ops = {
	.func = lead_here,
	.flags = FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_IPMODIFY,
};

int lab_guest_attach(void)
{
	int err;

	hypercall = lab_lookup("kvm_emulate_hypercall");
	skip_instruction = (void *)lab_lookup("kvm_skip_emulated_instruction");
	if (!hypercall || !skip_instruction) {
		pr_info("kvm is not loaded: only the way in for user threads\n");
		hypercall = 0;
		return 0;
	}
	err = register_kretprobe(&runs);
	if (err) {
		pr_err("cannot probe kvm_arch_vcpu_ioctl_run (%d)\n", err);
		hypercall = 0;
		return err;
	}
	err = ftrace_set_filter_ip(&ops, hypercall, 0, 0);
	if (!err)
		err = register_ftrace_function(&ops);
	if (err) {
		pr_err("cannot lead kvm_emulate_hypercall elsewhere (%d)\n", err);
		ftrace_set_filter_ip(&ops, hypercall, 1, 0);
		unregister_kretprobe(&runs);
		hypercall = 0;
	}
	return err;
}

void lab_guest_detach(void)
{
	if (!hypercall)
		return;
	unregister_ftrace_function(&ops);
	ftrace_set_filter_ip(&ops, hypercall, 1, 0);
	unregister_kretprobe(&runs);
}
