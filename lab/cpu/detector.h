// SPDX-License-Identifier: MIT OR Apache-2.0
// Which locked accesses split, and what the CPU then does.
#pragma once

namespace splitlock {

struct Cpu {
  bool raises_db = false;          // DEBUGCTL bit 2
  bool bus_lock = false;           // in the instruction in execution: #DB comes after it
  bool dr6_says_bus_lock = false;  // DR6 bit 11 (active low) is clear
  bx_address first_part_end = 0;   // of an operand that crosses a page: where its second part begins
  Bit64u first_part_icount = 0;    // in the same instruction
  Bit64u debugctl = 0;
  Bit64u alignment_checks = 0, locks = 0, debug_exceptions = 0;
};

extern Cpu cpus[MAX_CPUS];

// TEST_CTRL is one register for all threads of a core.
Bit64u test_ctrl(unsigned cpu);
void set_test_ctrl(unsigned cpu, Bit64u value);
constexpr Bit64u TEST_CTRL_SPLIT_LOCK = 1u << 29;

// After a change of what has to be detected.
void rearm();

// A VMX or SVM guest runs.
bool in_guest(unsigned cpu);

} // namespace splitlock
