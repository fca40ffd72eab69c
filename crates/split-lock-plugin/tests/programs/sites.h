/* Twelve kinds of split locks, and as many that just do not split. Each function does one instruction `turns` times; the
   one in `splits` has its operand across the end of a cache line, its twin before or behind it. */
#ifndef SITES_H
#define SITES_H

#include <stdint.h>

#define LINE 64
#define PAGE 4096

#define REPEAT(name, text, ...)                                             \
    __attribute__((noinline)) void name(char *at, long turns)               \
    {                                                                       \
        while (turns-- > 0)                                                 \
            __asm__ volatile(text : : __VA_ARGS__ : "memory", "cc");        \
    }

#endif
