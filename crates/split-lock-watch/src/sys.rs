//! Everything of this crate that the compiler cannot check: perf's events, and the ring that the kernel writes
//! their records to; and the priority of a thread.

#![expect(
    unsafe_code,
    reason = "perf_event_open, its ioctls and its shared memory; the scheduler"
)]

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use perf_event_open_sys::bindings::{PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_event_mmap_page};
use perf_event_open_sys::{ioctls, perf_event_open};

/// An event on one CPU, whoever runs there, or of one thread.
#[derive(Debug)]
pub(crate) struct PerfEventFd(OwnedFd);

impl PerfEventFd {
    pub(crate) fn open(attributes: &perf_event_attr, cpu: u32) -> io::Result<Self> {
        const ANYBODY: libc::pid_t = -1;
        let cpu = i32::try_from(cpu).map_err(|_| io::ErrorKind::InvalidInput)?;
        Self::open_for(attributes, ANYBODY, cpu)
    }

    pub(crate) fn open_on_thread(attributes: &perf_event_attr, tid: u32) -> io::Result<Self> {
        const ANY_CPU: i32 = -1;
        let tid = libc::pid_t::try_from(tid).map_err(|_| io::ErrorKind::InvalidInput)?;
        Self::open_for(attributes, tid, ANY_CPU)
    }

    fn open_for(attributes: &perf_event_attr, tid: libc::pid_t, cpu: i32) -> io::Result<Self> {
        const NO_GROUP: RawFd = -1;
        let mut attributes = *attributes;
        attributes.size = size_of::<perf_event_attr>() as u32;
        let flags = PERF_FLAG_FD_CLOEXEC.into();
        // SAFETY: the attributes are a live structure of the size that they say, which the kernel
        // reads, and of which it writes at most the size.
        let fd = unsafe { perf_event_open(&raw mut attributes, tid, cpu, NO_GROUP, flags) };
        let fd = checked(fd)?;
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// What the kernel calls it in records.
    pub(crate) fn id(&self) -> io::Result<u64> {
        let mut id = 0;
        // SAFETY: the kernel writes the eight bytes of `id`, which outlives the call.
        checked(unsafe { ioctls::ID(self.raw(), &raw mut id) })?;
        Ok(id)
    }

    /// Only records of which this is true are written.
    pub(crate) fn set_filter(&self, filter: &str) -> io::Result<()> {
        let filter = CString::new(filter)?;
        // SAFETY: the kernel reads a string that ends with a zero, and does not write, whatever the type says.
        checked(unsafe { ioctls::SET_FILTER(self.raw(), filter.as_ptr().cast_mut()) })?;
        Ok(())
    }

    /// Records go to the ring of another event of this CPU.
    pub(crate) fn write_to_ring_of(&self, other: &PerfEventFd) -> io::Result<()> {
        // SAFETY: only descriptors go in, both of them alive.
        checked(unsafe { ioctls::SET_OUTPUT(self.raw(), other.raw()) })?;
        Ok(())
    }

    pub(crate) fn enable(&self) -> io::Result<()> {
        // SAFETY: no memory is involved.
        checked(unsafe { ioctls::ENABLE(self.raw(), 0) })?;
        Ok(())
    }

    pub(crate) fn disable(&self) -> io::Result<()> {
        // SAFETY: no memory is involved.
        checked(unsafe { ioctls::DISABLE(self.raw(), 0) })?;
        Ok(())
    }

    fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for PerfEventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn checked(returned: i32) -> io::Result<i32> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(returned)
}

/// The records of an event, and of those that write to its ring, in memory that the kernel shares.
///
/// The kernel writes at the head and never past the tail, which is moved by whoever has read. So what lies
/// between the two is not written while it is copied.
#[derive(Debug)]
pub(crate) struct Ring {
    base: NonNull<u8>,
    page: usize,
    /// A power of two.
    data: usize,
}

// SAFETY: the memory is this value's own, and the kernel does not mind which thread reads it.
unsafe impl Send for Ring {}

impl Ring {
    pub(crate) fn of(event: &PerfEventFd, bytes: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let data = bytes.max(page).checked_next_power_of_two();
        let data = data.ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping, at an address that the kernel chooses, so no memory of ours is replaced.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                page + data,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                event.raw(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, page, data })
    }

    /// Moves all whole records that there are to the end of `into`.
    pub(crate) fn drain(&mut self, into: &mut Vec<u8>) {
        let head = self.position(offset_of!(perf_event_mmap_page, data_head));
        let tail = self.position(offset_of!(perf_event_mmap_page, data_tail));
        // The records were written before the head was.
        let end = head.load(Ordering::Acquire);
        let begin = tail.load(Ordering::Relaxed);
        let count = (end.wrapping_sub(begin) as usize).min(self.data);
        let offset = begin as usize & (self.data - 1);
        let before_wrap = count.min(self.data - offset);
        self.copy(offset, before_wrap, into);
        self.copy(0, count - before_wrap, into);
        // From here on the kernel may write over what was copied.
        tail.store(end, Ordering::Release);
    }

    /// A word of the control page.
    fn position(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the first page of the mapping is the structure that the offset is one of.
        let word = unsafe { self.base.byte_add(offset) };
        // SAFETY: it is aligned as in the structure, lives as long as `self`, and both sides write it atomically.
        unsafe { AtomicU64::from_ptr(word.cast().as_ptr()) }
    }

