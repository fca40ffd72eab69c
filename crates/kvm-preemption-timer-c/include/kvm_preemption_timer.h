/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Run a KVM vCPU until a deadline, whatever the guest does.
 *
 * The VMM keeps its vCPU and its own KVM_RUN. On the thread that runs the vCPU:
 *
 *     kpt_binding *binding;
 *     if (kpt_bind(vcpu_fd, NULL, &binding) < 0)
 *             errx(1, "%s", kpt_last_error());
 *     for (;;) {
 *             kpt_arm(binding, KPT_MONOTONIC, deadline_ns);
 *             if (ioctl(vcpu_fd, KVM_RUN, 0) == 0)
 *                     handle_exit();
 *             else if (errno != EINTR && errno != EAGAIN)
 *                     err(1, "KVM_RUN");
 *             else if (kpt_interrupted(binding, &detail) == KPT_EXPIRED)
 *                     deadline_ns += 1000000;
 *     }
 *
 * Link with libkvm_preemption_timer_c.a -lpthread -ldl -lm. Functions that return an int return 0, or
 * another number that is not negative, on success; and on failure a negative error number, about which
 * kpt_last_error() has a sentence.
 */
#ifndef KVM_PREEMPTION_TIMER_H
#define KVM_PREEMPTION_TIMER_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A thread bound to a vCPU. All functions on it are for that thread alone: on others, -EPERM. */
typedef struct kpt_binding kpt_binding;

/* Forces the vCPU of a binding out, from any thread. It may outlive the binding. */
typedef struct kpt_kicker kpt_kicker;

enum kpt_mechanism {
	/* The signal has a handler, which sets bit 7 of kvm_run.immediate_exit. */
	KPT_IMMEDIATE_EXIT = 0,
	/* The thread blocks the signal, and KVM unblocks it while the vCPU runs. */
	KPT_MASKED_SIGNAL = 1,
};

/* Set it to zero first. All zero is the default. */
struct kpt_config {
	/* The signal's number; 0 for SIGSTKFLT. */
	int signal;
	/* An enum kpt_mechanism. */
	int mechanism;
	/* Not 0 if the VMM has set a signal mask in KVM (KVM_SET_SIGNAL_MASK). KVM does not tell. */
	int has_kvm_mask;
	/* 0. */
	int reserved;
	/* That mask: bit n - 1 stands for signal n. */
	uint64_t kvm_mask;
};

enum kpt_clock {
	/* No deadline. */
	KPT_NEVER = 0,
	/* CLOCK_MONOTONIC. */
	KPT_MONOTONIC = 1,
	/* CLOCK_THREAD_CPUTIME_ID of the vCPU's thread. */
	KPT_THREAD_CPU = 2,
};

enum kpt_interruption {
	/*
	 * Somebody else's: a signal or an immediate_exit of the VMM's, a debugger; or a signal that was
	 * left over from an earlier deadline or kick. Run again unless the VMM's own flags say otherwise.
	 */
	KPT_OTHER = 0,
	/* The deadline has passed. `detail` is by how much, in nanoseconds. */
	KPT_EXPIRED = 1,
	/* The vCPU was kicked. `detail` is the reasons of all kicks since the last time. */
	KPT_KICKED = 2,
};

/*
 * Binds the calling thread to a vCPU. `config` may be NULL. The descriptor stays the VMM's.
 * -EBUSY: somebody else uses the signal. -EAGAIN: this user's limit of timers is reached.
 */
int kpt_bind(int vcpu_fd, const struct kpt_config *config, kpt_binding **binding);

/*
 * Call it right before each KVM_RUN. It costs no system call unless the deadline is another one than
 * last time, or the last run was interrupted. `clock` is an enum kpt_clock, and `ns` a point on it.
 */
int kpt_arm(kpt_binding *binding, int clock, uint64_t ns);

/*
 * Call it after each KVM_RUN that fails with EINTR or EAGAIN. Returns an enum kpt_interruption.
 * `detail` may be NULL. Look at the VMM's own flags after each interruption, also after those that are
 * not KPT_OTHER: one KVM_RUN can be interrupted by several at once.
 */
int kpt_interrupted(kpt_binding *binding, uint64_t *detail);

/* Restores the thread's signal mask, KVM's, and the handler, and frees the binding. NULL is fine. */
int kpt_unbind(kpt_binding *binding);

/* NULL on failure. */
kpt_kicker *kpt_kicker_new(const kpt_binding *binding);

/*
 * Ends the current run, or else the next one. `reasons` is up to the VMM: bits 0 to 30.
 * -ESRCH: the vCPU is not bound any more. Not for signal handlers.
 */
int kpt_kick(const kpt_kicker *kicker, uint32_t reasons);

/* NULL is fine. */
void kpt_kicker_free(kpt_kicker *kicker);

/* What the calling thread's last failing call said, until its next one fails. NULL if none has. */
const char *kpt_last_error(void);

#ifdef __cplusplus
}
#endif

#endif
