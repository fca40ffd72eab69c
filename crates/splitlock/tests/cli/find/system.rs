//! Guests, from their firmware's first instruction on.

use serde_json::Value;

use super::{needs_emulator, number, output, program, said, sites, text};

const NAME: &str = "qemu-system-x86_64";

/// A machine whose only program is the boot sector, which ends it with exit code 33.
fn machine(image: &str) -> Vec<&str> {
    let words = "-nodefaults -display none -m 16 -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=1 -drive";
    [NAME]
        .into_iter()
        .chain(words.split(' '))
        .chain([image])
        .collect()
}

#[test]
fn instructions_of_a_boot_sector_are_found_among_those_of_the_firmware() {
    needs_emulator!(NAME);
    let image = format!("format=raw,file={}", program("boot.img"));
    let options = ["--system", "--json", "--symbols", &program("boot.elf")];
    let output = output(&options, &machine(&image));
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(output.status.code(), Some(33), "{found}");
    assert!(
        number(&found["locked_instructions_translated"]) > 4,
        "{found}"
    );
    let all: Vec<_> = sites(&found)
        .iter()
        .take(2)
        .map(|site| {
            let bits = number(&site["instruction"]["bits"]);
            (
                number(&site["count"]),
                bits,
                text(&site["function"]["name"]),
            )
        })
        .collect();
    assert_eq!(all, [(7, 32, "split_32"), (5, 16, "split_16")], "{found}");
    let tells = number(&found["plugin_interface_version"]) >= 2;
    let spaces = &sites(&found)[2]["address_spaces"];
    assert_eq!(
        spaces.as_array().map(Vec::len),
        tells.then_some(0),
        "it is the kernel's"
    );
    let at_one_address: Vec<_> = sites(&found)
        .iter()
        .skip(2)
        .map(|site| {
            (
                number(&site["count"]),
                text(&site["instruction"]["address"]),
            )
        })
        .collect();
    assert_eq!(
        at_one_address,
        [(3, "0x400000"), (2, "0x400000")],
        "{found}"
    );
}

#[test]
fn a_machine_that_does_not_start_is_not_one_without_split_locks() {
    needs_emulator!(NAME);
    let output = output(
        &["--system"],
        &[NAME, "-display", "none", "-cdrom", "/nowhere"],
    );
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("/nowhere"), "{said}");
}
