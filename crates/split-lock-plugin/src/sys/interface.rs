//! Functions of QEMU, by their names. They are looked up, and not linked: what an emulator lacks is told.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use split_lock_find::emulator::Emulators;

use super::guest::GuestInterface;

/// A translated block, and an instruction in it.
#[repr(C)]
pub(super) struct Block(());
#[repr(C)]
pub(super) struct Instruction(());

/// The beginning of what QEMU tells of itself.
#[repr(C)]
pub(super) struct Info {
    pub(super) target_name: *const c_char,
    pub(super) oldest_version: c_int,
    pub(super) version: c_int,
    pub(super) is_system: bool,
}

pub(super) type OnMemory = extern "C" fn(c_uint, u32, u64, *mut c_void);

/// What callbacks take until version 6, and since version 7.
pub(super) type OnTranslate = extern "C" fn(u64, *mut Block);
pub(super) type OnTranslate7 = extern "C" fn(*mut Block, *mut c_void);
pub(super) type OnBegin = extern "C" fn(u64, c_uint);
pub(super) type OnBegin7 = extern "C" fn(c_uint, *mut c_void);
pub(super) type OnFlush = extern "C" fn(u64);
pub(super) type OnFlush7 = extern "C" fn(*mut c_void);
pub(super) type OnCall = extern "C" fn(u64, c_uint, i64, u64, u64, u64, u64, u64, u64, u64, u64);
pub(super) type OnCall7 =
    extern "C" fn(c_uint, i64, u64, u64, u64, u64, u64, u64, u64, u64, *mut c_void);
pub(super) type OnReturn = extern "C" fn(u64, c_uint, i64, i64);
pub(super) type OnReturn7 = extern "C" fn(c_uint, i64, i64, *mut c_void);

/// A function that takes a callback: until version 6 one that gets the plugin's number, since version 7 one that gets
/// data.
#[derive(Clone, Copy)]
pub(super) enum Register<A, B> {
    WithNumber(unsafe extern "C" fn(u64, A)),
    WithData(unsafe extern "C" fn(u64, B, *mut c_void)),
}

impl<A: Copy, B: Copy> Register<A, B> {
    /// # Safety
    /// The callbacks must do with what QEMU passes them, for as long as the process lives.
    pub(super) unsafe fn register(self, id: u64, with_number: A, with_data: B) {
        match self {
            // SAFETY: the caller vouches for the callback.
            Self::WithNumber(register) => unsafe { register(id, with_number) },
            // SAFETY: as above; ours take no data.
            Self::WithData(register) => unsafe { register(id, with_data, std::ptr::null_mut()) },
        }
    }

