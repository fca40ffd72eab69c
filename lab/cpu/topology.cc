// SPDX-License-Identifier: MIT OR Apache-2.0
// CPUID says which threads are one core, from the counts in Bochs' settings. Bochs 3.0 says it for one processor of
// several cores only in part: a core of one thread has a bit for threads in its APIC ID, cores do not count those bits,
// and each CPU of the Ryzen has APIC ID 0 and is a thread of the same core.
#include "bochs.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "gui/siminterface.h"
#include "param_names.h"
#include "topology.h"

namespace splitlock {

static unsigned threads_of_a_core()
{
#if BX_SUPPORT_SMP
  static const unsigned threads = SIM->get_param_num(BXPN_CPU_NTHREADS)->get();
  return threads;
#else
  return 1;
#endif
}

unsigned core_of(unsigned cpu) { return cpu / threads_of_a_core(); }

// Of an APIC ID, to tell so many apart.
static unsigned bits_for(unsigned count)
{
  unsigned bits = 0;
  while ((1u << bits) < count)
    bits++;
  return bits;
}

// Levels 1 and 2 of the caches are a core's own. Intel and AMD say so in the same bits.
static void describe_cache(cpuid_function_t *leaf)
{
  Bit32u level = leaf->eax >> 5 & 7;
  if (level == 1 || level == 2)
    leaf->eax = (leaf->eax & ~(0xfffu << 14)) | (threads_of_a_core() - 1) << 14;
}

void describe_intel_topology(unsigned cpu, Bit32u function, Bit32u subfunction, cpuid_function_t *leaf)
{
  if (function == 4)
    describe_cache(leaf);
  if (function == 0xb) { // of each level: its bits in an APIC ID with those of lower levels, and its CPUs
    constexpr Bit32u THREAD = 1 << 8, CORE = 2 << 8;
    const Bit32u threads = threads_of_a_core(), all = BX_SMP_PROCESSORS;
    leaf->eax = subfunction == 0 ? bits_for(threads) : subfunction == 1 ? bits_for(all) : 0;
    leaf->ebx = subfunction == 0 ? threads : subfunction == 1 ? all : 0;
    leaf->ecx = (subfunction & 0xff) | (subfunction == 0 ? THREAD : subfunction == 1 ? CORE : 0);
    leaf->edx = BX_CPU(cpu)->get_apic_id();
  }
}

void describe_amd_topology(unsigned cpu, Bit32u function, cpuid_function_t *leaf)
{
  if (function == 0x8000001d)
    describe_cache(leaf);
  if (function == 0x80000008) // its low byte: threads of the processor, less one
    leaf->ecx = (leaf->ecx & ~0xffu) | (BX_SMP_PROCESSORS - 1);
  if (function == 0x8000001e) {
    leaf->eax = BX_CPU(cpu)->get_apic_id();
    leaf->ebx = (threads_of_a_core() - 1) << 8 | core_of(cpu);
  }
}

} // namespace splitlock
