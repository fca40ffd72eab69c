//! Whether the CPU is hardware, or the lab's CPU in software: it says so itself.

use std::arch::x86_64::__cpuid;

/// What measures here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// A physical CPU, or a virtual one that runs on it.
    Hardware,
    /// The CPU of `cargo lab`, an emulator that counts instructions instead of taking time.
    Software,
}

/// The first words of the brand string of the CPU in software; `lab/cpu/model.cc` has them too.
const SOFTWARE: &str = "Splitlock CPU in software";

impl Cpu {
    /// What a result calls a host as it is, with this CPU.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Cpu::Hardware => "native",
            Cpu::Software => "CPU emulated",
        }
    }

    /// The CPU of a host that a result calls so; `None` where the host was emulated or modelled.
    #[must_use]
    pub fn of_host(name: &str) -> Option<Self> {
        [Cpu::Hardware, Cpu::Software]
            .into_iter()
            .find(|cpu| cpu.name() == name)
    }

    /// The CPU that this runs on.
    #[must_use]
    pub fn of_this_host() -> Self {
        Self::by_brand(&brand())
    }

    fn by_brand(brand: &[u8]) -> Self {
        match brand.starts_with(SOFTWARE.as_bytes()) {
            true => Cpu::Software,
            false => Cpu::Hardware,
        }
    }
}

/// CPUID's processor brand string; empty on a CPU that has none.
fn brand() -> Vec<u8> {
    const LAST_EXTENDED_LEAF: u32 = 0x8000_0000;
    const BRAND: [u32; 3] = [0x8000_0002, 0x8000_0003, 0x8000_0004];
    if __cpuid(LAST_EXTENDED_LEAF).eax < BRAND[2] {
        return Vec::new();
    }
    let parts = BRAND.map(__cpuid);
    let words = parts
        .iter()
        .flat_map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx]);
    words.flat_map(u32::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lab_is_in_software() {
        let cpu = |brand: &str| Cpu::by_brand(brand.as_bytes());
        assert_eq!(
            cpu("Splitlock CPU in software (Bochs tigerlake)\0"),
            Cpu::Software
        );
        for other in [
            "",
            "11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz",
            "QEMU Virtual CPU version 2.5+",
            "Splitlock CPU",
        ] {
            assert_eq!(cpu(other), Cpu::Hardware, "{other}");
        }
    }

    #[test]
    fn host_as_it_is_is_told_from_a_kernel() {
        assert_eq!(Cpu::of_host("native"), Some(Cpu::Hardware));
        assert_eq!(Cpu::of_host("CPU emulated"), Some(Cpu::Software));
        assert_eq!(Cpu::of_host("6.6,hz=250"), None);
    }

    #[test]
    fn brand_is_the_model_name_that_the_kernel_shows() {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap();
        let name = cpuinfo.lines().find(|line| line.starts_with("model name"));
        let (_, name) = name.and_then(|line| line.split_once(':')).unwrap();
        let brand = brand();
        let brand = String::from_utf8_lossy(&brand);
        assert_eq!(brand.trim_matches(['\0', ' ']), name.trim());
    }

    #[test]
    fn words_are_those_of_the_lab() {
        let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../lab/cpu/model.cc");
        let model = std::fs::read_to_string(model).unwrap();
        assert!(model.contains(&format!("\"{SOFTWARE} (")));
    }
}
