// SPDX-License-Identifier: MIT OR Apache-2.0
// The bus-lock #DB: a trap, so it comes after the instruction, for code at CPL 1 to 3 outside of guests. DR6 says so
// in bit 11, which is active low: clear means that a bus lock was the cause.
#include "bochs.h"
#include "cpu/cpu.h"
#include "cpu/decoder/ia_opcodes.h"
#include "detector.h"
#include "journal.h"
#include "workarounds.h"

namespace splitlock {

unsigned char after_instruction[MAX_CPUS];

constexpr Bit32u DR6_BUS_LOCK = 1u << 11;

static bool writes_dr6(const bxInstruction_c *instruction)
{
  unsigned opcode = instruction->getIaOpcode();
  return (opcode == BX_IA_MOV_DqRq || opcode == BX_IA_MOV_DdRd) && instruction->dst() == 6;
}

void after(unsigned cpu, const bxInstruction_c *instruction)
{
  Cpu &self = cpus[cpu];
  if (after_instruction[cpu] & AFTER_WORLD_SWITCH) {
    after_instruction[cpu] &= ~AFTER_WORLD_SWITCH;
    evaluate_interrupt_mask_again(cpu);
  }
  // Software sets the bit again: Bochs takes it for a reserved one and keeps it as it is.
  if (self.dr6_says_bus_lock && writes_dr6(instruction)) {
    BX_CPU(cpu)->dr6.val32 |= DR6_BUS_LOCK;
    self.dr6_says_bus_lock = false;
  }
  bool bus_lock = self.bus_lock;
  self.bus_lock = false;
  self.dr6_says_bus_lock |= bus_lock;
  if (!self.dr6_says_bus_lock)
    after_instruction[cpu] &= ~AFTER_BUS_LOCK;
  if (bus_lock) {
    self.debug_exceptions++;
    journal_trap(cpu);
    BX_CPU(cpu)->dr6.val32 &= ~DR6_BUS_LOCK;
    BX_CPU(cpu)->exception(BX_DB_EXCEPTION, 0); // does not return
  }
}

} // namespace splitlock
