//! What a client and a pod server say to each other over a probed connection.
//!
//! Owns: the first line, the greeting, and the bytes that follow, with their check.
//! Does not: open sockets.
//! Invariant: what is received is compared with what must have been sent, byte by byte.

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

use crate::proto::Greeting;

/// The client's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Opening {
    /// One question, then that many bytes each way.
    Probe {
        /// How many.
        bytes: u64,
    },
    /// Records each way until one side ends it.
    Stream {
        /// Time between two records.
        interval_micros: u64,
    },
}

/// Longest line that either side reads.
const LONGEST_LINE: u64 = 4096;
const CHUNK: usize = 16 * 1024;

/// A value as one line.
pub fn line<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(text)
}

/// Reads one line, without its end.
pub async fn read_line<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<String> {
    let mut text = String::new();
    reader.take(LONGEST_LINE).read_line(&mut text).await?;
    if !text.ends_with('\n') {
        bail!("the peer closed before its first line ended");
    }
    Ok(text.trim_end().to_owned())
}

/// Reads the server's greeting.
pub async fn read_greeting<R: AsyncBufRead + Unpin>(reader: &mut R) -> Result<Greeting> {
    let text = read_line(reader).await?;
    serde_json::from_str(&text).with_context(|| format!("not a laboratory's server: {text:?}"))
}

/// Sends `total` bytes while receiving as many, and checks what came.
pub async fn exchange<R, W>(reader: &mut R, writer: &mut W, total: u64) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    tokio::try_join!(receive(reader, total), send(writer, total))?;
    Ok(())
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, total: u64) -> Result<()> {
    let mut sent = 0;
    while sent < total {
        let chunk = pattern(sent, (total - sent).min(CHUNK as u64));
        writer.write_all(&chunk).await.context("sending")?;
        sent += chunk.len() as u64;
    }
    Ok(())
}

async fn receive<R: AsyncRead + Unpin>(reader: &mut R, total: u64) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    while received < total {
        let most = usize::try_from((total - received).min(CHUNK as u64))?;
        let got = reader.read(buffer.get_mut(..most).unwrap_or_default()).await.context("receiving")?;
        let chunk = buffer.get(..got).unwrap_or_default();
        if got == 0 {
            bail!("the peer closed after {received} of {total} bytes");
        }
        if chunk != pattern(received, got as u64) {
            bail!("damaged between byte {received} and {}", received + got as u64);
        }
        received += got as u64;
    }
    Ok(())
}

/// The bytes at that offset. 251 is prime, so that a lost or doubled segment shifts them visibly.
pub fn pattern(offset: u64, length: u64) -> Vec<u8> {
    (offset..offset + length).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn damage_loss_and_an_early_end_are_noticed() {
        let check = |bytes: Vec<u8>| block_on(async move { receive(&mut bytes.as_slice(), 1000).await });
        let good = pattern(0, 1000);
        check(good.clone()).unwrap();
        let mut damaged = good.clone();
        damaged[500] ^= 1;
        let mut lost = pattern(0, 1100);
        lost.drain(100..200);
        for (bytes, expected) in
            [(damaged, "damaged"), (lost, "damaged"), (good[..999].to_vec(), "closed after 999")]
        {
            let error = check(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_first_line_that_never_ends_is_not_read_for_ever() {
        let endless = vec![b'x'; 100_000];
        assert!(block_on(async { read_line(&mut endless.as_slice()).await }).is_err());
    }
}
