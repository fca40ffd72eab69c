// SPDX-License-Identifier: MIT OR Apache-2.0
#include "bochs.h"
#include "cpu/cpu.h"
#include "pc_system.h"
#include "gui/siminterface.h"
#include "param_names.h"
#include "detector.h"
#include "journal.h"
#include "options.h"
#include <stdio.h>

namespace splitlock {

static FILE *file;

void open_journal()
{
  if (options.journal.empty())
    return;
  file = fopen(options.journal.c_str(), "w");
  if (!file)
    refuse("cannot write the journal " + options.journal);
}

static Bit32u ticks_per_second() { return (Bit32u)SIM->get_param_num(BXPN_IPS)->get(); }

Bit32u nanoseconds_to_ticks(unsigned ns) { return (Bit32u)((Bit64u)ns * ticks_per_second() / 1000000000); }

void begin_journal()
{
  if (file)
    fprintf(file, "{\"event\":\"begin\",\"format\":1,\"ticks_per_second\":%u,\"cpus\":%u}\n", ticks_per_second(),
            (unsigned)BX_SMP_PROCESSORS);
}

// With one CPU, Bochs tells its clock of instructions only now and then.
static Bit64u tick(unsigned cpu)
{
  Bit64u ticks = bx_pc_system.time_ticks();
  if (BX_SMP_PROCESSORS == 1)
    ticks += BX_CPU(cpu)->icount - BX_CPU(cpu)->icount_last_sync;
  return ticks;
}

// What all events have. `rip` is that of the instruction in execution.
static void begin_line(unsigned cpu, const char *event, bx_address rip)
{
  fprintf(file, "{\"event\":\"%s\",\"tick\":%llu,\"cpu\":%u,\"rip\":\"0x%llx\",\"guest\":%s", event,
          (unsigned long long)tick(cpu), cpu, (unsigned long long)rip, in_guest(cpu) ? "true" : "false");
}

void journal_access(unsigned cpu, const char *event, bx_address operand)
{
  if (!file)
    return;
  begin_line(cpu, event, BX_CPU(cpu)->prev_rip);
  fprintf(file, ",\"operand\":\"0x%llx\"}\n", (unsigned long long)operand);
}

// A trap: `rip` is that of the next instruction, where the kernel finds it.
void journal_trap(unsigned cpu)
{
  if (!file)
    return;
  begin_line(cpu, "db", BX_CPU(cpu)->get_instruction_pointer());
  fprintf(file, "}\n");
}

void journal_test_ctrl(unsigned cpu, Bit64u value)
{
  if (!file)
    return;
  begin_line(cpu, "test-ctrl", BX_CPU(cpu)->prev_rip);
  fprintf(file, ",\"value\":\"0x%llx\"}\n", (unsigned long long)value);
}

// The last line has the totals, so that a journal that was cut off can be told.
void end_journal()
{
  if (!file)
    return;
  Bit64u alignment_checks = 0, locks = 0, debug_exceptions = 0;
  for (const Cpu &cpu : cpus) {
    alignment_checks += cpu.alignment_checks;
    locks += cpu.locks;
    debug_exceptions += cpu.debug_exceptions;
  }
  fprintf(file, "{\"event\":\"end\",\"tick\":%llu,\"ac\":%llu,\"bus_locks\":%llu,\"db\":%llu}\n",
          (unsigned long long)tick(0), (unsigned long long)alignment_checks, (unsigned long long)locks,
          (unsigned long long)debug_exceptions);
  fclose(file);
  file = nullptr;
}

void cpu_ends(unsigned cpu)
{
  if (cpu == 0)
    end_journal();
}

} // namespace splitlock
