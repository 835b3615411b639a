//! Ids in the kernel's own type information.
//!
//! Owns: one pass over `/sys/kernel/btf/vmlinux`, without building types in memory.

use std::io::{self, Read as _};

const PATH: &str = "/sys/kernel/btf/vmlinux";
const KIND_FUNC: u32 = 12;

/// A type could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BtfLookupError {
    /// No type information.
    #[error("{PATH}: {0}; the kernel needs CONFIG_DEBUG_INFO_BTF for this")]
    Missing(#[from] io::Error),
    /// Something else than type information.
    #[error("{PATH}: not in the form that is known here")]
    Damaged,
    /// This kernel does not have it.
    #[error("this kernel has no function {0}; it is too old for this")]
    NoFunction(String),
}

/// The id of a function.
pub fn function_id(name: &str) -> Result<u32, BtfLookupError> {
    let mut bytes = Vec::new();
    std::fs::File::open(PATH)?.read_to_end(&mut bytes)?;
    find_function(&bytes, name)
        .ok_or(BtfLookupError::Damaged)?
        .ok_or_else(|| BtfLookupError::NoFunction(name.to_owned()))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(word.try_into().ok()?))
}

/// Bytes that follow a type's 12-byte header (Documentation/bpf/btf.rst).
fn extra_bytes(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        1 | 14 | 17 => 4,                // INT, VAR, DECL_TAG
        3 => 12,                         // ARRAY
        4 | 5 | 15 | 19 => members * 12, // STRUCT, UNION, DATASEC, ENUM64
        6 | 13 => members * 8,           // ENUM, FUNC_PROTO
        2 | 7..=12 | 16 | 18 => 0,       // PTR, FWD, TYPEDEF, qualifiers, FUNC, FLOAT, TYPE_TAG
        _ => return None,
    })
}

/// Outer `None`: damaged; inner `None`: no such function.
fn find_function(bytes: &[u8], name: &str) -> Option<Option<u32>> {
    if bytes.get(..2)? != 0xeb9fu16.to_ne_bytes() {
        return None;
    }
    let header = word(bytes, 4)? as usize;
    let (types, types_len) = (header.checked_add(word(bytes, 8)? as usize)?, word(bytes, 12)? as usize);
    let strings = bytes.get(header.checked_add(word(bytes, 16)? as usize)?..)?;
    let types = bytes.get(types..types.checked_add(types_len)?)?;
    let (mut at, mut id) = (0, 1);
    while at < types.len() {
        let info = word(types, at + 4)?;
        let kind = (info >> 24) & 0x1f;
        if kind == KIND_FUNC {
            let text = strings.get(word(types, at)? as usize..)?;
            if text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0)) {
                return Some(Some(id));
            }
        }
        at += 12 + extra_bytes(kind, (info & 0xffff) as usize)?;
        id += 1;
    }
    Some(None)
}
