//! Functions of QEMU, by their names. They are looked up, and not linked: what an emulator lacks is told.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

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

pub(super) type OnTranslate = extern "C" fn(u64, *mut Block);
pub(super) type OnMemory = extern "C" fn(c_uint, u32, u64, *mut c_void);
pub(super) type OnBegin = extern "C" fn(u64, c_uint);
pub(super) type OnFlush = extern "C" fn(u64);
pub(super) type OnCall = extern "C" fn(u64, c_uint, i64, u64, u64, u64, u64, u64, u64, u64, u64);
pub(super) type OnReturn = extern "C" fn(u64, c_uint, i64, i64);

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
    pub(super) register_translate: unsafe extern "C" fn(u64, OnTranslate),
    pub(super) register_begin: unsafe extern "C" fn(u64, OnBegin),
    pub(super) register_flush: unsafe extern "C" fn(u64, OnFlush),
    pub(super) register_call: unsafe extern "C" fn(u64, OnCall),
    pub(super) register_return: unsafe extern "C" fn(u64, OnReturn),
}

impl Interface {
    /// # Errors
    /// The name of a function that the emulator does not have.
    #[expect(
        clippy::multiple_unsafe_ops_per_block,
        reason = "it is one list of names and their types"
    )]
    pub(super) fn find(version: c_int) -> Result<Self, &'static CStr> {
        const COPIES_BYTES: c_int = 3;
        // SAFETY: each name stands for a function of the type that it has in qemu-plugin.h in all versions from 1 to 6;
        // that of the bytes has the one that goes with the version.
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
                register_translate: function(c"qemu_plugin_register_vcpu_tb_trans_cb")?,
                register_begin: function(c"qemu_plugin_register_vcpu_init_cb")?,
                register_flush: function(c"qemu_plugin_register_flush_cb")?,
                register_call: function(c"qemu_plugin_register_vcpu_syscall_cb")?,
                register_return: function(c"qemu_plugin_register_vcpu_syscall_ret_cb")?,
            })
        }
    }
}

/// # Safety
/// The function of that name must have the type `F`, which is one of function pointers.
unsafe fn function<F: Copy>(name: &'static CStr) -> Result<F, &'static CStr> {
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

/// The newest version that this emulator can have. It refuses one that it does not know, and since 9.0 version 1.
pub(super) fn version_of_emulator() -> c_int {
    let has = |name| symbol(name).is_some();
    if has(c"qemu_plugin_set_pc") {
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
