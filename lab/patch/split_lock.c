// SPDX-License-Identifier: GPL-2.0
/*
 * Split lock detection in mode "warn" slows down whoever splits locks. It must
 * not stop anybody: neither a program nor a vCPU whose signals come more often
 * than the punishment is long. Nor may a signal, a long sleep or a fork shorten
 * the punishment, or the punishment delay a deadly signal.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/kvm.h>

#define KSFT_PASS	0
#define KSFT_FAIL	1
#define KSFT_SKIP	4

#define TESTS		7
#define PUNISHMENT_MS	10
#define SIGNAL_US	1000
/* A task that is past its split lock after this long was not livelocked. */
#define PATIENCE_MS	2000
#define NEIGHBOURS	4

static int tests, failures;
static _Alignas(64) char lines[128];

static double now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void sleep_ms(double ms)
{
	struct timespec rest = {
		.tv_sec = ms / 1000,
		.tv_nsec = (long)(ms * 1e6) % 1000000000,
	};

	while (nanosleep(&rest, &rest) && errno == EINTR)
		;
}

static void split_lock(void)
{
	asm volatile("lock incl (%0)" : : "r" (lines + 62) : "memory");
}

static void result(bool ok, const char *what)
{
	printf("%sok %d %s\n", ok ? "" : "not ", ++tests, what);
	failures += !ok;
}

static void skip(const char *what, const char *why)
{
	printf("ok %d %s # SKIP %s\n", ++tests, what, why);
}

static void on_cpu(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void ignore(int sig)
{
}

static void signal_every(int us, void (*handler)(int))
{
	struct itimerval timer = {
		.it_interval = { .tv_sec = 0, .tv_usec = us },
		.it_value = { .tv_sec = 0, .tv_usec = us },
	};
	struct sigaction action = { .sa_handler = handler };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static pid_t start(void (*task)(void))
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child < 0) {
		printf("Bail out! cannot fork: %s\n", strerror(errno));
		exit(KSFT_FAIL);
	}
	if (!child) {
		on_cpu(0);
		task();
		_exit(0);
	}
	return child;
}

static void stop(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

/* Whether the task ended well, and in time. */
static bool ends(void (*task)(void))
{
	pid_t child = start(task);
	double begin = now_ms();
	int status;

	while (now_ms() - begin < PATIENCE_MS) {
		if (waitpid(child, &status, WNOHANG) == child)
			return WIFEXITED(status) && !WEXITSTATUS(status);
		sleep_ms(5);
	}
	stop(child);
	return false;
}

static void split_forever(void)
{
	on_cpu(sysconf(_SC_NPROCESSORS_ONLN) - 1);
	for (;;)
		split_lock();
}

static void start_neighbours(pid_t *neighbours, int count)
{
	for (int i = 0; i < count; i++)
		neighbours[i] = start(split_forever);
	sleep_ms(5 * PUNISHMENT_MS);
}

static void stop_neighbours(pid_t *neighbours, int count)
{
	for (int i = 0; i < count; i++)
		stop(neighbours[i]);
}

static void interrupted_program(void)
{
	signal_every(SIGNAL_US, ignore);
	split_lock();
}

/* lock add dword [0x203e], 1; hlt */
static const uint8_t guest_code[] = { 0xf0, 0x66, 0x83, 0x06, 0x3e, 0x20, 0x01, 0xf4 };

static void interrupted_vcpu(void)
{
	struct kvm_userspace_memory_region region = { .memory_size = 0x4000 };
	struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };
	int kvm, vm, vcpu, size;
	struct kvm_sregs sregs;
	struct kvm_run *run;
	uint8_t *memory;

	memory = mmap(NULL, region.memory_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memcpy(memory + regs.rip, guest_code, sizeof(guest_code));
	region.userspace_addr = (uintptr_t)memory;

	kvm = open("/dev/kvm", O_RDWR);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED || ioctl(vcpu, KVM_GET_SREGS, &sregs))
		_exit(1);
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	ioctl(vcpu, KVM_SET_SREGS, &sregs);
	ioctl(vcpu, KVM_SET_REGS, &regs);

	signal_every(SIGNAL_US, ignore);
	do {
		if (ioctl(vcpu, KVM_RUN, 0) && errno != EINTR)
			_exit(1);
	} while (run->exit_reason == KVM_EXIT_INTR);
	_exit(run->exit_reason != KVM_EXIT_HLT);
}

