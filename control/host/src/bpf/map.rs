//! Maps by descriptor.

use super::sys::{self, Batch, Command, Element, bpf, bpf_fd, info_by_fd, object_name};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What to create.
#[derive(Clone, Copy, Debug)]
pub struct MapDef<'a> {
    /// Name shown by the kernel's tools (15 bytes).
    pub name: &'a str,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Key size in bytes.
    pub key_bytes: u32,
    /// Value size in bytes (one CPU's, for per-CPU maps).
    pub value_bytes: u32,
    /// `max_entries`.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
}

/// What the kernel says about a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Kernel-wide id.
    pub id: u32,
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Key size in bytes.
    pub key_bytes: u32,
    /// Value size in bytes (one CPU's, for per-CPU maps).
    pub value_bytes: u32,
    /// `max_entries`.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// Name, at most 15 bytes.
    pub name: String,
}

/// Whether an element may or must exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum Update {
    /// Create or replace.
    #[default]
    Any = 0,
    /// Fail with `EEXIST` when it exists.
    Create = 1,
    /// Fail with `ENOENT` when it does not.
    Replace = 2,
}

/// An open map. Keys and values are byte slices of exactly the map's sizes.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    info: MapInfo,
    value_stride: usize,
}

/// Where a batched lookup continues.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// As large as the kernel may write: a hash table stores 4 bytes, an array 4, a trie a key.
    position: Option<Vec<u8>>,
}

/// Keys and values that are read with one system call.
const READ_BYTES: usize = 1 << 18;

const PER_CPU_KINDS: [u32; 4] = [5, 6, 10, 21];
const RING_KINDS: [u32; 2] = [27, 31];
const MAPS_OF_OBJECTS: [u32; 3] = [3, 12, 13];

fn wrong_size() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

impl Map {
    /// Creates a map.
    pub fn create(def: &MapDef<'_>) -> io::Result<Self> {
        let mut attributes = sys::MapCreate {
            map_type: def.kind,
            key_size: def.key_bytes,
            value_size: def.value_bytes,
            max_entries: def.max_entries,
            map_flags: def.flags,
            name: object_name(def.name),
            ..Default::default()
        };
        // SAFETY: no addresses inside.
        let fd = unsafe { bpf_fd(Command::MapCreate, &mut attributes)? };
        Self::from_fd(fd)
    }

