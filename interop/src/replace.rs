//! Writing a file whole or not at all.
//!
//! A file that is written in place is half a file when the power goes, and a reader that has it mapped sees it change. So everything that
//! Kiln saves is written beside its place, synced, and renamed over it: at any moment there is the old file or the new one.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process;

/// How many names for the temporary file are tried: each is taken only where a process of this number was killed while it wrote.
const MAX_ATTEMPTS: u32 = 1000;

/// Replaces the file at `path`, or makes it, with what `write` writes.
///
/// The bytes go to a file in the same folder, whose name begins with a dot and ends in `.tmp`. It is synced and renamed to `path`, and then
/// the folder is synced, so that a crash leaves the old file or the new one, whole. A link at `path` is replaced, not followed. Only a
/// process that is killed leaves its temporary file behind.
///
/// # Errors
/// Those of `write` and of the system. The temporary file is then removed and `path` is as it was; only where syncing the folder failed is
/// the new file in its place already.
///
/// ```
/// use std::io::Write;
/// # let path = std::env::temp_dir().join(format!("kiln-replace-doc-{}", std::process::id()));
/// kiln_interop::replace_file(&path, |file| file.write_all(b"all of it"))?;
/// assert_eq!(std::fs::read(&path)?, b"all of it");
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn replace_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let (folder, name) = place(path)?;
    let (temporary, file) = create_beside(folder, name.to_owned())?;
    let written = fill(file, write).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The first error is the one to report; a file that cannot be removed either is only left behind.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder)
}

/// Whether [`replace_file`] could put a file at `path`, found out by making and removing its temporary file: for those who compute for hours
/// before they write.
///
/// # Errors
/// Those of the system, and a folder at `path`.
pub fn can_replace(path: &Path) -> io::Result<()> {
    let (folder, name) = place(path)?;
    if path.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let (temporary, _) = create_beside(folder, name.to_owned())?;
    fs::remove_file(temporary)
}

/// The folder and the name of a file.
fn place(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let Some(name) = path.file_name() else {
        let what = "the path does not end in the name of a file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    };
    // The parent of a bare name is the empty path.
    Ok(match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => (folder, name),
        Some(_) | None => (Path::new("."), name),
    })
}

fn create_beside(folder: &Path, name: OsString) -> io::Result<(PathBuf, File)> {
    let mut attempt = 0;
    loop {
        let mut hidden = OsString::from(".");
        hidden.push(&name);
        hidden.push(format!(".{}-{attempt}.tmp", process::id()));
        let path = folder.join(hidden);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && attempt < MAX_ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn fill(file: File, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    write(&mut file)?;
    file.flush()?;
    file.get_ref().sync_all()
}

/// A rename is an entry of its folder, which has to reach the disk as well.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere folders cannot be opened, and the system keeps renames in its journal.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("kiln-replace-{}-{name}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_writer_that_fails_halfway_leaves_the_old_file_and_nothing_else() {
        let folder = folder("fails");
        let path = folder.join("weights");
        replace_file(&path, |file| file.write_all(b"old")).unwrap();
        let error = replace_file(&path, |file| {
            file.write_all(&[0; 100_000])?;
            Err(io::Error::other("the tape is full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "the tape is full");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(&folder), ["weights"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_old_file_is_there_while_the_new_one_is_written() {
        let folder = folder("during");
        let path = folder.join("weights");
        replace_file(&path, |file| file.write_all(b"old")).unwrap();
        replace_file(&path, |file| {
            file.write_all(b"new")?;
            file.flush()?;
            assert_eq!(fs::read(&path)?, b"old");
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(&folder), ["weights"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_temporary_file_left_by_a_killed_process_is_in_nobody_s_way() {
        let folder = folder("killed");
        let path = folder.join("weights");
        let stale = folder.join(format!(".weights.{}-0.tmp", process::id()));
        fs::write(&stale, b"half").unwrap();
        replace_file(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(&stale).unwrap(), b"half", "nor is it touched");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn paths_that_name_no_file_are_refused() {
        assert!(replace_file(Path::new("/"), |_| Ok(())).is_err());
        let missing = folder("missing").join("no such folder").join("weights");
        let error = replace_file(&missing, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let kind = |path: &Path| can_replace(path).unwrap_err().kind();
        assert_eq!(kind(Path::new("/")), io::ErrorKind::InvalidInput);
        assert_eq!(kind(&missing), io::ErrorKind::NotFound);
        let folder = folder("tried");
        assert_eq!(kind(&folder), io::ErrorKind::IsADirectory);
        can_replace(&folder.join("weights")).unwrap();
        assert!(names(&folder).is_empty());
    }
}
