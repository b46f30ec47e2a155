//! The shared libraries that a binary loads from its own search path, as ld.so(8) would find them.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};
use object::{Endianness, ReadRef};
use rocket_common::error::{Error, Result};

/// What an ELF file says about what it loads.
#[derive(Debug, Default, Clone)]
struct Dynamic {
    needed: Vec<String>,
    rpath: Vec<String>,
    runpath: Vec<String>,
}

/// Libraries that `binary` loads, itself and through each other, found by the RPATH and RUNPATH in
/// the files: path by the name it is asked for. Those found only on the system's own path (libc,
/// libstdc++) are left out. `LD_LIBRARY_PATH` is not looked at, since ranks run without it.
///
/// # Errors
/// A file cannot be read.
pub fn libraries(binary: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut queue = VecDeque::from([(binary.to_path_buf(), Vec::<PathBuf>::new())]);
    while let Some((file, inherited)) = queue.pop_front() {
        let dynamic = read(&file)?;
        let origin = file.parent().unwrap_or(Path::new("/"));
        let runpath = expand(&dynamic.runpath, origin);
        // RPATH holds for what the library loads in turn; RUNPATH for itself alone, and a file that
        // has one ignores every RPATH.
        let mut rpaths = expand(&dynamic.rpath, origin);
        rpaths.extend(inherited);
        let search: &[PathBuf] = if runpath.is_empty() {
            &rpaths
        } else {
            &runpath
        };
        for name in dynamic.needed {
            if found.contains_key(&name) {
                continue;
            }
            let Some(path) = search
                .iter()
                .map(|dir| dir.join(&name))
                .find(|path| path.is_file())
            else {
                continue;
            };
            // The same name again is the same library; the real file names its own neighbours.
            let real = path
                .canonicalize()
                .map_err(|error| Error::io("read", &path, error))?;
            found.insert(name, real.clone());
            queue.push_back((real, rpaths.clone()));
        }
    }
    Ok(found)
}

/// The constants of a binary, where its texts lie. `None` if it is not an ELF file.
///
/// # Errors
/// The file cannot be read.
pub(super) fn constants(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = fs::File::open(path).map_err(|error| Error::io("read", path, error))?;
    let cache = object::ReadCache::new(file);
    Ok(read_only_data(&cache).map(<[u8]>::to_vec))
}

/// `.rodata`. Not by way of a whole parsed file: its symbols are many megabytes.
fn read_only_data<'data, R: ReadRef<'data>>(data: R) -> Option<&'data [u8]> {
    let header = FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, b".rodata")?;
    section.data(endian, data).ok()
}

fn expand(paths: &[String], origin: &Path) -> Vec<PathBuf> {
    let origin = origin.display().to_string();
    paths
        .iter()
        .flat_map(|paths| paths.split(':'))
        .filter(|path| !path.is_empty())
        .map(|path| {
            PathBuf::from(
                path.replace("${ORIGIN}", &origin)
                    .replace("$ORIGIN", &origin),
            )
        })
        .collect()
}

fn read(path: &Path) -> Result<Dynamic> {
    let failed = |error: object::Error| {
        Error::io(
            "read the libraries of",
            path,
            std::io::Error::other(error.to_string()),
        )
    };
    // Only the headers and the dynamic section are touched, but libraries are hundreds of megabytes.
    let file = fs::File::open(path).map_err(|error| Error::io("read", path, error))?;
    let cache = object::ReadCache::new(file);
    parse(&cache).map_err(failed)
}

fn parse<'data, R: ReadRef<'data>>(data: R) -> object::Result<Dynamic> {
    let Ok(header) = FileHeader64::<Endianness>::parse(data) else {
        // A script, say: it loads nothing.
        return Ok(Dynamic::default());
    };
    let endian = header.endian()?;
    let mut dynamic = Dynamic::default();
    let segments = header.program_headers(endian, data)?;
    let Some(entries) = segments
        .iter()
        .find_map(|segment| segment.dynamic(endian, data).transpose())
        .transpose()?
    else {
        return Ok(dynamic);
    };
    let sections = header.sections(endian, data)?;
    let Some((_, link)) = sections.dynamic(endian, data)? else {
        return Ok(dynamic);
    };
    let strings = sections.strings(endian, data, link)?;
    for entry in entries {
        let Some(tag) = entry.tag32(endian) else {
            continue;
        };
        let list = match i64::from(tag) {
            DT_NEEDED => &mut dynamic.needed,
            DT_RPATH => &mut dynamic.rpath,
            DT_RUNPATH => &mut dynamic.runpath,
            _ => continue,
        };
        list.push(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned());
    }
    Ok(dynamic)
}
