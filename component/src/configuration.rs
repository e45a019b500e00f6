//! The file that a daemon is configured by: its size is bounded, and what is wrong with it is one line
//! that names it. What is in it is the daemon's own matter.

use std::fs;
use std::path::{Path, PathBuf};

/// A file larger than this is none; etcd would not keep such a ConfigMap either.
const FILE_BYTES_MAX: u64 = 3 << 20;

/// Why there is no configuration. The message names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Its syntax, or a field's type or name, is wrong.
    #[error("{}: {message}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Reads a file; `parse` says what is in it, or what is wrong with it.
///
/// # Errors
///
/// If it cannot be read, is larger than 3 MiB, or `parse` refuses it.
pub fn read_configuration<T>(
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, ConfigurationError> {
    let failed = |source| ConfigurationError::Read { path: path.to_path_buf(), source };
    let decode = |message| ConfigurationError::Decode { path: path.to_path_buf(), message };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        return Err(decode(format!("{size} bytes are too many for a configuration")));
    }
    parse(&fs::read(path).map_err(failed)?).map_err(decode)
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn what_is_wrong_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        let name = path.display();
        let parse = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "no text".into());

        let missing = read_configuration(&path, parse).unwrap_err();
        assert_eq!(missing.to_string(), format!("read {name}"));
        assert!(missing.source().is_some());

        fs::write(&path, "kind: X").unwrap();
        assert_eq!(read_configuration(&path, parse).unwrap(), "kind: X");
        fs::write(&path, [0xff]).unwrap();
        let refused = read_configuration(&path, parse).unwrap_err();
        assert_eq!(refused.to_string(), format!("{name}: no text"));

        fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        let large = read_configuration(&path, parse).unwrap_err();
        assert_eq!(
            large.to_string(),
            format!("{name}: 3145729 bytes are too many for a configuration")
        );
    }
}
