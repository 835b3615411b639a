//! Writing on a journal, and saying in its heading how much of it is surely on the disk.
//!
//! Owns: the file that is written on, its heading, the thread that syncs. Does not: know what the lines say.
//! Invariant: from the moment a line is missing until it has been written, the heading vouches for nothing.

use super::journal::{self, Scan};
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// Between two syncs of the disk.
const PACE: Duration = Duration::from_secs(1);

/// A journal that is written on.
pub(super) struct Journal {
    heading: Arc<Heading>,
    /// The same file.
    out: Box<dyn Write + Send>,
    /// So long it is, up to the end of a line.
    length: u64,
    /// There may be a part of something behind that.
    torn: bool,
    written: mpsc::Sender<u64>,
}

/// The first line, which the thread writes that syncs, and whoever finds that something is missing.
struct Heading {
    file: Arc<File>,
    /// A journal that is shorter lacks something.
    least: Mutex<u64>,
}

impl Journal {
    /// Behind what counts of a journal that has been read; in a new file where it cannot be written on.
    pub fn begin(path: &Path, scan: &Scan) -> io::Result<Self> {
        if scan.fault.is_some() || scan.is_old || scan.length == 0 {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            return Self::anew(path, scan);
        }
        let file = fs::OpenOptions::new().write(true).open(path)?;
        // What an agent that died had begun to write.
        file.set_len(scan.length)?;
        Self::on(file)
    }

    /// Only what counts, in a new file.
    pub fn anew(path: &Path, scan: &Scan) -> io::Result<Self> {
        Self::on(journal::write_anew(path, scan)?)
    }

    fn on(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let file = Arc::new(file);
        let heading = Arc::new(Heading { file: Arc::clone(&file), least: Mutex::new(0) });
        let (written, lengths) = mpsc::channel();
        let same = Arc::clone(&heading);
        // Without the thread the lines are written, only nobody vouches for them.
        if let Err(error) =
            thread::Builder::new().name("cache".into()).spawn(move || same.keep_vouched(&lengths))
        {
            warn_of_power(&error);
        }
        Ok(Self { heading, out: Box::new(file), length, torn: false, written })
    }

    /// Writes lines behind it: all of them, or it is as if there were none.
    pub fn append<'l>(&mut self, lines: impl Iterator<Item = &'l str>) -> io::Result<()> {
        if self.torn {
            self.heading.file.set_len(self.length)?;
            (&*self.heading.file).seek(SeekFrom::Start(self.length))?;
        }
        self.torn = true;
        let mut length = self.length;
        let mut out = BufWriter::with_capacity(1 << 16, &mut self.out);
        for line in lines {
            out.write_all(line.as_bytes())?;
            length += line.len() as u64;
        }
        out.flush()?;
        drop(out);
        (self.length, self.torn) = (length, false);
        self.heading.own(length);
        let _ = self.written.send(length);
        Ok(())
    }

    /// Something is missing from it.
    pub fn disown(&self) -> io::Result<()> {
        self.heading.disown()?;
        // So that this reaches the disk as well.
        let _ = self.written.send(0);
        Ok(())
    }

    /// From now on so many bytes can be written, and no more.
    #[cfg(test)]
    pub fn limit(&mut self, room: Arc<std::sync::atomic::AtomicUsize>) {
        self.out = Box::new(tests::Disk { file: Arc::clone(&self.heading.file), room });
    }
}

impl Heading {
    /// Syncs what has been written, and only then says how long the journal surely is: never in the way of a change.
    fn keep_vouched(&self, lengths: &mpsc::Receiver<u64>) {
        while let Ok(length) = lengths.recv() {
            let length = lengths.try_iter().last().unwrap_or(length);
            if let Err(error) = self.file.sync_data().and_then(|()| self.vouch(length)) {
                warn_of_power(&error);
            }
            thread::sleep(PACE);
        }
    }

    fn vouch(&self, length: u64) -> io::Result<()> {
        let least = self.least.lock().unwrap_or_else(PoisonError::into_inner);
        if length < *least { Ok(()) } else { journal::vouch(&self.file, length) }
    }

    fn disown(&self) -> io::Result<()> {
        let mut least = self.least.lock().unwrap_or_else(PoisonError::into_inner);
        *least = journal::NEVER;
        journal::vouch(&self.file, journal::NEVER)
    }

    /// Nothing is missing any more, if it has this length.
    fn own(&self, length: u64) {
        let mut least = self.least.lock().unwrap_or_else(PoisonError::into_inner);
        *least = length.min(*least);
    }
}

fn warn_of_power(error: &io::Error) {
    tracing::warn!(%error, "a power failure may lose what is remembered of what is in force");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A disk with room for so many bytes.
    pub(super) struct Disk {
        pub file: Arc<File>,
        pub room: Arc<AtomicUsize>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = bytes.len().min(self.room.load(Ordering::SeqCst));
            if fits == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room.fetch_sub(fits, Ordering::SeqCst);
            (&*self.file).write(&bytes[..fits])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Whoever syncs may have been told of an older length before something was found to be missing.
    #[test]
    fn nobody_vouches_for_what_came_before_something_was_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let heading = Heading { file: Arc::new(File::create(&path).unwrap()), least: Mutex::new(0) };
        let is = |length: u64| fs::read_to_string(&path).unwrap() == format!("tortie kube 2 {length:016x}\n");
        heading.vouch(100).unwrap();
        assert!(is(100));
        heading.disown().unwrap();
        heading.vouch(150).unwrap();
        assert!(is(journal::NEVER));
        heading.own(200);
        heading.vouch(150).unwrap();
        assert!(is(journal::NEVER));
        heading.vouch(200).unwrap();
        assert!(is(200));
    }
}
