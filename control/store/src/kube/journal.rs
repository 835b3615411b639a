//! The form of the journal: a heading, then a line for each change.
//!
//! Owns: what heading and lines look like, reading them, writing a journal anew. Does not: know what is in force.
//! Invariant: damage before the length that the heading vouches for is noticed; behind it, where lines may not have
//! reached the disk, a journal ends with the first line that is not whole.

use crc::{CRC_32_ISCSI, Crc};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The first line begins so; then comes the length that is surely on the disk, in 16 hexadecimal digits.
const HEADING: &[u8] = b"tortie kube 2 ";
/// The first line of the form before, without checksums and without a length.
const OLD: &[u8] = b"tortie kube 1\n";
/// A length that no journal has: something could not be written to it.
pub(super) const NEVER: u64 = u64::MAX;
const CHECKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// What is in a line.
pub(super) enum Entry<'a> {
    /// The cluster it is of.
    Cluster(&'a str),
    /// An object as it is, by its name.
    Is(&'a str, &'a str),
    /// An object is gone.
    Gone(&'a str),
    /// Everything that was in force stands above.
    Complete,
}

impl Entry<'_> {
    /// The line.
    pub fn line(&self) -> String {
        let text = match self {
            Self::Cluster(uid) => format!("@{uid}"),
            Self::Is(key, object) => format!("+{key}\t{object}"),
            Self::Gone(key) => format!("-{key}"),
            Self::Complete => "=".to_owned(),
        };
        format!("{:08x} {text}\n", CHECKSUM.checksum(text.as_bytes()))
    }
}

fn entry(text: &str) -> Option<Entry<'_>> {
    let (first, rest) = text.split_at_checked(1)?;
    match (first, rest) {
        ("@", uid) => Some(Entry::Cluster(uid)),
        ("+", object) => object.split_once('\t').map(|(key, object)| Entry::Is(key, object)),
        ("-", key) => Some(Entry::Gone(key)),
        ("=", "") => Some(Entry::Complete),
        _ => None,
    }
}

/// What a journal says, without its objects.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Of each object the number of the line that counts.
    newest: HashMap<String, usize>,
    /// The cluster it is of.
    pub cluster: Option<String>,
    /// At some line everything that was in force stood in it.
    pub complete: bool,
    /// Its lines.
    pub lines: usize,
    /// So many bytes of it count.
    pub length: u64,
    /// It is of the form before.
    pub is_old: bool,
    /// Why it cannot be relied on.
    pub fault: Option<String>,
}

impl Scan {
    /// Nothing could be read.
    pub fn of_fault(fault: String) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// Objects that count.
    pub fn live(&self) -> usize {
        self.newest.len()
    }

    fn take(&mut self, number: usize, entry: &Entry<'_>) {
        match entry {
            Entry::Cluster(uid) => self.cluster = Some((*uid).to_owned()),
            Entry::Is(_, object) if self.is_old && !object.ends_with('}') => {}
            Entry::Is(key, _) => _ = self.newest.insert((*key).to_owned(), number),
            Entry::Gone(key) => _ = self.newest.remove(*key),
            Entry::Complete => self.complete = true,
        }
    }

