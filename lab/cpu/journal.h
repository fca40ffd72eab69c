// SPDX-License-Identifier: MIT OR Apache-2.0
// The CPU's own account: a file of JSON lines. README.md has the format, lab/src/cpu/journal.rs reads it.
#pragma once

namespace splitlock {

void open_journal();
void begin_journal();
void journal_access(unsigned cpu, const char *event, bx_address operand);
void journal_trap(unsigned cpu);
void journal_test_ctrl(unsigned cpu, Bit64u value);
void end_journal();

Bit32u nanoseconds_to_ticks(unsigned ns);

} // namespace splitlock
