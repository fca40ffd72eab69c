//! How a kernel finds its memory: where everything lies, and what is written there before it starts.

use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};
use linux_loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use split_lock_assist::kvm::LongMode;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use super::LinuxError;
use super::image::Image;

const GDT: u64 = 0x500;
const BOOT_PARAMETERS: u64 = 0x7000;
const STACK_TOP: u64 = 0x8ff0;
const PML4: u64 = 0x9000;
const PDPT: u64 = 0xa000;
const DIRECTORIES: u64 = 0xb000;
const COMMAND_LINE: u64 = 0x2_0000;
/// The end of what a PC has as memory below its video memory and its firmware.
const LOW_MEMORY_END: u64 = 0x9_fc00;
const HIGH_MEMORY: u64 = 0x10_0000;
const PAGE: u64 = 0x1000;

/// The first bytes that the kernel sees are mapped as they are: so many GiB.
const MAPPED_GIB: u64 = 4;

/// In RFLAGS.
const ALWAYS_SET: u64 = 1 << 1;

const RAM: u32 = 1;
/// No boot loader that has a number.
const UNKNOWN_LOADER: u8 = 0xff;

const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Puts everything into `memory`, which begins at 0 and has `memory_bytes`. Returns what the boot
/// protocol wants to find in the general registers.
pub(super) fn prepare(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    image: &mut Image,
    initrd: &[u8],
    command_line: &str,
) -> Result<kvm_regs, LinuxError> {
    let no_room = |what, bytes: u64, advice| LinuxError::NoRoom {
        what,
        bytes,
        memory_mib: memory_bytes >> 20,
        advice,
    };
    if image.end() > memory_bytes {
        return Err(no_room("a kernel", image.end(), MORE_MEMORY));
    }
    if command_line.len() > image.command_line_limit() {
        let bytes = command_line.len() as u64;
        return Err(no_room(
            "a command line",
            bytes,
            "make it shorter: its kernel does not read more",
        ));
    }
    let initrd_at = place_of_initrd(image, memory_bytes, initrd.len() as u64)
        .ok_or_else(|| no_room("an initrd", initrd.len() as u64, MORE_MEMORY))?;
    let entry = image.load(memory)?;
    let parameters = parameters(
        image.header(),
        memory_bytes,
        initrd_at,
        initrd.len(),
        command_line.len(),
    );
    let written = (|| {
        memory.write_slice(initrd, GuestAddress(initrd_at))?;
        memory.write_slice(command_line.as_bytes(), GuestAddress(COMMAND_LINE))?;
        memory.write_obj(parameters, GuestAddress(BOOT_PARAMETERS))?;
        write_tables(memory)
    })();
    written.expect("that there is room has been looked at");
    Ok(kvm_regs {
        rip: entry,
        rsi: BOOT_PARAMETERS,
        rsp: STACK_TOP,
        rflags: ALWAYS_SET,
        ..Default::default()
    })
}

const MORE_MEMORY: &str = "give the guest more with --memory";

/// As high as possible, and above all that the kernel needs to unpack itself.
fn place_of_initrd(image: &Image, memory_bytes: u64, bytes: u64) -> Option<u64> {
    let end = memory_bytes.min(image.initrd_limit());
    let at = end.checked_sub(bytes)? / PAGE * PAGE;
    (at >= image.end()).then_some(at)
}

fn parameters(
    hdr: setup_header,
    memory_bytes: u64,
    initrd_at: u64,
    initrd_bytes: usize,
    command_line_bytes: usize,
) -> boot_params {
    let mut parameters = boot_params {
        hdr,
        ..Default::default()
    };
    parameters.hdr.type_of_loader = UNKNOWN_LOADER;
    parameters.hdr.cmd_line_ptr = COMMAND_LINE as u32;
    parameters.hdr.cmdline_size = command_line_bytes as u32 + 1;
    parameters.hdr.ramdisk_image = initrd_at as u32;
    parameters.hdr.ramdisk_size = initrd_bytes as u32;
    let ram = [(0, LOW_MEMORY_END), (HIGH_MEMORY, memory_bytes)];
    for (entry, (from, to)) in parameters.e820_table.iter_mut().zip(ram) {
        *entry = boot_e820_entry {
            addr: from,
            size: to - from,
            r#type: RAM,
        };
    }
    parameters.e820_entries = ram.len() as u8;
    parameters
}

/// Descriptors, and page tables that map every address to itself.
fn write_tables(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    const TABLE: u64 = 0b11;
    const LARGE_PAGE: u64 = 0x83;
    const ENTRIES: u64 = 512;
    const LARGE_PAGE_SHIFT: u64 = 21;
    for (n, descriptor) in (0..).zip(DESCRIPTORS) {
        memory.write_obj(descriptor, GuestAddress(GDT + 8 * n))?;
    }
    memory.write_obj(PDPT | TABLE, GuestAddress(PML4))?;
    for gib in 0..MAPPED_GIB {
        let directory = DIRECTORIES + gib * PAGE;
        memory.write_obj(directory | TABLE, GuestAddress(PDPT + 8 * gib))?;
        for n in 0..ENTRIES {
            let page = (gib * ENTRIES + n) << LARGE_PAGE_SHIFT | LARGE_PAGE;
            memory.write_obj(page, GuestAddress(directory + 8 * n))?;
        }
    }
    Ok(())
}

/// 64-bit mode with paging, interrupts off, and no local APIC: see [`cpuid`](super::cpuid).
pub(super) fn special_registers(reset: kvm_sregs) -> kvm_sregs {
    const PROTECTED_MODE_AND_FPU: u64 = 0x33;
    const PAGING: u64 = 1 << 31;
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const LONG_MODE_ENABLED_AND_ACTIVE: u64 = 1 << 8 | 1 << 10;
    const LOCAL_APIC_ENABLED: u64 = 1 << 11;
    let flat = LongMode {
        page_tables: PML4,
        descriptors: GDT,
        task: 0,
    };
    let flat = flat.special_registers(reset, 0);
    let data = kvm_segment {
        selector: DATA_SELECTOR,
        ..flat.ds
    };
    kvm_sregs {
        cs: kvm_segment {
            selector: CODE_SELECTOR,
            ..flat.cs
        },
        ds: data,
        es: data,
        ss: data,
        fs: data,
        gs: data,
        gdt: kvm_dtable {
            limit: size_of_val(&DESCRIPTORS) as u16 - 1,
            ..flat.gdt
        },
        idt: kvm_dtable {
            limit: 0,
            ..reset.idt
        },
        cr0: PROTECTED_MODE_AND_FPU | PAGING,
        cr3: PML4,
        cr4: reset.cr4 | PHYSICAL_ADDRESS_EXTENSION,
        efer: reset.efer | LONG_MODE_ENABLED_AND_ACTIVE,
        apic_base: reset.apic_base & !LOCAL_APIC_ENABLED,
        ..reset
    }
}