    /// # Safety
    /// The function of that name must take callbacks of these types.
    unsafe fn find(name: &'static CStr, version: c_int) -> Result<Self, &'static CStr> {
        if version >= PASSES_DATA {
            // SAFETY: the caller vouches for the type.
            unsafe { function(name) }.map(Self::WithData)
        } else {
            // SAFETY: as above.
            unsafe { function(name) }.map(Self::WithNumber)
        }
    }
}

const COPIES_BYTES: c_int = 3;
const PASSES_DATA: c_int = 7;

/// An instruction's bytes: until version 2 where they are, since version 3 as a copy.
#[derive(Clone, Copy)]
pub(super) enum Bytes {
    Pointer(unsafe extern "C" fn(*const Instruction) -> *const u8),
    Copy(unsafe extern "C" fn(*const Instruction, *mut u8, usize) -> usize),
}

#[derive(Clone, Copy)]
pub(super) struct Interface {
    pub(super) block_count: unsafe extern "C" fn(*const Block) -> usize,
    pub(super) block_get: unsafe extern "C" fn(*const Block, usize) -> *mut Instruction,
    pub(super) bytes: Bytes,
    pub(super) size: unsafe extern "C" fn(*const Instruction) -> usize,
    pub(super) address: unsafe extern "C" fn(*const Instruction) -> u64,
    pub(super) host_address: unsafe extern "C" fn(*const Instruction) -> *mut c_void,
    pub(super) size_shift: unsafe extern "C" fn(u32) -> c_uint,
    pub(super) is_store: unsafe extern "C" fn(u32) -> bool,
    pub(super) register_memory:
        unsafe extern "C" fn(*mut Instruction, OnMemory, c_int, c_int, *mut c_void),
    pub(super) register_translate: Register<OnTranslate, OnTranslate7>,
    pub(super) register_begin: Register<OnBegin, OnBegin7>,
    pub(super) register_flush: Register<OnFlush, OnFlush7>,
    pub(super) register_call: Register<OnCall, OnCall7>,
    pub(super) register_return: Register<OnReturn, OnReturn7>,
    /// Where it is a guest that is emulated, and the emulator shows registers.
    pub(super) guest: Option<GuestInterface>,
}

impl Interface {
    /// # Errors
    /// The name of a function that the emulator does not have.
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "it is one list of names and their types"
    )]
    pub(super) fn find(version: c_int, is_system: bool) -> Result<Self, &'static CStr> {
        // SAFETY: each name stands for a function of the type that it has in qemu-plugin.h in all versions from 1 to 7;
        // those of the bytes and of callbacks have the ones that go with the version.
        unsafe {
            Ok(Self {
                block_count: function(c"qemu_plugin_tb_n_insns")?,
                block_get: function(c"qemu_plugin_tb_get_insn")?,
                bytes: if version >= COPIES_BYTES {
                    Bytes::Copy(function(c"qemu_plugin_insn_data")?)
                } else {
                    Bytes::Pointer(function(c"qemu_plugin_insn_data")?)
                },
                size: function(c"qemu_plugin_insn_size")?,
                address: function(c"qemu_plugin_insn_vaddr")?,
                host_address: function(c"qemu_plugin_insn_haddr")?,
                size_shift: function(c"qemu_plugin_mem_size_shift")?,
                is_store: function(c"qemu_plugin_mem_is_store")?,
                register_memory: function(c"qemu_plugin_register_vcpu_mem_cb")?,
                register_translate: Register::find(
                    c"qemu_plugin_register_vcpu_tb_trans_cb",
                    version,
                )?,
                register_begin: Register::find(c"qemu_plugin_register_vcpu_init_cb", version)?,
                register_flush: Register::find(c"qemu_plugin_register_flush_cb", version)?,
                register_call: Register::find(c"qemu_plugin_register_vcpu_syscall_cb", version)?,
                register_return: Register::find(
                    c"qemu_plugin_register_vcpu_syscall_ret_cb",
                    version,
                )?,
                guest: is_system.then(GuestInterface::find).flatten(),
            })
        }
    }
}

/// # Safety
/// The function of that name must have the type `F`, which is one of function pointers.
pub(super) unsafe fn function<F: Copy>(name: &'static CStr) -> Result<F, &'static CStr> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    let address = symbol(name).ok_or(name)?;
    // SAFETY: the caller vouches for the type, and `F` has the size of an address that is not null.
    Ok(unsafe { std::mem::transmute_copy(&address) })
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name is a C string; dlsym keeps nothing of it.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address)
}

/// The newest version that this emulator can have. It refuses one that it does not know, and since 9.0 version 1. Since
/// version 7 nothing but its command line tells.
pub(super) fn version_of_emulator() -> c_int {
    let has = |name| symbol(name).is_some();
    let words = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    if let Some(version) = Emulators::interface_version(words.split(|&byte| byte == 0)) {
        version.cast_signed()
    } else if has(c"qemu_plugin_set_pc") {
        6
    } else if has(c"qemu_plugin_write_register") {
        5
    } else if has(c"qemu_plugin_read_memory_vaddr") {
        4
    } else if has(c"qemu_plugin_scoreboard_new") {
        2
    } else {
        1
    }
}
