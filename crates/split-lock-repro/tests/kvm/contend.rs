//! Several vCPUs that count together on one word.

use super::*;
use std::thread;

use split_lock_repro::guest::{BuiltIn, Kind};

/// Everything that this vCPU has added to the word since its last reset: its turns, and one more if it
/// was stopped between the addition and the count of it.
fn added(vcpu: &Vcpu) -> u64 {
    let code = BuiltIn::new(Kind::Contend, None).unwrap().code();
    let addition = iced_x86::Decoder::new(64, code, 0).decode();
    let stopped_between =
        vcpu.fd.get_regs().unwrap().rip == guest("contend").load_address() + addition.len() as u64;
    vcpu.slot.turns(&vcpu.fd).unwrap() + u64::from(stopped_between)
}

fn word(vcpu: &Vcpu, guest: &str) -> u64 {
    let operand = guest.parse::<BuiltIn>().unwrap().operand();
    u64::from_le_bytes(vcpu.slot.read(operand.address).unwrap())
}

#[test]
fn no_addition_is_lost() {
    let Some(kvm) = kvm() else { return };
    for name in ["contend", "contend@0"] {
        let mut vm = Vm::new(&kvm).unwrap();
        let mut vcpus = [(); 2].map(|()| vm.add_vcpu(&guest(name), Level::Cpl3).unwrap());
        for _ in 0..3 {
            let before = word(&vcpus[0], name);
            thread::scope(|scope| {
                for vcpu in &mut vcpus {
                    scope.spawn(|| turns_in(vcpu, 100).unwrap());
                }
            });
            let [one, two] = [0, 1].map(|vcpu| added(&vcpus[vcpu]));
            for vcpu in &vcpus {
                assert_eq!(word(vcpu, name), before + one + two, "{name}: {one} {two}");
            }
            let progresses = name == "contend@0" || !detects_split_locks();
            assert!(one > 0 && two > 0 || !progresses, "{name}: {one} {two}");
        }
    }
}

#[test]
fn nothing_beside_the_word_is_touched() {
    let Some(kvm) = kvm() else { return };
    let mut vcpu = vcpu(&kvm, &guest("contend"), Level::Cpl3);
    let count = turns_in(&mut vcpu, 100).map(|_| added(&vcpu)).unwrap();
    let operand = BuiltIn::new(Kind::Contend, None).unwrap().operand();
    let around: [u8; 24] = vcpu.slot.read(operand.address - 8).unwrap();
    let expected = [&[0; 8], &count.to_le_bytes()[..], &[0; 8]].concat();
    assert_eq!(around[..], expected);
}

#[test]
fn another_vm_has_a_page_of_its_own() {
    let Some(kvm) = kvm() else { return };
    let [mut one, two] = [(); 2].map(|()| vcpu(&kvm, &guest("contend@0"), Level::Cpl3));
    assert!(turns_in(&mut one, 100).unwrap() > 0);
    assert_eq!(word(&two, "contend@0"), 0);
}

#[test]
fn the_last_vcpu_still_has_the_shared_page() {
    let Some(kvm) = kvm() else { return };
    let name = "contend@0";
    let mut vm = Vm::new(&kvm).unwrap();
    let [mut first, mut last] = [(); 2].map(|()| vm.add_vcpu(&guest(name), Level::Cpl3).unwrap());
    assert!(turns_in(&mut first, 20).is_ok());
    let before = word(&last, name);
    drop(vm);
    drop(first);
    assert!(turns_in(&mut last, 100).unwrap() > 0);
    assert_eq!(word(&last, name), before + added(&last));
}
