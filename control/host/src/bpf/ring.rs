//! Reading a ring buffer.
//!
//! Invariant: a record is copied out before its space is given back; positions only grow.

use super::map::Map;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const RINGBUF: u32 = 27;
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER: u64 = 8;

/// The consumer of a ring buffer map. There is one for each map.
#[derive(Debug)]
pub struct RingBuffer {
    map: Map,
    consumer: Mapping,
    /// The producer's page, then the data twice in a row, so that no record is split.
    producer: Mapping,
    page: usize,
    data_bytes: u64,
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is shared memory that belongs to this value alone in this process; every access is
// through atomics or copies.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, length: usize, offset: usize, writable: bool) -> io::Result<Self> {
        let protection = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        // SAFETY: a new mapping of a descriptor that we hold; nothing existing is replaced.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd.as_raw_fd(), offset)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::EFAULT))?;
        Ok(Self { start, length })
    }

    fn counter(&self) -> &AtomicU64 {
        // SAFETY: a mapping starts on a page boundary and is at least a page long.
        unsafe { self.start.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody has references into it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

impl RingBuffer {
    /// Opens the reading end. Reading goes on where the last reader stopped.
    pub fn open(map: Map) -> io::Result<Self> {
        let data_bytes = map.info().max_entries;
        if map.info().kind != RINGBUF || !data_bytes.is_power_of_two() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: asks for a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(|_| io::Error::last_os_error())?;
        let consumer = Mapping::new(map.as_fd(), page, 0, true)?;
        let both = (data_bytes as usize).saturating_mul(2).saturating_add(page);
        let producer = Mapping::new(map.as_fd(), both, page, false)?;
        Ok(Self { map, consumer, producer, page, data_bytes: u64::from(data_bytes) })
    }

    /// The next record, copied into `record` (whose old content goes); `false` when there is none now.
    pub fn next(&mut self, record: &mut Vec<u8>) -> bool {
        loop {
            let position = self.consumer.counter().load(Ordering::Relaxed);
            let produced = self.producer.counter().load(Ordering::Acquire);
            if position >= produced {
                return false;
            }
            let header = self.header(position);
            if header & BUSY != 0 {
                return false;
            }
            let length = header & !(BUSY | DISCARD);
            let kept = header & DISCARD == 0;
            if kept {
                self.copy(position, length, record);
            }
            let step = (u64::from(length) + HEADER).next_multiple_of(8);
            self.consumer.counter().store(position.wrapping_add(step), Ordering::Release);
            if kept {
                return true;
            }
        }
    }

    fn offset(&self, position: u64) -> usize {
        // Less than the ring's length, which is a u32.
        self.page + (position & (self.data_bytes - 1)) as usize
    }

    fn header(&self, position: u64) -> u32 {
        // SAFETY: the offset is inside the first copy of the data, and records are 8-byte aligned.
        let header = unsafe { self.producer.start.add(self.offset(position)).cast::<AtomicU32>().as_ref() };
        header.load(Ordering::Acquire)
    }

    fn copy(&self, position: u64, length: u32, record: &mut Vec<u8>) {
        record.clear();
        let start = self.offset(position) + HEADER as usize;
        let length = (length as usize).min(self.producer.length.saturating_sub(start));
        // SAFETY: inside the mapping by the line above; the kernel does not touch a finished record until
        // the consumer's position has passed it.
        let bytes = unsafe { std::slice::from_raw_parts(self.producer.start.add(start).as_ptr(), length) };
        record.extend_from_slice(bytes);
    }
}

impl AsFd for RingBuffer {
    /// Becomes readable when there is a record.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl AsRawFd for RingBuffer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.map.as_fd().as_raw_fd()
    }
}
