//! Compiled modules on disk, so that a program that was compiled once starts at once in the next process.
//!
//! wasmtime keeps them: the name of a file is a hash of the module, of the engine's version and of its settings, so
//! none is taken for another. What wasmtime does not find out is damage: a file in which a bit has flipped may still
//! unpack, and what comes out is machine code. So each file has a **seal**, its length and checksum in a file of its
//! own, and what does not match its seal is removed before the engine can look at it.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::{Cache, CacheConfig};

/// What tells a directory of this kind from others, and backup programs that it need not be kept. The first line is
/// from the Cache Directory Tagging Specification.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# Modules that refcap has compiled.\n";
const TAG_FILE: &str = "CACHEDIR.TAG";

/// How often a runtime found a compiled module on disk. [`Runtime::cache_use`](crate::Runtime::cache_use) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheUse {
    /// Modules that were there.
    pub hits: usize,
    /// Modules that had to be compiled, and are there now.
    pub misses: usize,
}

/// A directory of compiled modules.
pub(crate) struct CodeCache {
    /// wasmtime's part.
    pub(crate) engine: Cache,
    modules: PathBuf,
    seals: PathBuf,
    /// The misses after which everything was sealed.
    sealed: AtomicUsize,
}

impl CodeCache {
    /// Opens a directory, which is made where there is none, and removes what is damaged or was not put there by a
    /// cache like this one.
    pub(crate) fn open(directory: &Path) -> io::Result<CodeCache> {
        make_private(directory)?;
        let directory = directory.canonicalize()?;
        refuse_public(&directory)?;
        tag(&directory)?;
        // The engine removes what it does not know, so it has a folder of its own.
        let code = directory.join("code");
        let cache = CodeCache {
            modules: code.join("modules"),
            seals: directory.join("seals"),
            sealed: AtomicUsize::new(0),
            engine: {
                let mut config = CacheConfig::new();
                config.with_directory(code);
                // A file that is packed again, and better, would not match its seal.
                config.with_optimized_compression_usage_counter_threshold(u64::MAX);
                Cache::new(config).map_err(|error| io::Error::other(format!("{error:#}")))?
            },
        };
        cache.remove_unsealed()?;
        Ok(cache)
    }

    /// Seals what the engine has written since the last time. A file that can't be sealed is compiled again in the
    /// next process, and nothing else.
    pub(crate) fn seal(&self) {
        let misses = self.engine.cache_misses();
        if self.sealed.swap(misses, Ordering::Relaxed) == misses {
            return;
        }
        for file in self.files().unwrap_or_default() {
            let at = self.seal_of(&file);
            if let (false, Ok(seal)) = (at.exists(), seal(&file))
                && let Some(folder) = at.parent()
            {
                let _ = fs::create_dir_all(folder).and_then(|()| fs::write(&at, seal));
            }
        }
    }

    pub(crate) fn usage(&self) -> CacheUse {
        CacheUse {
            hits: self.engine.cache_hits(),
            misses: self.engine.cache_misses(),
        }
    }

    fn remove_unsealed(&self) -> io::Result<()> {
        for file in self.files()? {
            let expected = fs::read_to_string(self.seal_of(&file)).ok();
            if expected.is_none() || seal(&file).ok() != expected {
                remove(&file)?;
                remove(&self.seal_of(&file))?;
            }
        }
        Ok(())
    }

    /// All compiled modules. Each version of the engine has a folder of its own.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for version in entries(&self.modules)? {
            for file in entries(&version.path())? {
                // What has an extension is the engine's own book-keeping, or is being written.
                if file.path().extension().is_none() {
                    files.push(file.path());
                }
            }
        }
        Ok(files)
    }

    fn seal_of(&self, file: &Path) -> PathBuf {
        let place = file.strip_prefix(&self.modules).unwrap_or(file);
        self.seals.join(place)
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> io::Result<Vec<DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Makes an empty directory one of this kind, and refuses to take another for one: what is not sealed is removed.
fn tag(directory: &Path) -> io::Result<()> {
    let file = directory.join(TAG_FILE);
    if entries(directory)?.is_empty() {
        return fs::write(file, TAG);
    }
    match fs::read_to_string(file) {
        Ok(text) if text == TAG => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something else in it; use a directory that is empty or does not exist",
        )),
    }
}

/// The length and the checksum of a file: against damage. It would not help against somebody who may write here, who
/// could write a seal too.
fn seal(file: &Path) -> io::Result<String> {
    let bytes = fs::read(file)?;
    Ok(format!("{} {:08x}\n", bytes.len(), crc32fast::hash(&bytes)))
}

fn remove(file: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(file) {
        Ok(what) if what.is_dir() => fs::remove_dir_all(file),
        _ => fs::remove_file(file),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(unix)]
fn make_private(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

#[cfg(not(unix))]
fn make_private(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Whoever can write here can make this process run anything.
#[cfg(unix)]
fn refuse_public(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(directory)?.permissions().mode() & 0o002 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "everybody can write to it, and what lies there is run as machine code; `chmod o-w` it, or use another one",
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_public(_: &Path) -> io::Result<()> {
    Ok(())
}
