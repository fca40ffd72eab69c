//! Several vCPUs in one VM.

use super::*;
use std::thread;

#[test]
fn two_vcpus_run_at_once_and_each_in_its_own_memory() {
    let Some(kvm) = kvm() else { return };
    let mut vm = Vm::new(&kvm).unwrap();
    let mut bystander = vm.add_vcpu(&guest("aligned"), Level::Cpl3).unwrap();
    let mut crossing = vm.add_vcpu(&guest("none"), Level::Cpl3).unwrap();
    let (aligned, crossed) = thread::scope(|scope| {
        let aligned = scope.spawn(|| turns_in(&mut bystander, 100).unwrap());
        let crossed = turns_in(&mut crossing, 100).unwrap();
        (aligned.join().unwrap(), crossed)
    });
    assert!(aligned > 1000 && crossed > 1000, "{aligned} {crossed}");
    let operand = 0x3_0800 + 60;
    assert_eq!(
        crossing.slot.read(operand),
        Some((1_u64 << 44).to_le_bytes())
    );
    assert_eq!(bystander.slot.read(operand), Some([0; 8]));
}

#[test]
fn a_vm_has_as_many_vcpus_as_kvm_gives_it_and_then_says_so() {
    let Some(kvm) = kvm() else { return };
    let mut vm = Vm::new(&kvm).unwrap();
    let limit = kvm.get_max_vcpus().min(64);
    let mut all: Vec<Vcpu> = (0..limit)
        .map(|_| vm.add_vcpu(&guest("aligned"), Level::Cpl3).unwrap())
        .collect();
    let error = vm.add_vcpu(&guest("aligned"), Level::Cpl3).unwrap_err();
    assert!(
        error.to_string().contains(&format!("{limit} vCPUs")),
        "{error}"
    );
    assert!(turns_in(all.last_mut().unwrap(), 20).unwrap() > 1000);
}
