//! What QEMU calls.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::panic::catch_unwind;
use std::ptr;
use std::slice;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

use split_lock_assist::decode::{LINE_BYTES, MAX_INSTRUCTION_BYTES};
use split_lock_find::records::{SiteRecord, Target};

use super::guest::GuestInterface;
use super::interface::{Block, Bytes, Info, Instruction, Interface, OnMemory, version_of_emulator};
use crate::guest::{VcpuRegisters, exec_path};
use crate::plugin::{Emulation, Plugin, Watch};

static INTERFACE: OnceLock<Interface> = OnceLock::new();

/// No operand that may lie anywhere has more bytes: that of CMPXCHG16B has to be aligned.
const LARGEST_OPERAND: u64 = 8;

/// QEMU reads this `int` before it calls anything here.
// SAFETY: nothing else in the process has this name but other plugins, and QEMU looks it up in this library alone.
#[unsafe(no_mangle)]
#[expect(unreachable_pub, reason = "QEMU reads it")]
pub static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

/// Called by the loader before QEMU looks for the version.
// SAFETY: functions in this section are called once each, with arguments that a function without any ignores.
#[unsafe(link_section = ".init_array")]
#[used]
static CHOOSE_VERSION: extern "C" fn() = choose_version;

extern "C" fn choose_version() {
    qemu_plugin_version.store(version_of_emulator(), Relaxed);
}

/// Called by QEMU once, after it has loaded the library; it gives up if the result is not 0.
// SAFETY: QEMU looks the name up in this library alone.
#[unsafe(no_mangle)]
extern "C" fn qemu_plugin_install(
    id: u64,
    info: *const Info,
    count: c_int,
    options: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU passes what its header says: an `info` that lives as long as this call,
    let info = unsafe { &*info };
    // SAFETY: and an array of so many C strings. It is null if there is none of them.
    let options = (count > 0).then(|| unsafe { slice::from_raw_parts(options, count as usize) });
    let options = options.unwrap_or_default().iter();
    // SAFETY: as above.
    let options = options.map(|&it| unsafe { CStr::from_ptr(it) }.to_bytes().to_vec());
    let options = options.collect();
    match catch_unwind(|| install(id, info, options)) {
        Ok(Ok(())) => 0,
        Ok(Err(sentence)) => {
            eprintln!("splitlock: {sentence}");
            1
        }
        Err(_) => 1,
    }
}

fn install(id: u64, info: &Info, options: Vec<Vec<u8>>) -> Result<(), String> {
    // SAFETY: the name is a C string.
    let name = unsafe { CStr::from_ptr(info.target_name) };
    let target = match (name.to_str(), info.is_system) {
        (Ok("x86_64" | "i386"), true) => Target::System,
        (Ok("x86_64"), false) => Target::X86_64,
        (Ok("i386"), false) => Target::I386,
        _ => {
            return Err(format!(
                "the emulator is for {}, and split locks are x86's",
                name.to_string_lossy()
            ));
        }
    };
    let interface = Interface::find(info.version, info.is_system).map_err(|name| {
        format!(
            "this emulator's plugin interface (version {}) has no function {}; use QEMU 7.2 to 11",
            info.version,
            name.to_string_lossy()
        )
    })?;
    let interface = INTERFACE.get_or_init(|| interface);
    Plugin::install(&Emulation {
        target,
        api_version: info.version.cast_unsigned(),
        options,
    })?;
    // SAFETY: here and below, the callbacks have the types that QEMU's header asks for, and live as long as the process:
    // nothing ever unloads the plugin.
    unsafe {
        interface
            .register_translate
            .register(id, on_translate, on_translate_7);
    }
    // SAFETY: as above.
    unsafe { interface.register_flush.register(id, on_flush, on_flush_7) };
    if target != Target::System {
        // SAFETY: as above.
        unsafe { interface.register_begin.register(id, on_begin, on_begin_7) };
        // SAFETY: as above.
        unsafe { interface.register_call.register(id, on_call, on_call_7) };
        // SAFETY: as above.
        unsafe {
            interface
                .register_return
                .register(id, on_return, on_return_7);
        }
    }
    Ok(())
}

extern "C" fn on_translate(_id: u64, block: *mut Block) {
    on_translate_7(block, ptr::null_mut());
}

extern "C" fn on_translate_7(block: *mut Block, _data: *mut c_void) {
    // What cannot be looked at is not watched; a panic in QEMU's frames would end the program.
    let _panicked = catch_unwind(|| {
        let (Some(plugin), Some(interface)) = (Plugin::get(), INTERFACE.get()) else {
            return;
        };
        // SAFETY: QEMU calls with a block that lives as long as this call.
        let count = unsafe { (interface.block_count)(block) };
        for n in 0..count {
            // SAFETY: as above, and it has that many instructions.
            let instruction = unsafe { (interface.block_get)(block, n) };
            translate(plugin, interface, instruction);
        }
    });
}

