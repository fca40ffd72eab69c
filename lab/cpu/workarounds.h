// SPDX-License-Identifier: MIT OR Apache-2.0
// What Bochs 3.0 does otherwise than kernels expect. Each has its reason in workarounds.cc.
#pragma once

struct cpuid_function_t;

namespace splitlock {

void hide_what_is_not_emulated(Bit32u function, cpuid_function_t *leaf);
void seed_random_numbers();
void evaluate_interrupt_mask_again(unsigned cpu);

// MSRs that kernels use without asking first.
class MissingMsrs {
  Bit64u misc_enable = 1;

public:
  bool read(Bit32u index, Bit64u *value) const;
  bool write(Bit32u index, Bit64u value);
};

} // namespace splitlock
