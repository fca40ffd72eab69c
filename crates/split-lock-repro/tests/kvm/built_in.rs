//! What the built-in guests do.

use super::*;
use split_lock_repro::guest::{BuiltIn, Kind};

fn built_ins() -> impl Iterator<Item = (BuiltIn, Level)> {
    Kind::ALL
        .into_iter()
        .map(|kind| BuiltIn::new(kind, None).unwrap())
        .flat_map(|guest| LEVELS.map(|level| (guest, level)))
}

/// KVM's instruction emulator, which some KVMs use for CPL0, does not know this one.
fn cannot_be_emulated(guest: BuiltIn, level: Level, cause: &ExitCause) -> bool {
    guest.kind() == Kind::Cmpxchg16b
        && level == Level::Cpl0
        && *cause == ExitCause::InternalError { number: Some(1) }
}

#[test]
fn every_guest_counts_its_turns_at_both_levels() {
    let Some(kvm) = kvm() else { return };
    for (built_in, level) in built_ins() {
        let mut vcpu = vcpu(&kvm, &built_in.into(), level);
        match turns_in(&mut vcpu, 100) {
            Ok(turns) => {
                let progresses = !built_in.splits() || !detects_split_locks();
                let few = if built_in.work().is_some() { 0 } else { 100 };
                assert!(turns > few || !progresses, "{built_in} at {level}: {turns}");
            }
            Err(error) if cannot_be_emulated(built_in, level, &error.cause) => {
                eprintln!("{built_in} at {level}: {error}");
            }
            Err(error) => panic!("{built_in} at {level}: {error}"),
        }
    }
}

#[test]
fn a_guest_writes_all_bytes_of_its_operand_and_none_beside_it() {
    let Some(kvm) = kvm() else { return };
    // What `contend` leaves depends on how far it came: see there.
    for (built_in, level) in built_ins().filter(|(guest, _)| guest.kind() != Kind::Contend) {
        let mut vcpu = vcpu(&kvm, &built_in.into(), level);
        assert_eq!(around_operand(&vcpu, built_in), [0; 48]);
        let expected = [&[0; 16], &*written_by(built_in), &[0; 24]].concat();
        // Several runs, because an exchange leaves the pattern in memory on every other turn only;
        // once it is there, the next reset brings a second one, and it stays.
        let mut runs =
            (0..20).map(|_| turns_in(&mut vcpu, 20).map(|_| around_operand(&vcpu, built_in)));
        let found = runs.find(|memory| memory.as_ref().map_or(true, |m| expected.starts_with(m)));
        match found {
            Some(Ok(_)) => {}
            Some(Err(error)) if cannot_be_emulated(built_in, level, &error.cause) => {}
            other => panic!("{built_in} at {level}: {other:?}"),
        }
    }
}

/// The operand, with sixteen bytes before it and as many as remain behind it.
fn around_operand(vcpu: &Vcpu, built_in: BuiltIn) -> [u8; 48] {
    vcpu.slot.read(built_in.operand().address - 16).unwrap()
}

fn written_by(built_in: BuiltIn) -> Vec<u8> {
    match built_in.kind() {
        Kind::Xchg => b"COLTILPS".to_vec(),
        Kind::Cmpxchg16b => b"COLTILPSCOLTILPS".to_vec(),
        _ => (1_u64 << (0x16c % 64)).to_le_bytes().to_vec(),
    }
}

#[test]
fn a_reset_starts_the_count_anew() {
    let Some(kvm) = kvm() else { return };
    let mut vcpu = vcpu(&kvm, &guest("aligned"), Level::Cpl3);
    let long = turns_in(&mut vcpu, 100).unwrap();
    vcpu.slot.reset(&vcpu.fd).unwrap();
    assert_eq!(vcpu.slot.turns(&vcpu.fd).unwrap(), 0);
    let short = turns_in(&mut vcpu, 5).unwrap();
    assert!(short < long, "{short} in 5 ms, {long} in 100 ms");
}

/// The point of it all. Natively it is several hundred times; the rest is room for a busy machine.
#[test]
fn an_aligned_lock_is_many_times_faster_than_a_split_one() {
    let Some(kvm) = kvm() else { return };
    let turns = |name| turns_in(&mut vcpu(&kvm, &guest(name), Level::Cpl3), 50).unwrap();
    let (aligned, split, edge) = (turns("aligned"), turns("split"), turns("split@56"));
    assert!(aligned > 10 * split, "aligned {aligned}, split {split}");
    assert!(edge > 10 * split, "split@56 {edge}, split {split}");
}
