// SPDX-License-Identifier: MIT OR Apache-2.0
// Which logical CPUs are one core.
#pragma once

struct cpuid_function_t;

namespace splitlock {

unsigned core_of(unsigned cpu);
void describe_intel_topology(unsigned cpu, Bit32u function, Bit32u subfunction, cpuid_function_t *leaf);
void describe_amd_topology(unsigned cpu, Bit32u function, cpuid_function_t *leaf);

} // namespace splitlock
