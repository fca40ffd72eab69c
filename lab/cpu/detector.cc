// SPDX-License-Identifier: MIT OR Apache-2.0
// An access is a locked one if its instruction has the LOCK prefix or is XCHG with memory. It splits if its operand
// crosses a line of 64 bytes. No operand is decoded: Bochs says where the access is, bit offsets included.
#include "bochs.h"
#include "cpu/cpu.h"
#include "pc_system.h"
#include "cpu/decoder/ia_opcodes.h"
#include "detector.h"
#include "journal.h"
#include "options.h"
#include "topology.h"

namespace splitlock {

bool watches_locked_accesses;
const bxInstruction_c *current_instruction[MAX_CPUS];
Cpu cpus[MAX_CPUS];

static Bit64u test_ctrl_of_core[MAX_CPUS];

Bit64u test_ctrl(unsigned cpu) { return test_ctrl_of_core[core_of(cpu)]; }

void set_test_ctrl(unsigned cpu, Bit64u value)
{
  test_ctrl_of_core[core_of(cpu)] = value;
  rearm();
}

void rearm()
{
  bool armed = options.bus_lock_ns != 0 || options.journal_locks;
  for (unsigned n = 0; n < (unsigned)BX_SMP_PROCESSORS; n++)
    armed |= cpus[n].raises_db || (test_ctrl(n) & TEST_CTRL_SPLIT_LOCK);
  watches_locked_accesses = armed;
}

bool in_guest(unsigned cpu)
{
  bool guest = false;
#if BX_SUPPORT_VMX
  guest |= BX_CPU(cpu)->in_vmx_guest;
#endif
#if BX_SUPPORT_SVM
  guest |= BX_CPU(cpu)->in_svm_guest;
#endif
  return guest;
}

void cpu_reset(unsigned cpu, bool hardware)
{
  if (!hardware)
    return;
  cpus[cpu].raises_db = false;
  cpus[cpu].debugctl = 0;
  set_test_ctrl(cpu, 0);
}

static bool locks(const bxInstruction_c *instruction)
{
  if (instruction->getLock())
    return true;
  unsigned opcode = instruction->getIaOpcode();
  return opcode == BX_IA_XCHG_EwGw || opcode == BX_IA_XCHG_EdGd || opcode == BX_IA_XCHG_EqGq;
}

// Whether this completes an operand that crosses a line. The first part of one that crosses a page is remembered.
static bool splits(unsigned cpu, bx_address linear, unsigned len)
{
  if ((linear & 63) + len > 64)
    return true;
  Cpu &self = cpus[cpu];
  Bit64u icount = BX_CPU(cpu)->icount;
  bool second = (linear & 0xfff) == 0 && self.first_part_end == linear && self.first_part_icount == icount;
  self.first_part_end = 0;
  if (!second && ((linear + len) & 0xfff) == 0) {
    self.first_part_end = linear + len;
    self.first_part_icount = icount;
  }
  return second;
}

void read_modify_write(unsigned cpu, bx_address linear, unsigned len)
{
  const bxInstruction_c *instruction = current_instruction[cpu];
  if (!instruction || !locks(instruction) || !splits(cpu, linear, len))
    return;
  Cpu &self = cpus[cpu];
  if (test_ctrl(cpu) & TEST_CTRL_SPLIT_LOCK) {
    self.alignment_checks++;
    journal_access(cpu, "ac", linear);
    BX_CPU(cpu)->exception(BX_AC_EXCEPTION, 0); // does not return; leaves a VMX guest if its VMM asked for that
  }
  self.locks++;
  if (options.journal_locks)
    journal_access(cpu, "bus-lock", linear);
  // Nothing else happens on this CPU meanwhile. Bochs has one clock, so with several CPUs the others stand still, too.
  if (options.bus_lock_ns)
    bx_pc_system.tickn(nanoseconds_to_ticks(options.bus_lock_ns));
  if (self.raises_db && BX_CPU(cpu)->sregs[BX_SEG_REG_CS].selector.rpl > 0 && !in_guest(cpu)) {
    self.bus_lock = true;
    after_instruction[cpu] |= AFTER_BUS_LOCK;
  }
}

} // namespace splitlock
