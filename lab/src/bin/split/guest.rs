//! A guest of KVM that does nothing but split locks.

use anyhow::{Context, Result, bail};
use kvm_ioctls::VcpuExit;
use split_lock_lab::real_mode::{CODE, RealModeVcpu};
use vm_memory::{Bytes, GuestAddress};

use crate::Split;

/// Four bytes in two cache lines.
const OPERAND: u16 = 0x203e;

/// So many split locks in a row as ECX says, then the end.
fn code() -> Vec<u8> {
    let [low, high] = OPERAND.to_le_bytes();
    vec![
        0xf0, 0x66, 0x83, 0x06, low, high, 0x01, // 1: lock add dword [OPERAND], 1
        0x66, 0x49, // dec ecx
        0x75, 0xf5, // jnz 1b
        0xf4, // hlt
    ]
}

/// On a vCPU of a VM that has nothing else.
pub(crate) fn split(count: u32) -> Result<Split> {
    let mut guest = RealModeVcpu::new(&code(), count.into())?;
    loop {
        match guest.run() {
            Ok(VcpuExit::Hlt) => break,
            Ok(other) => bail!("the guest stopped with {other:?}"),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(error) => return Err(error).context("KVM_RUN failed"),
        }
    }
    Ok(Split {
        address: CODE,
        value: guest.memory().read_obj(GuestAddress(OPERAND.into()))?,
    })
}
