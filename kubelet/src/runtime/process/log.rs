//! A container's log in the CRI's format: `<RFC 3339 time> <stdout|stderr> <F|P> <line>`.
//!
//! A long line is cut into parts marked `P`. A file that grows over its bound is moved to
//! `<name>.1`, in place of the one there, as with the kubelet's rotation but a single old file.

use std::io;
use std::path::PathBuf;

use k8s_openapi::jiff::Timestamp;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

/// The open log of one run.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    written_bytes: u64,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("create log {}", path.display())]
pub(super) struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl LogFile {
    /// `<directory>/<restart>.log`; logs older than the run before are removed.
    pub(super) async fn create(directory: PathBuf, restart: u32) -> Result<Self, LogError> {
        let path = directory.join(format!("{restart}.log"));
        let failed = |source| LogError { path: path.clone(), source };
        tokio::fs::create_dir_all(&directory).await.map_err(failed)?;
        if let Some(old) = restart.checked_sub(2) {
            let _ = tokio::fs::remove_file(directory.join(format!("{old}.log"))).await;
            let _ = tokio::fs::remove_file(directory.join(format!("{old}.log.1"))).await;
        }
        let file = File::create(&path).await.map_err(failed)?;
        Ok(Self { path, file, written_bytes: 0 })
    }

    /// Write one line, or a part of one.
    pub(super) async fn line(
        &mut self,
        now: Timestamp,
        stream: &str,
        whole: bool,
        line: &[u8],
    ) -> io::Result<()> {
        let tag = if whole { "F" } else { "P" };
        let mut record = format!("{now:.9} {stream} {tag} ").into_bytes();
        record.extend_from_slice(line);
        record.push(b'\n');
        if self.written_bytes + record.len() as u64 > FILE_BYTES_MAX {
            self.rotate().await?;
        }
        self.written_bytes += record.len() as u64;
        self.file.write_all(&record).await?;
        self.file.flush().await
    }

    async fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        tokio::fs::rename(&self.path, &old).await?;
        self.file = File::create(&self.path).await?;
        self.written_bytes = 0;
        Ok(())
    }
}

/// The kubelet's `containerLogMaxSize` default, 10 Mi.
const FILE_BYTES_MAX: u64 = 10 << 20;
