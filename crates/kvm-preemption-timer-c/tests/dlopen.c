/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The signal reaches a thread that was there before the library was loaded, and that has nothing to do
 * with it. The handler must not allocate there, as the first access to a variable of the library's that
 * each thread has would.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kvm_preemption_timer.h"

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static atomic_int is_watched, allocations;
static pthread_barrier_t is_started, is_bound;

void *malloc(size_t bytes)
{
	allocations += is_watched;
	return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
	allocations += is_watched;
	return __libc_calloc(count, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
	allocations += is_watched;
	return __libc_memalign(alignment, bytes);
}

static void *signal_oneself(void *unused)
{
	(void)unused;
	pthread_barrier_wait(&is_started);
	pthread_barrier_wait(&is_bound);
	is_watched = 1;
	raise(SIGSTKFLT);
	is_watched = 0;
	return NULL;
}

int main(int argc, char **argv)
{
	int (*bind)(int, const struct kpt_config *, kpt_binding **);
	FILE *run_page = tmpfile();
	kpt_binding *binding;
	pthread_t thread;
	void *library;

	/* Any file that can be mapped stands for the run page. */
	if (argc != 2 || run_page == NULL || ftruncate(fileno(run_page), 4096) != 0)
		return 2;
	pthread_barrier_init(&is_started, NULL, 2);
	pthread_barrier_init(&is_bound, NULL, 2);
	pthread_create(&thread, NULL, signal_oneself, NULL);
	pthread_barrier_wait(&is_started);

	library = dlopen(argv[1], RTLD_NOW);
	if (library == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 2;
	}
	*(void **)&bind = dlsym(library, "kpt_bind");
	if (bind == NULL || bind(fileno(run_page), NULL, &binding) < 0)
		return 2;
	pthread_barrier_wait(&is_bound);
	pthread_join(thread, NULL);
	printf("%d allocations\n", allocations);
	return 0;
}