fn translate(plugin: &Plugin, interface: &Interface, instruction: *mut Instruction) {
    let mut bytes = [0; MAX_INSTRUCTION_BYTES + 1];
    // SAFETY: here and below, the instruction is one of the block that QEMU has called us with.
    let size = unsafe { (interface.size)(instruction) }.min(bytes.len());
    match interface.bytes {
        Bytes::Pointer(get) => {
            // SAFETY: as above.
            let data = unsafe { get(instruction) };
            if data.is_null() {
                return;
            }
            // SAFETY: until version 2 the result is the address of as many bytes as the instruction has.
            bytes[..size].copy_from_slice(unsafe { slice::from_raw_parts(data, size) });
        }
        Bytes::Copy(get) => {
            // SAFETY: since version 3 at most so many bytes are written there.
            unsafe { get(instruction, bytes.as_mut_ptr(), size) };
        }
    }
    // SAFETY: as above.
    let address = unsafe { (interface.address)(instruction) };
    // SAFETY: as above; the result is only compared.
    let host = unsafe { (interface.host_address)(instruction) };
    const LOADS: c_int = 1;
    const STORES: c_int = 2;
    let (callback, accesses, data): (OnMemory, c_int, usize) =
        match plugin.translate(address, host as u64, &bytes[..size]) {
            None => return,
            Some(Watch::Lock(number)) => (on_store, STORES, number),
            Some(Watch::Call(return_address)) => (on_near_call, STORES, return_address as usize),
            Some(Watch::Return) => (on_near_return, LOADS, 0),
        };
    const NO_REGISTERS: c_int = 0;
    const READ_REGISTERS: c_int = 1;
    let registers = match interface.guest {
        Some(_) => READ_REGISTERS,
        None => NO_REGISTERS,
    };
    // SAFETY: the callback has the type that QEMU's header asks for, and takes the data for a number.
    unsafe {
        (interface.register_memory)(
            instruction,
            callback,
            registers,
            accesses,
            data as *mut c_void,
        );
    }
}

/// After every store of a locked instruction, of which there is one each time that it is executed to its end.
extern "C" fn on_store(vcpu: c_uint, info: u32, address: u64, data: *mut c_void) {
    if address % LINE_BYTES > LINE_BYTES - LARGEST_OPERAND {
        store_near_end(vcpu, info, address, data);
    }
}

/// Apart from the check before it, which is all that most locked instructions pay for.
#[cold]
#[inline(never)]
extern "C" fn store_near_end(vcpu: c_uint, info: u32, address: u64, data: *mut c_void) {
    let (Some(plugin), Some(interface)) = (Plugin::get(), INTERFACE.get()) else {
        return;
    };
    // SAFETY: it takes what QEMU has called us with.
    if !unsafe { (interface.is_store)(info) } {
        // QEMU 7.2 calls for loads, too.
        return;
    }
    // SAFETY: as above.
    let bytes = 1 << unsafe { (interface.size_shift)(info) };
    if address % LINE_BYTES + bytes > LINE_BYTES {
        let _panicked = catch_unwind(|| {
            let site = plugin.split(data as usize, address, bytes, vcpu);
            if let (Some(site), Some(guest)) = (site, &interface.guest)
                && let Some(registers) = guest.registers()
            {
                plugin.recorder.set_tells_spaces();
                add_in_space(site, &registers, guest);
            }
        });
    }
}

fn add_in_space(site: SiteRecord<'_>, registers: &VcpuRegisters, guest: &GuestInterface) {
    if let Some(page_table) = registers.page_table_of_program() {
        site.add_in_space(page_table, || {
            exec_path(registers.sp, |at, bytes| guest.read_memory(at, bytes))
        });
    }
}

extern "C" fn on_near_call(vcpu: c_uint, info: u32, address: u64, data: *mut c_void) {
    let (Some(plugin), Some(interface)) = (Plugin::get(), INTERFACE.get()) else {
        return;
    };
    // SAFETY: it takes what QEMU has called us with.
    if !unsafe { (interface.is_store)(info) } {
        // QEMU 7.2 calls for where to call, too, if that is in memory.
        return;
    }
    if plugin.callers.call(vcpu, address, data as u64) {
        plugin.layout.set_stack(address);
    }
}

extern "C" fn on_near_return(vcpu: c_uint, _info: u32, address: u64, _data: *mut c_void) {
    if let Some(plugin) = Plugin::get() {
        plugin.callers.end(vcpu, address);
    }
}

/// A thread begins.
extern "C" fn on_begin(_id: u64, vcpu: c_uint) {
    on_begin_7(vcpu, ptr::null_mut());
}

extern "C" fn on_begin_7(vcpu: c_uint, _data: *mut c_void) {
    if let Some(plugin) = Plugin::get() {
        plugin.callers.clear(vcpu);
    }
}

/// Nothing that was translated before is executed again.
extern "C" fn on_flush(_id: u64) {
    on_flush_7(ptr::null_mut());
}

extern "C" fn on_flush_7(_data: *mut c_void) {
    if let Some(plugin) = Plugin::get() {
        plugin.candidates.clear();
    }
}

extern "C" fn on_call(
    _id: u64,
    vcpu: c_uint,
    number: i64,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    f: u64,
    g: u64,
    h: u64,
) {
    on_call_7(vcpu, number, a, b, c, d, e, f, g, h, ptr::null_mut());
}

extern "C" fn on_call_7(
    _vcpu: c_uint,
    number: i64,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    e: u64,
    _f: u64,
    _g: u64,
    _h: u64,
    _data: *mut c_void,
) {
    if let Some(plugin) = Plugin::get() {
        let _panicked = catch_unwind(|| plugin.before_call(number, [a, b, c, d, e]));
    }
}

extern "C" fn on_return(_id: u64, vcpu: c_uint, number: i64, result: i64) {
    on_return_7(vcpu, number, result, ptr::null_mut());
}

extern "C" fn on_return_7(_vcpu: c_uint, number: i64, result: i64, _data: *mut c_void) {
    if let Some(plugin) = Plugin::get() {
        let _panicked = catch_unwind(|| plugin.after_call(number, result));
    }
}