    /// The length that the heading vouches for.
    fn begin(&mut self, heading: &[u8]) -> Option<u64> {
        if heading == OLD {
            // It does not say; it was relied on as it was.
            (self.is_old, self.complete) = (true, true);
            return Some(0);
        }
        let digits = heading.strip_prefix(HEADING)?.strip_suffix(b"\n")?;
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

/// Reads a journal as a whole.
pub(super) fn scan(path: &Path) -> io::Result<Scan> {
    let mut scan = Scan::of_fault("it is empty".into());
    let mut vouched = 0;
    walk(path, |number, start, line| {
        let end = start + line.len() as u64;
        if number == 0 {
            let known = scan.begin(line);
            scan.fault = known.is_none().then(|| "its first line is damaged, or of another version".into());
            (vouched, scan.length) = (known.unwrap_or(0), end);
            return Ok(known.is_some());
        }
        scan.lines += 1;
        match text(line, scan.is_old).as_deref().and_then(entry) {
            Some(entry) => scan.take(number, &entry),
            None if scan.is_old => {}
            None if start >= vouched => return Ok(false),
            None => _ = scan.fault.get_or_insert_with(|| format!("line {} is damaged", number + 1)),
        }
        scan.length = end;
        Ok(true)
    })?;
    if scan.length < vouched {
        let why = match vouched {
            NEVER => "not everything could be written to it".to_owned(),
            _ => format!("it ends after {} of {vouched} bytes", scan.length),
        };
        scan.fault.get_or_insert(why);
    }
    Ok(scan)
}

/// Every object that counts, as text; those that are not taken count no more. Gives the names of these.
pub(super) fn objects(
    path: &Path,
    scan: &mut Scan,
    mut take: impl FnMut(Value) -> bool,
) -> io::Result<Vec<String>> {
    let mut refused = Vec::new();
    counting(path, scan, |key, object| {
        if !serde_json::from_str(object).is_ok_and(&mut take) {
            refused.push(key.to_owned());
        }
        Ok(())
    })?;
    for key in &refused {
        scan.newest.remove(key);
    }
    Ok(refused)
}

/// Only what counts, in a new file in the place of whatever is there. Gives that file, to be written on.
pub(super) fn write_anew(path: &Path, scan: &Scan) -> io::Result<File> {
    let temporary = path.with_extension("tmp");
    let written = fill(&temporary, path, scan).and_then(|file| fs::rename(&temporary, path).map(|()| file));
    let file = written.inspect_err(|_| {
        // What is left of a full disk would only take more of it.
        let _ = fs::remove_file(&temporary);
    })?;
    // The new file is in force for whoever reads it, whatever comes of this.
    if let Some(directory) = path.parent()
        && let Err(error) = File::open(directory).and_then(|directory| directory.sync_all())
    {
        tracing::warn!(%error, "a power failure may bring back an older journal of what is in force");
    }
    Ok(file)
}

fn fill(temporary: &Path, path: &Path, scan: &Scan) -> io::Result<File> {
    let mut out = BufWriter::new(File::create(temporary)?);
    out.write_all(&heading(NEVER))?;
    if let Some(cluster) = &scan.cluster {
        out.write_all(Entry::Cluster(cluster).line().as_bytes())?;
    }
    let mut missing = scan.live();
    if missing > 0 {
        counting(path, scan, |key, object| {
            missing = missing.saturating_sub(1);
            out.write_all(Entry::Is(key, object).line().as_bytes())
        })?;
    }
    if missing > 0 {
        return Err(io::Error::other("it is not what it was when it was read"));
    }
    if scan.complete {
        out.write_all(Entry::Complete.line().as_bytes())?;
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    vouch(&file, file.metadata()?.len())?;
    file.sync_all()?;
    Ok(file)
}

/// Says how long the journal surely is on its disk.
pub(super) fn vouch(file: &File, length: u64) -> io::Result<()> {
    file.write_all_at(&heading(length), 0)
}

fn heading(length: u64) -> Vec<u8> {
    [HEADING, format!("{length:016x}\n").as_bytes()].concat()
}

/// What a line says; `None`: it is not whole.
fn text(line: &[u8], is_old: bool) -> Option<Cow<'_, str>> {
    if is_old {
        return Some(String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line)));
    }
    let (sum, text) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let is_whole = u32::from_str_radix(sum, 16).ok()? == CHECKSUM.checksum(text);
    is_whole.then(|| std::str::from_utf8(text).ok()).flatten().map(Cow::Borrowed)
}

/// Visits every object that counts by its name.
fn counting(path: &Path, scan: &Scan, mut visit: impl FnMut(&str, &str) -> io::Result<()>) -> io::Result<()> {
    walk(path, |number, _, line| {
        if let Some(text) = text(line, scan.is_old)
            && let Some(Entry::Is(key, object)) = entry(&text)
            && scan.newest.get(key) == Some(&number)
        {
            visit(key, object)?;
        }
        Ok(true)
    })
}

/// Visits every line with its number and the place where it begins, until that is enough.
fn walk(path: &Path, mut visit: impl FnMut(usize, u64, &[u8]) -> io::Result<bool>) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let (mut number, mut start, mut line) = (0, 0, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        if !visit(number, start, &line)? {
            break;
        }
        (number, start) = (number + 1, start + line.len() as u64);
        line.clear();
    }
    Ok(())
}
