//! A split lock of the kernel itself: what it prints before it dies, line by line.

use crate::message::{decimal, hexadecimal_digits, split_digits};
use crate::{CodeAddress, KernelOops};

pub(crate) const SPLIT_LOCK_DETECTED: &[u8] = b"Split lock detected";

/// An oops has no more lines, modules and the call trace included; what is not there by then is missing.
const MOST_LINES: usize = 200;

/// No line that matters is longer: `Code:` has 64 bytes.
const LONGEST: usize = 512;

/// Whether a kernel's message begins an oops of this kind: the words, and maybe what stands before and behind.
pub(crate) fn begins(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"Oops: ").unwrap_or(text);
    let rest = text.strip_prefix(SPLIT_LOCK_DETECTED);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b": 0000 [#"))
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Collector {
    oops: KernelOops,
    lines: usize,
}

impl Collector {
    /// With the line that [begins](begins) it.
    pub(crate) fn new(first: &[u8]) -> Self {
        let mut collector = Self::default();
        collector.number(first);
        collector
    }

    /// Takes the next line, without what a logger has put before it. Whether it was the last.
    pub(crate) fn add(&mut self, text: &[u8]) -> bool {
        self.lines += 1;
        let text = text[..text.len().min(LONGEST)].trim_ascii();
        if text.starts_with(b": 0000 [#") {
            self.number(text);
        } else if let Some(rest) = text.strip_prefix(b"RIP: ") {
            self.rip(rest);
        } else if let Some(code) = text.strip_prefix(b"Code: ") {
            self.oops.code.get_or_insert_with(|| code.to_vec());
        } else if text.starts_with(b"CPU: ") {
            self.task(text);
        } else if text.starts_with(b"---[ end trace") {
            self.oops.is_complete = true;
        } else {
            self.registers(text);
        }
        self.oops.is_complete || self.lines >= MOST_LINES
    }

    pub(crate) fn finish(self) -> KernelOops {
        self.oops
    }

    /// `[#1]`
    fn number(&mut self, text: &[u8]) {
        let number = memchr::memmem::find(text, b"[#").and_then(|at| {
            let rest = &text[at + 2..];
            let end = memchr::memchr(b']', rest)?;
            u32::try_from(decimal(&rest[..end])?).ok()
        });
        self.oops.number = self.oops.number.or(number);
    }

    /// `CPU: 3 UID: 0 PID: 1234 Comm: insmod Tainted: G  OE  5.15.0 #122-Ubuntu`
    fn task(&mut self, text: &[u8]) {
        if self.oops.tid.is_some() {
            return;
        }
        let after = |name: &[u8]| {
            let at = memchr::memmem::find(text, name)?;
            Some(&text[at + name.len()..])
        };
        let number = |name| {
            let (digits, _) = split_digits(after(name)?, u8::is_ascii_digit);
            u32::try_from(decimal(digits)?).ok()
        };
        self.oops.cpu = number(b"CPU: ");
        self.oops.tid = number(b"PID: ");
        // A name may have spaces; it ends before what the kernel says of itself.
        self.oops.comm = after(b" Comm: ").map(|rest| {
            let ends: [&[u8]; 2] = [b" Tainted: ", b" Not tainted"];
            let end = ends.iter().find_map(|end| memchr::memmem::find(rest, end));
            rest[..end.unwrap_or(rest.len())].trim_ascii_end().to_vec()
        });
    }

    /// `0010:mydrv_set+0x1c/0x40 [mydrv]`: the first one of the kernel's own; the one of the program that had called
    /// it follows later.
    fn rip(&mut self, text: &[u8]) {
        if self.oops.rip.is_none() {
            self.oops.rip = text.strip_prefix(b"0010:").and_then(CodeAddress::read);
        }
    }

    /// `RDX: 0000000000000000 RSI: ...`, `RSP: 0018:ffffc90000123b48 EFLAGS: 00010246`
    fn registers(&mut self, text: &[u8]) {
        const NAMES: [&[u8]; 17] = [
            b"RAX", b"RBX", b"RCX", b"RDX", b"RSI", b"RDI", b"RBP", b"RSP", b"R08", b"R09", b"R10",
            b"R11", b"R12", b"R13", b"R14", b"R15", b"EFLAGS",
        ];
        let mut words = text
            .split(|&byte| byte == b' ')
            .filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let Some(name) = word.strip_suffix(b":") else {
                continue;
            };
            // After the trace those of the program that called follow; of each the first counts.
            let mut known = self.oops.registers.iter();
            let is_new = known.all(|(known, _)| known.as_bytes() != name);
            if !NAMES.contains(&name) || !is_new {
                continue;
            }
            let value = words.next().unwrap_or_default();
            let digits = value.rsplit(|&byte| byte == b':').next().unwrap_or(value);
            if let Some(value) = hexadecimal_digits(digits) {
                let name = String::from_utf8_lossy(name).into_owned();
                self.oops.registers.push((name, value));
            }
        }
    }
}