    /// Takes an open descriptor; fails when it is not a map's.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let i: sys::MapInfo = info_by_fd(fd.as_raw_fd())?;
        let info = MapInfo {
            id: i.id,
            kind: i.map_type,
            key_bytes: i.key_size,
            value_bytes: i.value_size,
            max_entries: i.max_entries,
            flags: i.map_flags,
            name: sys::name_text(&i.name),
        };
        let value_stride = match info.kind {
            kind if PER_CPU_KINDS.contains(&kind) => {
                (info.value_bytes as usize).next_multiple_of(8).saturating_mul(possible_cpus()?)
            }
            kind if MAPS_OF_OBJECTS.contains(&kind) => 4,
            _ => info.value_bytes as usize,
        };
        Ok(Self { fd, info, value_stride })
    }

    /// Opens a map by its kernel-wide id.
    pub fn by_id(id: u32) -> io::Result<Self> {
        let mut attributes = sys::ById { id, ..Default::default() };
        // SAFETY: no addresses inside.
        Self::from_fd(unsafe { bpf_fd(Command::MapById, &mut attributes)? })
    }

    /// Another descriptor of the same map.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, info: self.info.clone(), value_stride: self.value_stride })
    }

    /// Kernel memory it takes, bytes.
    pub fn memlock_bytes(&self) -> io::Result<u64> {
        sys::memlock(self.fd.as_raw_fd())
    }

    /// What the kernel says about it.
    pub fn info(&self) -> &MapInfo {
        &self.info
    }

    /// Bytes of one looked-up value: all CPUs' (each rounded up to 8) for per-CPU maps.
    pub fn value_stride(&self) -> usize {
        self.value_stride
    }

    fn key_ok(&self, key: &[u8]) -> io::Result<()> {
        if key.len() == self.info.key_bytes as usize && !RING_KINDS.contains(&self.info.kind) {
            Ok(())
        } else {
            Err(wrong_size())
        }
    }

    fn element(&self, key: &[u8], value: u64, flags: u64) -> Element {
        Element { map_fd: self.fd.as_raw_fd() as u32, zero: 0, key: key.as_ptr() as u64, value, flags }
    }

    /// Reads an element; `false` when there is none. `value` is [`Map::value_stride`] bytes long.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.key_ok(key)?;
        if value.len() != self.value_stride {
            return Err(wrong_size());
        }
        let mut attributes = self.element(key, value.as_mut_ptr() as u64, 0);
        // SAFETY: key and value have the sizes the kernel uses for this map.
        found(unsafe { bpf(Command::MapLookup, &mut attributes) })
    }

    /// Writes an element. In maps of programs or maps the value is a descriptor (4 bytes).
    pub fn update(&self, key: &[u8], value: &[u8], mode: Update) -> io::Result<()> {
        self.key_ok(key)?;
        if value.len() != self.value_stride {
            return Err(wrong_size());
        }
        let mut attributes = self.element(key, value.as_ptr() as u64, mode as u64);
        // SAFETY: key and value have the sizes the kernel uses for this map; it only reads.
        unsafe { bpf(Command::MapUpdate, &mut attributes)? };
        Ok(())
    }

    /// Puts a program, map or link into a slot of a map of such.
    pub fn set_fd(&self, slot: u32, object: BorrowedFd<'_>) -> io::Result<()> {
        self.update(&slot.to_ne_bytes(), &object.as_raw_fd().to_ne_bytes(), Update::Any)
    }

    /// Removes an element; `false` when there was none.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.key_ok(key)?;
        let mut attributes = self.element(key, 0, 0);
        // SAFETY: the key has the size the kernel uses for this map.
        found(unsafe { bpf(Command::MapDelete, &mut attributes) })
    }

    /// The key after `key` (the first for `None`); `false` at the end. A key that has vanished starts over.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.key_ok(next)?;
        if let Some(key) = key {
            self.key_ok(key)?;
        }
        let mut attributes = Element {
            map_fd: self.fd.as_raw_fd() as u32,
            zero: 0,
            key: key.map_or(0, |k| k.as_ptr() as u64),
            value: next.as_mut_ptr() as u64,
            flags: 0,
        };
        // SAFETY: both keys have the size the kernel uses for this map.
        found(unsafe { bpf(Command::MapNextKey, &mut attributes) })
    }

    /// Reads up to `keys.len() / key size` elements from `cursor` on. Returns how many, and whether
    /// the end was reached. `ENOSPC` asks for a larger buffer (a hash bucket does not fit).
    pub fn lookup_batch(
        &self,
        cursor: &mut Cursor,
        keys: &mut [u8],
        values: &mut [u8],
    ) -> io::Result<(usize, bool)> {
        let count = self.batch_count(keys.len(), values.len())?;
        let mut next = vec![0; (self.info.key_bytes as usize).max(16)];
        let mut attributes = Batch {
            in_batch: cursor.position.as_ref().map_or(0, |p| p.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count,
            map_fd: self.fd.as_raw_fd() as u32,
            ..Default::default()
        };
        // SAFETY: both buffers hold `count` elements; cursors are at least as long as a key and as
        // the 4 bytes that hash tables and arrays use.
        let result = unsafe { bpf(Command::LookupBatch, &mut attributes) };
        let end = !found(result)?;
        cursor.position = Some(next);
        Ok((attributes.count.min(count) as usize, end))
    }

    /// Reads every element, some at a time: `each` is given keys and, of the same elements, values. What comes or goes
    /// meanwhile may be among them or not.
    pub fn read_batches(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (key, value) = (self.info.key_bytes as usize, self.value_stride);
        let fit = READ_BYTES.checked_div(key.saturating_add(value)).unwrap_or(1);
        let mut room = fit.min(self.info.max_entries as usize).max(1);
        let buffers = |room: usize| (vec![0; room.saturating_mul(key)], vec![0; room.saturating_mul(value)]);
        let (mut keys, mut values) = buffers(room);
        let mut cursor = Cursor::default();
        loop {
            match self.lookup_batch(&mut cursor, &mut keys, &mut values) {
                Ok((count, end)) => {
                    let read = |bytes: usize| ..count.saturating_mul(bytes);
                    each(
                        keys.get(read(key)).unwrap_or_default(),
                        values.get(read(value)).unwrap_or_default(),
                    );
                    if end {
                        return Ok(());
                    }
                }
                // A bucket of a hash table has more elements than there is room for, but not more than the table.
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOSPC)
                        && room < self.info.max_entries as usize =>
                {
                    room = room.saturating_mul(2);
                    (keys, values) = buffers(room);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many elements there are, each read and none kept: the largest table costs the memory of one batch.
    pub fn count(&self) -> io::Result<usize> {
        let (key, mut elements) = (self.info.key_bytes as usize, 0);
        self.read_batches(|keys, _| elements += keys.chunks_exact(key).len())?;
        Ok(elements)
    }

    /// Writes `keys.len() / key size` elements. On an error, says how many were written before it.
    pub fn update_batch(&self, keys: &[u8], values: &[u8]) -> Result<(), (usize, io::Error)> {
        let count = self.batch_count(keys.len(), values.len()).map_err(|e| (0, e))?;
        self.write_batch(Command::UpdateBatch, keys.as_ptr() as u64, values.as_ptr() as u64, count)
    }

    /// Removes `keys.len() / key size` elements. On an error, says how many were removed before it.
    pub fn delete_batch(&self, keys: &[u8]) -> Result<(), (usize, io::Error)> {
        let key_bytes = self.info.key_bytes as usize;
        let count = keys.len().checked_div(key_bytes).unwrap_or(0);
        let values = count.saturating_mul(self.value_stride);
        let count = self.batch_count(keys.len(), values).map_err(|e| (0, e))?;
        self.write_batch(Command::DeleteBatch, keys.as_ptr() as u64, 0, count)
    }

    fn write_batch(
        &self,
        command: Command,
        keys: u64,
        values: u64,
        count: u32,
    ) -> Result<(), (usize, io::Error)> {
        let mut attributes =
            Batch { keys, values, count, map_fd: self.fd.as_raw_fd() as u32, ..Default::default() };
        // SAFETY: both buffers hold `count` elements (checked by the callers) and are only read.
        match unsafe { bpf(command, &mut attributes) } {
            Ok(_) => Ok(()),
            Err(error) => Err((attributes.count.min(count) as usize, error)),
        }
    }

    fn batch_count(&self, keys_len: usize, values_len: usize) -> io::Result<u32> {
        let count = keys_len.checked_div(self.info.key_bytes as usize).unwrap_or(0);
        let fits = count > 0
            && count.checked_mul(self.info.key_bytes as usize) == Some(keys_len)
            && count.checked_mul(self.value_stride) == Some(values_len)
            && !RING_KINDS.contains(&self.info.kind);
        if !fits {
            return Err(wrong_size());
        }
        u32::try_from(count).map_err(|_| wrong_size())
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// CPUs that may ever be: as many values a per-CPU element has.
pub fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let count = text.trim().split(',').map(range_length).sum::<Option<usize>>();
    count.filter(|n| *n > 0).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/sys/devices/system/cpu/possible holds {text:?}"))
    })
}

fn range_length(range: &str) -> Option<usize> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::range_length;

    #[test]
    fn cpu_ranges_count_both_ends() {
        assert_eq!(range_length("0-3"), Some(4));
        assert_eq!(range_length("7"), Some(1));
        assert_eq!(range_length("3-1"), None);
        assert_eq!(range_length("x"), None);
    }
}
