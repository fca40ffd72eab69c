/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The run loop of a VMM in C that gives its guest 1 ms at a time, and can be told to stop.
 *
 *     cargo build -p kvm-preemption-timer-c
 *     cc -Icrates/kvm-preemption-timer-c/include crates/kvm-preemption-timer-c/examples/run_loop.c \
 *         target/debug/libkvm_preemption_timer_c.a -lpthread -ldl -lm -o run_loop && ./run_loop
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kvm_preemption_timer.h"

#define QUANTUM_NS 1000000
#define WANTED_QUANTA 200
#define CODE 0x1000
#define MEMORY_BYTES 0x10000

/* A reason of this VMM's. */
#define STOP (1u << 0)

/* Writes to port 0x10 once in a while: mov cx, 500; loop .; out 0x10, al; jmp back. */
static const unsigned char guest[] = { 0xb9, 0xf4, 0x01, 0xe2, 0xfe, 0xe6, 0x10, 0xeb, 0xf7 };

struct vcpu {
	int fd;
	struct kvm_run *run;
	pthread_barrier_t is_bound;
	kpt_kicker *kicker;
	unsigned long quanta, port_writes, others;
	uint64_t worst_overshoot_ns;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/* What a VMM copies: all of it happens on the vCPU's own thread. */
static void *run_vcpu(void *argument)
{
	struct vcpu *vcpu = argument;
	kpt_binding *binding;
	uint64_t deadline_ns, detail;
	int interruption = KPT_OTHER;

	if (kpt_bind(vcpu->fd, NULL, &binding) < 0)
		errx(2, "%s", kpt_last_error());
	vcpu->kicker = kpt_kicker_new(binding);
	pthread_barrier_wait(&vcpu->is_bound);

	deadline_ns = now_ns() + QUANTUM_NS;
	for (;;) {
		if (kpt_arm(binding, KPT_MONOTONIC, deadline_ns) < 0)
			errx(2, "%s", kpt_last_error());
		if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
			if (vcpu->run->exit_reason != KVM_EXIT_IO)
				errx(2, "the guest has stopped: exit reason %u",
				     vcpu->run->exit_reason);
			vcpu->port_writes++;
			continue;
		}
		if (errno != EINTR && errno != EAGAIN)
			err(2, "KVM_RUN");
		interruption = kpt_interrupted(binding, &detail);
		if (interruption == KPT_EXPIRED) {
			if (now_ns() < deadline_ns)
				errx(1, "a run has ended early");
			if (detail > vcpu->worst_overshoot_ns)
				vcpu->worst_overshoot_ns = detail;
			vcpu->quanta++;
			deadline_ns = now_ns() + QUANTUM_NS;
		} else if (interruption == KPT_KICKED && (detail & STOP)) {
			break;
		} else if (interruption < 0) {
			errx(2, "%s", kpt_last_error());
		} else {
			/* Somebody else's: the VMM would look at its own flags here. */
			vcpu->others++;
		}
	}
	kpt_unbind(binding);
	return NULL;
}

static void open_vcpu(struct vcpu *vcpu)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
	int run_bytes = kvm < 0 ? -1 : ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY_BYTES };
	struct kvm_regs regs = { .rip = CODE, .rflags = 2 };
	struct kvm_sregs sregs;
	void *memory;

	if (kvm < 0 || vm < 0 || run_bytes < 0)
		err(2, "/dev/kvm cannot be used");
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(2, "no memory for the guest");
	memcpy((char *)memory + CODE, guest, sizeof(guest));
	region.userspace_addr = (uintptr_t)memory;
	vcpu->fd = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu->fd < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		err(2, "KVM refuses the vCPU or its memory");
	vcpu->run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (vcpu->run == MAP_FAILED)
		err(2, "KVM refuses the run page");
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
		err(2, "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
		err(2, "KVM refuses the registers");
}

int main(void)
{
	struct vcpu vcpu = { 0 };
	pthread_t thread;
	int error;

	open_vcpu(&vcpu);
	pthread_barrier_init(&vcpu.is_bound, NULL, 2);
	if (pthread_create(&thread, NULL, run_vcpu, &vcpu) != 0)
		errx(2, "no thread for the vCPU");
	pthread_barrier_wait(&vcpu.is_bound);
	usleep(WANTED_QUANTA * 1000);
	error = kpt_kick(vcpu.kicker, STOP);
	if (error < 0)
		errx(2, "%s", kpt_last_error());
	pthread_join(thread, NULL);

	/* Its vCPU is gone by now. */
	error = kpt_kick(vcpu.kicker, STOP);
	if (error != -ESRCH)
		errx(1, "a kick after the end gave %d", error);
	kpt_kicker_free(vcpu.kicker);
	printf("stopped after %lu port writes and %lu quanta of 1 ms; the worst ended %.3f ms late\n",
	       vcpu.port_writes, vcpu.quanta, vcpu.worst_overshoot_ns / 1e6);
	return 0;
}
