//! What is behind the ports of the guest's PC, as far as KVM does not see to it: a serial line, and
//! nothing else.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use kvm_ioctls::VmFd;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

const SERIAL_FIRST: u16 = 0x3f8;
const SERIAL_LAST: u16 = 0x3ff;
const SERIAL_INTERRUPT: u32 = 4;

/// A clock chip that shows 0 is never in the middle of an update, which a kernel would wait for.
const CLOCK_CHIP: u16 = 0x71;

/// Where there is nothing, every wire is high.
const NOTHING: u8 = 0xff;

pub(super) struct Devices {
    serial: Serial<Interrupt, NoEvents, Vec<u8>>,
    /// What somebody types, until the line has room for it.
    typed: VecDeque<u8>,
}

/// The serial line's wire to the interrupt controller.
struct Interrupt(Arc<VmFd>);

impl Trigger for Interrupt {
    type E = kvm_ioctls::Error;

    fn trigger(&self) -> Result<(), Self::E> {
        self.0.set_irq_line(SERIAL_INTERRUPT, true)?;
        self.0.set_irq_line(SERIAL_INTERRUPT, false)
    }
}

impl Devices {
    pub(super) fn new(vm: &Arc<VmFd>) -> Self {
        Self {
            serial: Serial::new(Interrupt(Arc::clone(vm)), vec![]),
            typed: VecDeque::new(),
        }
    }

    pub(super) fn write(&mut self, port: u16, data: &[u8]) {
        let (SERIAL_FIRST..=SERIAL_LAST, [value]) = (port, data) else {
            return;
        };
        // A vector takes every byte, and an interrupt that cannot be raised is one that is lost, as
        // it can be on a real wire.
        let _ = self.serial.write((port - SERIAL_FIRST) as u8, *value);
    }

    pub(super) fn read(&mut self, port: u16, data: &mut [u8]) {
        match (port, data) {
            (SERIAL_FIRST..=SERIAL_LAST, [value]) => {
                *value = self.serial.read((port - SERIAL_FIRST) as u8);
            }
            (CLOCK_CHIP, data) => data.fill(0),
            (_, data) => data.fill(NOTHING),
        }
    }

    /// What the guest has written to its serial line since this was last asked.
    pub(super) fn take_output(&mut self) -> Vec<u8> {
        mem::take(self.serial.writer_mut())
    }

    pub(super) fn enter(&mut self, text: &str) {
        self.typed.extend(text.bytes());
    }

    /// Hands over what was typed, as far as there is room.
    pub(super) fn deliver_typed(&mut self) {
        let room = self.serial.fifo_capacity().min(self.typed.len());
        if room == 0 {
            return;
        }
        let bytes: Vec<u8> = self.typed.iter().take(room).copied().collect();
        // While the line is in loop mode, as in a driver's test of it, it takes nothing.
        let taken = self.serial.enqueue_raw_bytes(&bytes).unwrap_or(0);
        self.typed.drain(..taken);
    }
}
