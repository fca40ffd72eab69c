//! Registers and memory of a guest, which plugins may read since QEMU 9.0 and since 9.2.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::slice;
use std::sync::OnceLock;

use super::interface::function;
use crate::guest::VcpuRegisters;

/// An array of GLib: bytes, or of whatever it was made for.
#[repr(C)]
struct Array {
    data: *mut c_void,
    count: c_uint,
}

/// The beginning of what QEMU tells of a register; later versions tell more.
#[repr(C)]
struct Register {
    handle: *mut c_void,
    name: *const c_char,
    feature: *const c_char,
}

/// The functions for it.
#[derive(Clone, Copy)]
pub(super) struct GuestInterface {
    registers: unsafe extern "C" fn() -> *mut Array,
    /// Its result is an `int` or a `bool`, by the version; the array's length says as much.
    read_register: unsafe extern "C" fn(*mut c_void, *mut Array),
    read_memory: Option<unsafe extern "C" fn(u64, *mut Array, usize) -> bool>,
    size_of_item: unsafe extern "C" fn(*mut Array) -> c_uint,
    free_array: unsafe extern "C" fn(*mut Array, c_int) -> *mut c_char,
    new_bytes: unsafe extern "C" fn() -> *mut Array,
    free_bytes: unsafe extern "C" fn(*mut Array, c_int) -> *mut u8,
}

/// What stands for the registers that are read, in the order of [`NAMES`]. They stay the same, and are the same for all vCPUs.
#[derive(Debug)]
struct Handles([*mut c_void; NAMES.len()]);

// SAFETY: QEMU makes them of numbers of registers, and takes them from any of its threads.
unsafe impl Send for Handles {}
// SAFETY: as above.
unsafe impl Sync for Handles {}

/// The stack pointer is the only one with another name in 32-bit emulators.
const NAMES: [[&CStr; 2]; 5] = [
    [c"cr0", c"cr0"],
    [c"cr3", c"cr3"],
    [c"cr4", c"cr4"],
    [c"cs", c"cs"],
    [c"rsp", c"esp"],
];

static HANDLES: OnceLock<Option<Handles>> = OnceLock::new();

impl GuestInterface {
    /// `None` if this emulator does not show registers.
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "it is one list of names and their types"
    )]
    pub(super) fn find() -> Option<Self> {
        // SAFETY: each name stands for a function of the type that it has in qemu-plugin.h since version 2, and in GLib,
        // which all of these emulators have loaded. Results are in registers, which callers on x86-64 may ignore.
        unsafe {
            Some(Self {
                registers: function(c"qemu_plugin_get_registers").ok()?,
                read_register: function(c"qemu_plugin_read_register").ok()?,
                read_memory: function(c"qemu_plugin_read_memory_vaddr").ok(),
                size_of_item: function(c"g_array_get_element_size").ok()?,
                free_array: function(c"g_array_free").ok()?,
                new_bytes: function(c"g_byte_array_new").ok()?,
                free_bytes: function(c"g_byte_array_free").ok()?,
            })
        }
    }

    /// Of the vCPU whose instruction QEMU has called us for, which asked for registers. `None` if there are no such.
    pub(super) fn registers(&self) -> Option<VcpuRegisters> {
        let Handles(handles) = HANDLES.get_or_init(|| self.handles()).as_ref()?;
        let [cr0, cr3, cr4, cs, sp] = handles.map(|handle| self.register(handle));
        Some(VcpuRegisters {
            cr0: cr0?,
            cr3: cr3?,
            cr4: cr4?,
            cs: cs?,
            sp: sp?,
        })
    }

    /// Reads memory of the guest as that vCPU sees it.
    pub(super) fn read_memory(&self, address: u64, bytes: &mut [u8]) -> bool {
        let Some(read) = self.read_memory else {
            return false;
        };
        self.with_bytes(|array| {
            // SAFETY: it makes the array as long as it has to be; we are in a callback of a vCPU.
            let is_read = unsafe { read(address, array, bytes.len()) };
            // SAFETY: the array is one of bytes, and ours.
            let found = unsafe { contents(array) };
            let is_whole = is_read && found.len() == bytes.len();
            if is_whole {
                bytes.copy_from_slice(found);
            }
            is_whole
        })
    }

    fn register(&self, handle: *mut c_void) -> Option<u64> {
        self.with_bytes(|array| {
            // SAFETY: the handle is QEMU's; the array is empty, and gets the register's bytes.
            unsafe { (self.read_register)(handle, array) };
            // SAFETY: the array is one of bytes, and ours.
            let found = unsafe { contents(array) };
            let is_number = (1..=8).contains(&found.len());
            let all = found.iter().rev();
            is_number.then(|| all.fold(0, |all, &it| all << 8 | u64::from(it)))
        })
    }

    fn with_bytes<T>(&self, read: impl FnOnce(*mut Array) -> T) -> T {
        // SAFETY: it takes nothing, and ends the process where there is no memory.
        let array = unsafe { (self.new_bytes)() };
        let result = read(array);
        // SAFETY: nobody else has it; its bytes go, too.
        unsafe { (self.free_bytes)(array, 1) };
        result
    }

    fn handles(&self) -> Option<Handles> {
        // SAFETY: we are in a callback of a vCPU.
        let array = unsafe { (self.registers)() };
        if array.is_null() {
            return None;
        }
        // SAFETY: it is an array of GLib's, and ours.
        let size = unsafe { (self.size_of_item)(array) } as usize;
        // SAFETY: as above.
        let Array { data, count } = unsafe { ptr::read(array) };
        let mut handles = [None; NAMES.len()];
        for n in 0..count as usize {
            if size < size_of::<Register>() {
                break;
            }
            // SAFETY: so many items of that size are there, each of which begins with one of these.
            let it: Register = unsafe { ptr::read(data.wrapping_byte_add(n * size).cast()) };
            // SAFETY: names are C strings that QEMU keeps for ever.
            let name = (!it.name.is_null()).then(|| unsafe { CStr::from_ptr(it.name) });
            let named = |names: &[&CStr; 2]| name.is_some_and(|name| names.contains(&name));
            if let Some(n) = NAMES.iter().position(named) {
                handles[n] = Some(it.handle);
            }
        }
        // SAFETY: QEMU has made it for us.
        unsafe { (self.free_array)(array, 1) };
        let [Some(cr0), Some(cr3), Some(cr4), Some(cs), Some(sp)] = handles else {
            return None;
        };
        Some(Handles([cr0, cr3, cr4, cs, sp]))
    }
}

/// # Safety
/// It must be an array of bytes that nobody changes meanwhile.
unsafe fn contents<'a>(array: *mut Array) -> &'a [u8] {
    // SAFETY: the caller vouches for it.
    let Array { data, count } = unsafe { ptr::read(array) };
    if data.is_null() {
        return &[];
    }
    // SAFETY: GLib has so many bytes there.
    unsafe { slice::from_raw_parts(data.cast(), count as usize) }
}
