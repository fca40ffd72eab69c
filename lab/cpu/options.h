// SPDX-License-Identifier: MIT OR Apache-2.0
// What this CPU is to be: the words of the environment variable SPLITLOCK_CPU.
#pragma once
#include <string>

namespace splitlock {

struct Options {
  bool split_lock_ac = true;   // TEST_CTRL and IA32_CORE_CAPABILITIES exist
  bool bus_lock_db = false;    // DEBUGCTL bit 2 and its CPUID bit exist
  bool journal_locks = false;  // bus locks that are let through are journalled, too
  unsigned bus_lock_ns = 0;    // the time one takes
  unsigned seed = 1;           // of RDRAND and RDSEED
  unsigned limit_ms = 0;       // of guest time; 0: none
  std::string journal;         // files; empty: none
  std::string results;
};

extern Options options;

// Ends the program with an explanation and EXIT_UNUSABLE.
[[noreturn]] void refuse(const std::string &why);

enum { EXIT_UNUSABLE = 2, EXIT_GUEST_TIME = 3, EXIT_STOPPED = 4 };

} // namespace splitlock