/* How many split locks a task gets done in a while. */
static long rate(int signal_us)
{
	long *count = mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long done = 0;
	pid_t child;

	*count = 0;
	fflush(stdout);
	child = fork();
	if (!child) {
		on_cpu(0);
		if (signal_us)
			signal_every(signal_us, ignore);
		for (;;) {
			split_lock();
			__atomic_store_n(count, ++done, __ATOMIC_RELAXED);
		}
	}
	sleep_ms(600);
	stop(child);
	done = *count;
	munmap(count, sizeof(*count));
	return done;
}

static bool signals_gain_nothing(void)
{
	static const int signals_us[] = { 100, 1000, 4000 };
	long honest = rate(0);

	for (size_t i = 0; i < sizeof(signals_us) / sizeof(*signals_us); i++) {
		long got = rate(signals_us[i]);

		printf("# signals every %d us: %ld split locks, %ld without\n",
		       signals_us[i], got, honest);
		if (got > honest + honest / 4)
			return false;
	}
	return true;
}

static sigjmp_buf away;

static void go_away(int sig)
{
	siglongjmp(away, 1);
}

/*
 * Leaves its split lock by a signal, and does other things for longer than
 * the punishment. What it has served then counts for one split lock of its
 * own and not for those of its children.
 */
static bool children_serve_themselves(void)
{
	signal_every(SIGNAL_US, go_away);
	if (!sigsetjmp(away, 1))
		split_lock();
	signal_every(0, ignore);
	sleep_ms(3 * PUNISHMENT_MS);

	for (int i = 0; i < 3; i++) {
		double begin, took;

		/* Until no window of an earlier one is open. */
		sleep_ms(50);
		begin = now_ms();
		waitpid(start(split_lock), NULL, 0);
		took = now_ms() - begin;
		if (took < PUNISHMENT_MS) {
			printf("# a child's split lock took %.1f ms\n", took);
			return false;
		}
	}
	return true;
}

static int by_size(const void *a, const void *b)
{
	double x = *(double *)a, y = *(double *)b;

	return (x > y) - (x < y);
}

static bool kill_is_prompt(void)
{
	pid_t neighbours[2 * NEIGHBOURS];
	double took[7];

	start_neighbours(neighbours, 2 * NEIGHBOURS);
	for (int i = 0; i < 7; i++) {
		pid_t child = start(split_forever);

		sleep_ms(3 * PUNISHMENT_MS + i);
		took[i] = now_ms();
		stop(child);
		took[i] = now_ms() - took[i];
	}
	stop_neighbours(neighbours, 2 * NEIGHBOURS);
	qsort(took, 7, sizeof(*took), by_size);
	printf("# killed after %.1f ms in the median, %.1f at most\n", took[3], took[6]);
	return took[3] < PUNISHMENT_MS;
}

static bool punishes(void)
{
	double begin = now_ms();
	char on = '0';
	int sysctl;

	sysctl = open("/proc/sys/kernel/split_lock_mitigate", O_RDONLY);
	if (sysctl < 0 || read(sysctl, &on, 1) != 1 || on == '0')
		return false;
	close(sysctl);
	split_lock();
	if (now_ms() - begin < PUNISHMENT_MS)
		return false;
	/* Until its window is closed again. */
	sleep_ms(50);
	return true;
}

int main(void)
{
	pid_t neighbours[NEIGHBOURS];

	printf("TAP version 13\n");
	if (!punishes()) {
		printf("1..0 # SKIP split locks are not detected, or not punished\n");
		return KSFT_SKIP;
	}
	printf("1..%d\n", TESTS);

	result(ends(interrupted_program), "program with a 1 ms timer gets past a split lock");
	if (access("/dev/kvm", R_OK | W_OK))
		skip("vCPU with a 1 ms timer gets past a split lock", "no /dev/kvm");
	else
		result(ends(interrupted_vcpu), "vCPU with a 1 ms timer gets past a split lock");

	start_neighbours(neighbours, NEIGHBOURS);
	result(ends(interrupted_program), "program with a 1 ms timer, beside four others");
	if (access("/dev/kvm", R_OK | W_OK))
		skip("vCPU with a 1 ms timer, beside four others", "no /dev/kvm");
	else
		result(ends(interrupted_vcpu), "vCPU with a 1 ms timer, beside four others");
	stop_neighbours(neighbours, NEIGHBOURS);

	result(signals_gain_nothing(), "signals gain no split locks");
	result(children_serve_themselves(), "long sleeper's children are punished");
	result(kill_is_prompt(), "SIGKILL does not wait for the punishment");

	printf("# Totals: pass:%d fail:%d\n", tests - failures, failures);
	return failures ? KSFT_FAIL : KSFT_PASS;
}
