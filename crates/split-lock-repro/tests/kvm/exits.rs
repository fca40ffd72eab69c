//! What guests must not do, in words.

use super::*;

/// What becomes of a guest that does what it should not.
fn end_of(kvm: &Kvm, code: &[u8], level: Level) -> UnexpectedExit {
    let mut vcpu = vcpu(kvm, &file_guest(code), level);
    let error = turns_in(&mut vcpu, 5000).unwrap_err();
    let sentence = error.to_string();
    assert!(sentence.starts_with("the guest on vCPU 0 "), "{sentence}");
    error
}

/// Its cause, in these words, and where it is: the bytes at RIP are those of the guest, from the first
/// or from the second instruction on.
fn assert_end(kvm: &Kvm, code: &[u8], level: Level, cause: &ExitCause, words: &str) {
    let exit = end_of(kvm, code, level);
    assert_eq!(exit.cause, *cause);
    let sentence = exit.to_string();
    assert!(sentence.contains(words), "{sentence}");
    let Some(rip) = exit.rip else {
        assert_eq!(exit.cause, ExitCause::TripleFault, "{exit}");
        return;
    };
    let at = (rip - file_guest(code).load_address()) as usize;
    assert!(exit.bytes.starts_with(&code[at..]), "{exit}");
    let place = format!("RIP is {rip:#x}");
    assert!(sentence.contains(&place), "{sentence}");
}

#[test]
fn an_exception_is_a_triple_fault() {
    let Some(kvm) = kvm() else { return };
    let undefined = [0x0f, 0x0b, 0xeb, 0xfe];
    for level in LEVELS {
        let cause = ExitCause::TripleFault;
        assert_end(&kvm, &undefined, level, &cause, "triple fault");
    }
}

#[test]
fn a_null_pointer_is_a_triple_fault() {
    let Some(kvm) = kvm() else { return };
    let load = [0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0xeb, 0xfe]; // mov rax, [0]
    for level in LEVELS {
        assert_eq!(end_of(&kvm, &load, level).cause, ExitCause::TripleFault);
    }
}

#[test]
fn user_mode_cannot_touch_the_page_tables_and_kernel_mode_can() {
    let Some(kvm) = kvm() else { return };
    let load = [0x48, 0x8b, 0x04, 0x25, 0, 0x30, 0, 0, 0xf4]; // mov rax, [0x3000]; hlt
    let cause = |level| end_of(&kvm, &load, level).cause;
    assert_eq!(cause(Level::Cpl3), ExitCause::TripleFault);
    assert_eq!(cause(Level::Cpl0), ExitCause::Halt);
}

#[test]
fn a_halt_is_named() {
    let Some(kvm) = kvm() else { return };
    let halt = [0xf4, 0xeb, 0xfd];
    assert_end(&kvm, &halt, Level::Cpl0, &ExitCause::Halt, "halted");
    // In user mode the instruction is not allowed.
    let exit = end_of(&kvm, &halt, Level::Cpl3);
    assert_eq!(exit.cause, ExitCause::TripleFault);
}

#[test]
fn other_ports_are_named() {
    let Some(kvm) = kvm() else { return };
    let (out, input) = ([0xe6, 0x80, 0xeb, 0xfc], [0xe4, 0x60, 0xeb, 0xfc]);
    for level in LEVELS {
        let cause = ExitCause::PortWrite { port: 0x80 };
        assert_end(&kvm, &out, level, &cause, "wrote to I/O port 0x80");
        let cause = ExitCause::PortRead { port: 0x60 };
        assert_end(&kvm, &input, level, &cause, "read from I/O port 0x60");
    }
}

#[test]
fn an_access_beyond_memory_is_named_with_the_guests_own_address() {
    let Some(kvm) = kvm() else { return };
    let store = [0x89, 0x04, 0x25, 0x10, 0, 0, 0x02, 0xeb, 0xf7]; // mov [0x2000010], eax
    let load = [0x8b, 0x04, 0x25, 0x10, 0, 0, 0x02, 0xeb, 0xf7]; // mov eax, [0x2000010]
    let (address, size) = (0x0200_0010, 4);
    for level in LEVELS {
        let cause = ExitCause::MmioWrite { address, size };
        assert_end(&kvm, &store, level, &cause, "0x2000010");
        let cause = ExitCause::MmioRead { address, size };
        assert_end(&kvm, &load, level, &cause, "0x2000010");
    }
    let mut vm = Vm::new(&kvm).unwrap();
    vm.add_vcpu(&guest("split"), Level::Cpl3).unwrap();
    let second = file_guest(&store);
    let exit = turns_in(&mut vm.add_vcpu(&second, Level::Cpl3).unwrap(), 5000).unwrap_err();
    assert_eq!(exit.cause, ExitCause::MmioWrite { address, size });
    assert!(exit.to_string().contains("vCPU 1"), "{exit}");
}

#[test]
fn a_vcpu_that_outlives_its_slot_finds_no_memory() {
    let Some(kvm) = kvm() else { return };
    let Vcpu { mut fd, slot } = vcpu(&kvm, &guest("split"), Level::Cpl3);
    drop(slot);
    let exit = run_for(&mut fd, Duration::from_secs(5));
    assert!(matches!(exit, (0, Some(_))), "{exit:?}");
}
