// SPDX-License-Identifier: MIT OR Apache-2.0
// The hooks that Bochs compiles into its CPU. Only what is tested for every instruction or access stands here;
// everything else is a call. Every file of Bochs includes this one: it names no type of Bochs but this.
#pragma once
#if !BX_INSTRUMENTATION
#error "build Bochs with --enable-instrumentation=instrument/splitlock"
#endif

class bxInstruction_c;

namespace splitlock {

constexpr unsigned MAX_CPUS = 64;

// What is to be done after the instruction in execution: bits of after_instruction[cpu].
enum : unsigned char {
  AFTER_BUS_LOCK = 1,     // debug_trap.cc
  AFTER_WORLD_SWITCH = 2, // workarounds.cc
};

// Some CPU has to look at locked accesses.
extern bool watches_locked_accesses;
extern unsigned char after_instruction[MAX_CPUS];
extern const bxInstruction_c *current_instruction[MAX_CPUS];

// What is written to this I/O port goes to the file of results, byte by byte.
constexpr unsigned RESULTS_PORT = 0x800;

void start();                                                          // options.cc
void cpu_made(unsigned cpu);                                           // model.cc
void cpu_reset(unsigned cpu, bool hardware);                           // detector.cc
void cpu_ends(unsigned cpu);                                           // journal.cc
void read_modify_write(unsigned cpu, bx_address linear, unsigned len); // detector.cc
void after(unsigned cpu, const bxInstruction_c *instruction);          // debug_trap.cc
void result_byte(unsigned char byte);                                  // results.cc

} // namespace splitlock

#define BX_INSTR_INIT_ENV() splitlock::start()
#define BX_INSTR_EXIT_ENV()
#define BX_INSTR_INITIALIZE(cpu_id) splitlock::cpu_made(cpu_id)
#define BX_INSTR_EXIT(cpu_id) splitlock::cpu_ends(cpu_id)
#define BX_INSTR_RESET(cpu_id, type) splitlock::cpu_reset((cpu_id), (type) == BX_RESET_HARDWARE)
#define BX_INSTR_HLT(cpu_id)
#define BX_INSTR_MWAIT(cpu_id, addr, len, flags)
#define BX_INSTR_DEBUG_PROMPT()
#define BX_INSTR_DEBUG_CMD(cmd)
#define BX_INSTR_CNEAR_BRANCH_TAKEN(cpu_id, branch_eip, new_eip)
#define BX_INSTR_CNEAR_BRANCH_NOT_TAKEN(cpu_id, branch_eip)
#define BX_INSTR_UCNEAR_BRANCH(cpu_id, what, branch_eip, new_eip)
#define BX_INSTR_FAR_BRANCH(cpu_id, what, prev_cs, prev_eip, new_cs, new_eip)
#define BX_INSTR_OPCODE(cpu_id, i, opcode, len, is32, is64)
#define BX_INSTR_EXCEPTION(cpu_id, vector, error_code)
#define BX_INSTR_INTERRUPT(cpu_id, vector)
#define BX_INSTR_HWINTERRUPT(cpu_id, vector, cs, eip)
#define BX_INSTR_CLFLUSH(cpu_id, laddr, paddr)
#define BX_INSTR_CACHE_CNTRL(cpu_id, what)
#define BX_INSTR_TLB_CNTRL(cpu_id, what, new_cr3)                              \
  do {                                                                         \
    if ((what) == BX_INSTR_CONTEXT_SWITCH)                                     \
      splitlock::after_instruction[cpu_id] |= splitlock::AFTER_WORLD_SWITCH;   \
  } while (0)
#define BX_INSTR_PREFETCH_HINT(cpu_id, what, seg, offset)
#define BX_INSTR_BEFORE_EXECUTION(cpu_id, i)                                   \
  do {                                                                         \
    if (splitlock::watches_locked_accesses)                                    \
      splitlock::current_instruction[cpu_id] = (i);                            \
  } while (0)
#define BX_INSTR_AFTER_EXECUTION(cpu_id, i)                                    \
  do {                                                                         \
    if (splitlock::after_instruction[cpu_id])                                  \
      splitlock::after((cpu_id), (i));                                         \
  } while (0)
#define BX_INSTR_REPEAT_ITERATION(cpu_id, i)
// A read-modify-write is told after translation and read, before any write: the right moment for a fault. An operand
// that crosses a page is told in two parts, of which the first ends with its page and the second begins with one.
#define BX_INSTR_LIN_ACCESS(cpu_id, lin, phy, len, memtype, rw)                \
  do {                                                                         \
    if ((rw) == BX_RW && splitlock::watches_locked_accesses &&                 \
        (((unsigned)(lin) & 63) + (len) >= 64 || ((unsigned)(lin) & 0xfff) == 0)) \
      splitlock::read_modify_write((cpu_id), (lin), (len));                    \
  } while (0)
#define BX_INSTR_PHY_ACCESS(cpu_id, phy, len, memtype, rw)
#define BX_INSTR_INP(addr, len)
#define BX_INSTR_INP2(addr, len, val)
#define BX_INSTR_OUTP(addr, len, val)                                          \
  do {                                                                         \
    if ((addr) == splitlock::RESULTS_PORT)                                     \
      splitlock::result_byte((unsigned char)(val));                            \
  } while (0)
#define BX_INSTR_WRMSR(cpu_id, addr, value)
#define BX_INSTR_VMEXIT(cpu_id, reason, qualification)
