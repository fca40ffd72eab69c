// SPDX-License-Identifier: MIT OR Apache-2.0
#include "bochs.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "cpu/svm.h"
#include "gui/siminterface.h"
#include "param_names.h"
#include "options.h"
#include "workarounds.h"
#include <stdlib.h>

namespace splitlock {

void hide_what_is_not_emulated(Bit32u function, cpuid_function_t *leaf)
{
  switch (function) {
  case 6: // Thermal MSRs, APERF/MPERF and HWP are announced and not there. The timer that always runs (bit 2) is.
    leaf->eax &= 4;
    leaf->ebx = leaf->ecx = 0;
    break;
  case 0xa: // Neither are the counters of the performance monitor.
  case 0x16: // The model's own frequencies, which are not that of this TSC.
    leaf->eax = leaf->ebx = leaf->ecx = leaf->edx = 0;
    break;
  case 0x8000001f: // The Ryzen announces memory encryption without the MSR that says whether it is on.
    leaf->eax = leaf->ebx = leaf->ecx = leaf->edx = 0;
    break;
  case 0x15: // The TSC runs at `ips` Hz. Said here, no kernel has to measure it, with another result each time.
    leaf->eax = leaf->ebx = 1;
    leaf->ecx = SIM->get_param_num(BXPN_IPS)->get();
    leaf->edx = 0;
    break;
  }
}

// Bochs seeds them from the wall clock, and no two runs would be the same. It does so for each CPU, so this does, too.
void seed_random_numbers() { srand(options.seed); }

// Bochs looks which events are masked while a VM entry is under way, before the CPU counts as being in the guest. With
// the guest's IF clear, external interrupts would then not exit. So it has to look again. For SVM that is not enough: it
// leaves masked what the host's IF should unmask.
void evaluate_interrupt_mask_again(unsigned cpu)
{
#if BX_SUPPORT_VMX
  if (BX_CPU(cpu)->in_vmx_guest)
    BX_CPU(cpu)->handleInterruptMaskChange();
#endif
#if BX_SUPPORT_SVM
  if (BX_CPU(cpu)->in_svm_guest) {
    const VMCB_CACHE &vmcb = *BX_CPU(cpu)->vmcb;
    if (vmcb.ctrls.v_intr_masking && (vmcb.host_state.eflags & EFlagsIFMask))
      BX_CPU(cpu)->unmask_event(BX_EVENT_PENDING_INTR | BX_EVENT_PENDING_LAPIC_INTR);
  }
#endif
}

constexpr Bit32u MSR_MISC_ENABLE = 0x1a0;

// Read as zero, writes ignored: platform ID, microcode, C-state control, machine check without banks, thermal.
static bool is_zero(Bit32u index)
{
  return index == 0x17 || index == 0x8b || index == 0xe2 || (index >= 0x179 && index <= 0x17b) || index == 0x19b ||
         index == 0x1b2;
}

bool MissingMsrs::read(Bit32u index, Bit64u *value) const
{
  if (index == MSR_MISC_ENABLE) // kernels read it unguarded
    *value = misc_enable;
  else if (is_zero(index))
    *value = 0;
  else
    return false;
  return true;
}

bool MissingMsrs::write(Bit32u index, Bit64u value)
{
  if (index == MSR_MISC_ENABLE)
    misc_enable = value;
  return index == MSR_MISC_ENABLE || is_zero(index);
}

} // namespace splitlock