    fn copy(&self, offset: usize, count: usize, into: &mut Vec<u8>) {
        into.reserve(count);
        // SAFETY: the data lie behind the first page, and the caller asks for a part of them.
        let from = unsafe { self.base.as_ptr().add(self.page + offset) };
        // SAFETY: there is room for `count` bytes behind those that the vector has.
        let to = unsafe { into.as_mut_ptr().add(into.len()) };
        // SAFETY: `count` bytes lie at `from`, which the kernel does not write before the tail is moved; `to` is
        // memory of the vector's, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(from, to, count) };
        // SAFETY: all of them have just been written.
        unsafe { into.set_len(into.len() + count) };
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: this mapping was made with this size, and nothing borrows from it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.page + self.data) };
    }
}

#[cfg(test)]
mod tests {
    use perf_event_open_sys::bindings::{
        PERF_COUNT_SW_CONTEXT_SWITCHES, PERF_SAMPLE_CPU, PERF_SAMPLE_IDENTIFIER, PERF_SAMPLE_RAW,
        PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_TYPE_SOFTWARE,
    };

    use super::*;
    use crate::source::record::{Record, records};

    fn switches_of_cpu_0(bytes: usize) -> Option<(PerfEventFd, Ring)> {
        let sample_type = PERF_SAMPLE_IDENTIFIER
            | PERF_SAMPLE_TID
            | PERF_SAMPLE_TIME
            | PERF_SAMPLE_CPU
            | PERF_SAMPLE_RAW;
        let mut attributes = perf_event_attr::default();
        attributes.type_ = PERF_TYPE_SOFTWARE;
        attributes.config = PERF_COUNT_SW_CONTEXT_SWITCHES.into();
        attributes.sample_type = sample_type.into();
        attributes.__bindgen_anon_1.sample_period = 1;
        attributes.set_disabled(1);
        let event = match PerfEventFd::open(&attributes, 0) {
            Ok(event) => event,
            Err(error) => {
                eprintln!("skipped: perf events are not to be had here: {error}");
                return None;
            }
        };
        let ring = Ring::of(&event, bytes).unwrap();
        event.enable().unwrap();
        Some((event, ring))
    }

    /// Two threads that wake each other on CPU 0.
    fn switch(times: usize) {
        let mut here = rustix::thread::CpuSet::new();
        here.set(0);
        let (to, from) = std::sync::mpsc::sync_channel(0);
        let other = std::thread::spawn(move || {
            rustix::thread::sched_setaffinity(None, &here).unwrap();
            from.iter().count()
        });
        rustix::thread::sched_setaffinity(None, &here).unwrap();
        (0..times).for_each(|_| to.send(()).unwrap());
        drop(to);
        assert_eq!(other.join().unwrap(), times);
    }

    #[test]
    fn records_come_whole_however_often_the_ring_wraps() {
        let Some((event, mut ring)) = switches_of_cpu_0(1 << 14) else {
            return;
        };
        let id = event.id().unwrap();
        let (mut samples, mut last) = (0, 0);
        for _ in 0..40 {
            switch(50);
            let mut bytes = vec![];
            ring.drain(&mut bytes);
            for record in records(&bytes, |_| false) {
                let Record::Sample(sample) = record else {
                    continue;
                };
                assert_eq!((sample.id, sample.cpu), (id, 0));
                assert!(sample.at_ns >= last, "the order of time");
                last = sample.at_ns;
                samples += 1;
            }
        }
        // 48 bytes each: several times around.
        assert!(samples > 1000, "{samples}");
    }

    #[test]
    fn a_ring_that_overruns_says_how_much_was_lost() {
        let Some((event, mut ring)) = switches_of_cpu_0(1) else {
            return;
        };
        switch(1000);
        let mut bytes = vec![];
        ring.drain(&mut bytes);
        assert!(bytes.len() <= rustix::param::page_size());
        // The loss is written as soon as there is room again.
        switch(20);
        event.disable().unwrap();
        ring.drain(&mut bytes);
        let lost: u64 = records(&bytes, |_| false)
            .map(|record| match record {
                Record::Lost(count) => count,
                _ => 0,
            })
            .sum();
        assert!(lost > 500, "{lost}");
    }
}

/// While this lives, its thread runs before all threads of the ordinary kind, where the kernel lets it.
#[derive(Debug)]
pub(crate) struct RealTimePriority {
    /// What it was before; none if it is what it was.
    before: Option<(libc::c_int, libc::sched_param)>,
    /// It is about the thread that it was made on.
    _not_send: PhantomData<*const ()>,
}

impl RealTimePriority {
    pub(crate) fn begin() -> Self {
        let mut param = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread, and `param` may be written.
        let policy = unsafe { libc::sched_getscheduler(0) };
        // SAFETY: the same.
        let is_known = policy >= 0 && unsafe { libc::sched_getparam(0, &raw mut param) } == 0;
        let before = (is_known
            && Self::set(libc::SCHED_RR, libc::sched_param { sched_priority: 1 }))
        .then_some((policy, param));
        Self {
            before,
            _not_send: PhantomData,
        }
    }

    fn set(policy: libc::c_int, param: libc::sched_param) -> bool {
        // SAFETY: 0 is the calling thread, and `param` is only read.
        unsafe { libc::sched_setscheduler(0, policy, &raw const param) == 0 }
    }
}

impl Drop for RealTimePriority {
    fn drop(&mut self) {
        if let Some((policy, param)) = self.before {
            Self::set(policy, param);
        }
    }
}
