/* sites TURNS THREADS [CHILD]: every thread does every instruction TURNS times; CHILD is executed by the way. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sites.h"

void split_in_library(char *at, long turns);
void near_in_library(char *at, long turns);

REPEAT(split_inc, "lock incl (%0)", "r"(at))
REPEAT(near_inc, "lock incl (%0)", "r"(at))
REPEAT(split_xadd, "lock xaddw %%ax, (%0)", "r"(at), "a"(1))
REPEAT(near_xadd, "lock xaddw %%ax, (%0)", "r"(at), "a"(1))
REPEAT(split_xchg, "xchgl %%eax, (%0)", "r"(at), "a"(1))
REPEAT(near_xchg, "xchgl %%eax, (%0)", "r"(at), "a"(1))
/* Its operand is where the bit is: 64 bytes behind the address. */
REPEAT(split_bts, "lock btsl %1, (%0)", "r"(at - LINE), "r"(8 * LINE))
REPEAT(near_bts, "lock btsl %1, (%0)", "r"(at - LINE), "r"(8 * LINE))
/* The first one fails to exchange, and still writes. */
REPEAT(split_cmpxchg, "lock cmpxchgl %1, (%0)", "r"(at), "r"(1), "a"(-1))
REPEAT(near_cmpxchg, "lock cmpxchgl %1, (%0)", "r"(at), "r"(1), "a"(-1))
REPEAT(split_cmpxchg8b, "lock cmpxchg8b (%0)", "r"(at), "a"(0), "d"(0), "b"(0), "c"(0))
REPEAT(near_cmpxchg8b, "lock cmpxchg8b (%0)", "r"(at), "a"(0), "d"(0), "b"(0), "c"(0))
REPEAT(split_page, "lock addl $1, (%0)", "r"(at))
REPEAT(near_page, "lock addl $1, (%0)", "r"(at))
REPEAT(split_stack, "lock decl (%0)", "r"(at))
REPEAT(near_stack, "lock decl (%0)", "r"(at))
REPEAT(split_heap, "lock negl (%0)", "r"(at))
REPEAT(near_heap, "lock negl (%0)", "r"(at))
#ifdef __x86_64__
REPEAT(split_wide, "lock xaddq %%rax, (%0)", "r"(at), "a"(1L))
REPEAT(near_wide, "lock xaddq %%rax, (%0)", "r"(at), "a"(1L))
/* Across a line it would fault, so it is always near. */
REPEAT(near_cmpxchg16b, "lock cmpxchg16b (%0)", "r"(at), "a"(0), "d"(0), "b"(0), "c"(0))
#else
REPEAT(split_wide, "lock subl $1, (%0)", "r"(at))
REPEAT(near_wide, "lock subl $1, (%0)", "r"(at))
#endif

_Alignas(PAGE) char global[2 * PAGE];
static long turns;

#ifdef __x86_64__
/* lock inc dword ptr [rdi]; dec rsi; jnz back; ret */
static const unsigned char code[] = {0xf0, 0xff, 0x07, 0x48, 0xff, 0xce, 0x75, 0xf8, 0xc3};
#else
/* mov eax,[esp+4]; mov ecx,[esp+8]; lock inc dword ptr [eax]; dec ecx; jnz back; ret */
static const unsigned char code[] = {0x8b, 0x44, 0x24, 4, 0x8b, 0x4c, 0x24, 8, 0xf0, 0xff, 0x00, 0x49, 0x75, 0xfa, 0xc3};
#endif
static void (*generated[2])(char *, long);

static void make_code(void)
{
    /* Where nothing else is, so that its address is the same every time. */
    char *page = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        abort();
    for (int n = 0; n < 2; n++) {
        memcpy(page + 512 * n, code, sizeof code);
        generated[n] = (void (*)(char *, long))(page + 512 * n);
    }
}

static void *everything(void *unused)
{
    char *line = global;
    _Alignas(LINE) char stack[2 * LINE];
    char *heap = malloc(4 * LINE);
    char *heap_line = (char *)(((uintptr_t)heap + LINE - 1) & ~(uintptr_t)(LINE - 1));

    split_inc(line + 62, turns);
    near_inc(line + 60, turns);
    split_xadd(line + 63, turns);
    near_xadd(line + 62, turns);
    split_xchg(line + 61, turns);
    near_xchg(line + 64, turns);
    split_bts(line + 2 * LINE - 3, turns);
    near_bts(line + 2 * LINE - 4, turns);
    split_cmpxchg(line + 62, turns);
    near_cmpxchg(line + 59, turns);
    split_cmpxchg8b(line + 60, turns);
    near_cmpxchg8b(line + 56, turns);
    split_page(line + PAGE - 2, turns);
    near_page(line + PAGE - 4, turns);
    split_stack(stack + 62, turns);
    near_stack(stack + 60, turns);
    split_heap(heap_line + 63, turns);
    near_heap(heap_line + 60, turns);
    split_wide(line + 61, turns);
    near_wide(line + 56, turns);
    split_in_library(line + 62, turns);
    near_in_library(line + 60, turns);
    generated[0](line + 62, turns);
    generated[1](line + 60, turns);
#ifdef __x86_64__
    near_cmpxchg16b(line + 48, turns);
#endif
    free(heap);
    return unused;
}

int main(int count, char **arguments)
{
    if (count < 3)
        return 64;
    turns = atol(arguments[1]);
    int threads = atoi(arguments[2]);
    make_code();
    if (count > 3) {
        pid_t child = fork();
        if (child == 0) {
            execvp(arguments[3], arguments + 3);
            _exit(127);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
    }
    pthread_t others[1024];
    for (int n = 1; n < threads; n++)
        if (pthread_create(&others[n], NULL, everything, NULL) != 0)
            abort();
    everything(NULL);
    for (int n = 1; n < threads; n++)
        pthread_join(others[n], NULL);
    printf("%d threads did %ld turns\n", threads, turns);
    return 0;
}
