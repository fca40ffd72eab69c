/*
 * Splits a lock in a loop while signals come to it as they come to programs: from a timer of its own, from a profiler, or
 * from a runtime that preempts it. After some time it says how often it got round the loop.
 *
 *	timers MODE MS
 *
 * MODE: none, real:US (setitimer), monotonic:US (timer_create), thread-cpu:US (timer_create), or sysmon, which does what the
 * runtime of Go does to a goroutine that does not yield. A program built with -pg has the timer of gprof besides.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t turns;
static volatile uint64_t signals;
static pid_t splitter;
static int run_ms;
static int is_sysmon;

static _Alignas(64) unsigned char lines[128];

static void on_signal(int signal)
{
	(void)signal;
	signals++;
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ll + now.tv_nsec / 1000;
}

/* Looks every 10 ms; who has run for 10 ms since it was last seen to be preempted gets SIGURG. */
static void preempt(void)
{
	static uint64_t seen;
	static int64_t since;

	if (signals != seen || !since) {
		seen = signals;
		since = now_us();
	} else if (now_us() - since >= 10000) {
		syscall(SYS_tgkill, getpid(), splitter, SIGURG);
	}
}

static void *watch(void *unused)
{
	int64_t end = now_us() + run_ms * 1000ll;

	while (now_us() < end) {
		usleep(10000);
		if (is_sysmon)
			preempt();
	}
	printf("turns %llu signals %llu\n", (unsigned long long)turns, (unsigned long long)signals);
	fflush(stdout);
	_exit(0);
	return unused;
}

static int start_timer(const char *mode)
{
	const char *colon = strchr(mode, ':');
	long us = colon ? atol(colon + 1) : 0;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
	struct itimerspec every = {
		.it_interval = { us / 1000000, us % 1000000 * 1000 },
		.it_value = { us / 1000000, us % 1000000 * 1000 },
	};
	struct itimerval real = {
		.it_interval = { us / 1000000, us % 1000000 },
		.it_value = { us / 1000000, us % 1000000 },
	};
	timer_t timer;

	is_sysmon = !strcmp(mode, "sysmon");
	if (is_sysmon || !strcmp(mode, "none"))
		return 0;
	if (us <= 0)
		return -1;
	if (!strncmp(mode, "real:", 5))
		return setitimer(ITIMER_REAL, &real, NULL);
	if (!strncmp(mode, "monotonic:", 10)) {
		if (timer_create(CLOCK_MONOTONIC, &event, &timer))
			return -1;
	} else if (!strncmp(mode, "thread-cpu:", 11)) {
		if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer))
			return -1;
	} else {
		return -1;
	}
	return timer_settime(timer, 0, &every, NULL);
}

int main(int count, char **words)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	volatile uint64_t *operand = (void *)(lines + 60);
	sigset_t all, before;
	pthread_t watcher;

	if (count != 3 || (run_ms = atoi(words[2])) <= 0) {
		fprintf(stderr, "usage: timers MODE MS\n");
		return 2;
	}
	splitter = syscall(SYS_gettid);
	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGURG, &action, NULL);
	/* The other thread takes no signals. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&watcher, NULL, watch, NULL)) {
		fprintf(stderr, "timers: cannot start a thread\n");
		return 2;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (start_timer(words[1])) {
		fprintf(stderr, "timers: cannot start the timer of `%s`\n", words[1]);
		return 2;
	}
	for (;;) {
		__asm__ volatile("lock incq %0" : "+m"(*operand));
		turns++;
	}
}
