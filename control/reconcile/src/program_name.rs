//! The name a policy program has in the kernel: a digest of all that it decides by.

use sha1::{Digest as _, Sha1};
use tortie_policy::compile::Compiled;

const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// `p` and 14 digits of 5 bits. Equal names: equal instructions and equal tables when it was loaded.
pub fn program_name(compiled: &Compiled) -> String {
    let mut digest = Sha1::new();
    // Maps by their role instead of by descriptor: the same program has the same bytes in every process.
    let code = compiled.program.link(|map| Some(map as i32)).unwrap_or_default();
    digest.update((code.len() as u64).to_le_bytes());
    digest.update(&code);
    for table in &compiled.tables {
        digest.update(table.map.name());
        digest.update(table.value_bytes.to_le_bytes());
        digest.update(table.max_entries.to_le_bytes());
        digest.update((table.data.len() as u64).to_le_bytes());
        digest.update(&table.data);
    }
    let digits = digest
        .finalize()
        .into_iter()
        .take(14)
        .map(|byte| char::from(DIGITS.get(usize::from(byte & 31)).copied().unwrap_or(b'0')));
    std::iter::once('p').chain(digits).collect()
}
