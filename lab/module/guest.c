// SPDX-License-Identifier: GPL-2.0-only
/*
 * The way in from a KVM guest: VMMCALL stands for "the guest executes a split lock".
 *
 * kvm_emulate_hypercall() is led here. While this CPU detects, the kernel's own handler gets the
 * thread, and the guest then tries VMMCALL again; otherwise it goes on behind it. So what follows
 * VMMCALL is the rest of the instruction, and its address is the one that the handler is told.
 */
#include <linux/ftrace.h>
#include <linux/kvm_host.h>

#include "lab.h"

#define VMMCALL_BYTES 3

static int (*skip_instruction)(struct kvm_vcpu *vcpu);
static unsigned long hypercall;

static int split_lock_of_guest(struct kvm_vcpu *vcpu)
{
	unsigned long ip = vcpu->arch.regs[VCPU_REGS_RIP] + VMMCALL_BYTES;

	switch (lab_split(true, ip, NULL)) {
	case LAB_HANDLED:
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

static void lead_here(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
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
	err = ftrace_set_filter_ip(&ops, hypercall, 0, 0);
	if (!err)
		err = register_ftrace_function(&ops);
	if (err) {
		pr_err("cannot lead kvm_emulate_hypercall elsewhere (%d)\n", err);
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
}
