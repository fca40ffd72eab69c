// SPDX-License-Identifier: MIT OR Apache-2.0
// CPUID bits and MSRs of detection, in front of any CPU model that Bochs has.
#include "bochs.h"
#include "cpu/cpu.h"
#include "cpu/cpuid.h"
#include "detector.h"
#include "journal.h"
#include "limits.h"
#include "options.h"
#include "topology.h"
#include "workarounds.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace splitlock {

enum : Bit32u { MSR_TEST_CTRL = 0x33, MSR_CORE_CAPABILITIES = 0xcf, MSR_DEBUGCTL = 0x1d9 };

constexpr Bit64u CORE_CAPABILITIES_SPLIT_LOCK = 1 << 5;
constexpr Bit64u DEBUGCTL_BUS_LOCK = 1 << 2;

class DetectingModel : public bx_cpuid_t {
  bx_cpuid_t *model;
  MissingMsrs missing;
  bool is_amd;

public:
  DetectingModel(BX_CPU_C *cpu, bx_cpuid_t *model) : bx_cpuid_t(cpu), model(model)
  {
    model->get_cpu_extensions(ia_extensions_bitmask);
    cpuid_function_t leaf;
    model->get_cpuid_leaf(0, 0, &leaf);
    is_amd = leaf.ebx == 0x68747541; // "Auth"
#if BX_SUPPORT_VMX
    vmcs_map = *model->get_vmcs();
#endif
  }
  virtual ~DetectingModel() { delete model; }
  virtual const char *get_name(void) const { return model->get_name(); }
#if BX_SUPPORT_VMX
  virtual Bit32u get_vmx_extensions_bitmask(void) const { return model->get_vmx_extensions_bitmask(); }
#endif
#if BX_SUPPORT_SVM
  virtual Bit32u get_svm_extensions_bitmask(void) const { return model->get_svm_extensions_bitmask(); }
#endif
  virtual void dump_cpuid(void) const { model->dump_cpuid(); }

  virtual void get_cpuid_leaf(Bit32u function, Bit32u subfunction, cpuid_function_t *leaf) const
  {
    model->get_cpuid_leaf(function, subfunction, leaf);
    hide_what_is_not_emulated(function, leaf);
    if (is_amd)
      describe_amd_topology(cpu->which_cpu(), function, leaf);
    else
      describe_intel_topology(cpu->which_cpu(), function, subfunction, leaf);
    if (function == 7 && subfunction == 0) {
      constexpr Bit32u HAS_CORE_CAPABILITIES = 1u << 30, BUS_LOCK_DETECT = 1u << 24;
      leaf->edx = (leaf->edx & ~HAS_CORE_CAPABILITIES) | (options.split_lock_ac ? HAS_CORE_CAPABILITIES : 0);
      leaf->ecx = (leaf->ecx & ~BUS_LOCK_DETECT) | (options.bus_lock_db ? BUS_LOCK_DETECT : 0);
    }
    constexpr Bit32u BRAND = 0x80000002, BRAND_END = 0x80000005;
    if (function >= BRAND && function < BRAND_END)
      get_brand_part(function - BRAND, leaf);
  }

  // No number from this CPU is to be taken for one from hardware: programs know it by this name, which is also the
  // kernel's model name. crates/split-lock-repro/src/cpu.rs has the first words.
  void get_brand_part(Bit32u part, cpuid_function_t *leaf) const
  {
    char brand[48] = {};
    snprintf(brand, sizeof brand, "Splitlock CPU in software (Bochs %s)", model->get_name());
    Bit32u words[4];
    memcpy(words, brand + part * sizeof words, sizeof words);
    leaf->eax = words[0];
    leaf->ebx = words[1];
    leaf->ecx = words[2];
    leaf->edx = words[3];
  }

  virtual int rdmsr(Bit32u index, Bit64u *value)
  {
    unsigned n = cpu->which_cpu();
    if (options.split_lock_ac && index == MSR_CORE_CAPABILITIES)
      *value = CORE_CAPABILITIES_SPLIT_LOCK;
    else if (options.split_lock_ac && index == MSR_TEST_CTRL)
      *value = test_ctrl(n);
    else if (index == MSR_DEBUGCTL)
      *value = cpus[n].debugctl;
    else if (!missing.read(index, value))
      return model->rdmsr(index, value);
    return 1;
  }

  // 0: #GP.
  virtual int wrmsr(Bit32u index, Bit64u value)
  {
    unsigned n = cpu->which_cpu();
    if (options.split_lock_ac && index == MSR_CORE_CAPABILITIES)
      return 0;
    if (options.split_lock_ac && index == MSR_TEST_CTRL) {
      constexpr Bit64u DISABLE_LOCK = 1u << 31;
      if (value & ~(TEST_CTRL_SPLIT_LOCK | DISABLE_LOCK))
        return 0;
      journal_test_ctrl(n, value);
      set_test_ctrl(n, value);
      return 1;
    }
    if (index == MSR_DEBUGCTL) {
      if ((value & DEBUGCTL_BUS_LOCK) && !options.bus_lock_db)
        return 0;
      cpus[n].debugctl = value;
      cpus[n].raises_db = (value & DEBUGCTL_BUS_LOCK) != 0;
      rearm();
      return 1;
    }
    return missing.write(index, value) ? 1 : model->wrmsr(index, value);
  }
};

void cpu_made(unsigned cpu)
{
  if (cpu >= MAX_CPUS)
    refuse("at most " + std::to_string(MAX_CPUS) + " CPUs");
  BX_CPU(cpu)->cpuid = new DetectingModel(BX_CPU(cpu), BX_CPU(cpu)->cpuid);
  seed_random_numbers();
  if (cpu == 0) {
    begin_journal();
    begin_limits();
  }
  rearm();
}

} // namespace splitlock