impl CodeAddress {
    /// Reads `mydrv_set+0x1c/0x40 [mydrv]`.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = text.trim_ascii();
        let end = text
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(text.len());
        let (place, rest) = text.split_at(end);
        let plus = memchr::memmem::find(place, b"+0x")?;
        let slash = plus + memchr::memmem::find(&place[plus..], b"/0x")?;
        let module = rest
            .trim_ascii_start()
            .strip_prefix(b"[")
            .and_then(|inside| {
                let end = memchr::memchr(b']', inside)?;
                // A build's id may follow the name.
                inside[..end].split(|&byte| byte == b' ').next()
            });
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(CodeAddress {
            function: text(&place[..plus]),
            offset: hexadecimal_digits(&place[plus + 3..slash])?,
            size: hexadecimal_digits(&place[slash + 3..])?,
            module: module.map(text),
        })
    }
}

impl std::fmt::Display for CodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{:#x}/{:#x}", self.function, self.offset, self.size)?;
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

impl KernelOops {
    /// The kernel's words for this, several lines.
    pub(crate) fn to_kernel_text(&self) -> Vec<u8> {
        let mut text = format!(
            "Oops: Split lock detected: 0000 [#{}]",
            self.number.unwrap_or(1)
        )
        .into_bytes();
        if let (Some(comm), Some(tid)) = (&self.comm, self.tid) {
            let cpu = self.cpu.unwrap_or(0);
            text.extend(format!("\nCPU: {cpu} PID: {tid} Comm: ").bytes());
            text.extend(comm);
            text.extend(b" Not tainted ");
        }
        if let Some(rip) = &self.rip {
            text.extend(format!("\nRIP: 0010:{rip}").bytes());
        }
        if let Some(code) = &self.code {
            text.extend([&b"\nCode: "[..], code].concat());
        }
        for (name, value) in &self.registers {
            text.extend(format!("\n{name}: {value:016x}").bytes());
        }
        if self.is_complete {
            text.extend(b"\n---[ end trace 0000000000000000 ]---");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(lines: &str) -> KernelOops {
        let mut lines = lines.lines();
        let first = lines.next().unwrap().as_bytes();
        assert!(begins(first));
        let mut collector = Collector::new(first);
        for line in lines {
            if collector.add(line.as_bytes()) {
                break;
            }
        }
        collector.finish()
    }

    const OOPS: &str = "Oops: Split lock detected: 0000 [#2] SMP NOPTI
CPU: 3 UID: 0 PID: 1234 Comm: my tool Tainted: G           OE      7.1.8 #1
RIP: 0010:skb_clone+0x159/0x1e0 [skb 0123abcd]
Code: 90 <f0> ff 42 20 c3
RSP: 0018:ffffc90000123b48 EFLAGS: 00010246
RAX: 0000000000000001 RDX: ffff88810000003e
---[ end trace 0000000000000000 ]---
RIP: 0033:0x7f0000000000";

    #[test]
    fn every_field_of_an_oops_is_read() {
        let oops = collected(OOPS);
        assert_eq!(oops.number, Some(2));
        assert_eq!(
            (oops.comm.as_deref(), oops.tid, oops.cpu),
            (Some(&b"my tool"[..]), Some(1234), Some(3))
        );
        let rip = oops.rip.unwrap();
        assert_eq!(rip.to_string(), "skb_clone+0x159/0x1e0 [skb]");
        assert_eq!(oops.code.as_deref(), Some(&b"90 <f0> ff 42 20 c3"[..]));
        let registers: Vec<_> = oops
            .registers
            .iter()
            .map(|(name, value)| (&name[..], *value))
            .collect();
        assert_eq!(
            registers,
            [
                ("RSP", 0xffff_c900_0012_3b48),
                ("EFLAGS", 0x10246),
                ("RAX", 1),
                ("RDX", 0xffff_8881_0000_003e)
            ]
        );
        assert!(oops.is_complete);
    }

    #[test]
    fn what_is_written_is_read() {
        let oops = collected(OOPS);
        let text = String::from_utf8(oops.to_kernel_text()).unwrap();
        assert_eq!(collected(&text), oops);
    }

    #[test]
    fn an_oops_may_be_cut_off_anywhere() {
        for end in SPLIT_LOCK_DETECTED.len() + 6..OOPS.len() {
            if let Some(first) = OOPS[..end].lines().next()
                && begins(first.as_bytes())
            {
                let oops = collected(&OOPS[..end]);
                assert!(
                    oops.tid
                        .is_none_or(|tid| 1234u32.to_string().starts_with(&tid.to_string()))
                );
            }
        }
    }

    #[test]
    fn other_oopses_do_not_begin_one() {
        for text in [
            "Oops: general protection fault: 0000 [#1]",
            "Kernel panic - not syncing: Split lock detected",
            "Split lock detected by me",
        ] {
            assert!(!begins(text.as_bytes()), "{text}");
        }
    }
}
