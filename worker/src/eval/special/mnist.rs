//! MNIST: IDX files (Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits").

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::{EvalError, Images, Layout, Places, Split, malformed, read_file};

/// Most bytes of a file that are read: the larger one has 47 MB.
const LIMIT: u64 = 256 << 20;

pub(super) fn read(places: &Places, split: Split) -> Result<Images, EvalError> {
    let stem = match split {
        Split::Train => "train",
        Split::Test => "t10k",
    };
    let file = |what: &str| {
        let names: Vec<String> = ["MNIST/raw/", "raw/", ""]
            .iter()
            .flat_map(|folder| {
                // The second form is what some unpackers make of the first.
                [
                    format!("{folder}{stem}-{what}-ubyte"),
                    format!("{folder}{stem}-{}-ubyte", what.replace("-idx", ".idx")),
                ]
            })
            .flat_map(|name| [name.clone(), name + ".gz"])
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        places.first(&names, &[])
    };
    let images_file = file("images-idx3")?;
    let labels_file = file("labels-idx1")?;
    let images = unpacked(&images_file)?;
    let labels = unpacked(&labels_file)?;
    let (sizes, pixels) = idx(&images_file, &images, 3)?;
    if sizes[1..] != [28, 28] {
        let problem = format!(
            "holds images of {} x {} pixels, but MNIST's are 28 x 28; this is another set",
            sizes[1], sizes[2]
        );
        return Err(malformed(&images_file, problem));
    }
    let (_, labels) = idx(&labels_file, &labels, 1)?;
    Images::new(
        Layout::Gray { side: 28 },
        pixels.to_vec(),
        labels.iter().map(|&label| usize::from(label)).collect(),
        images_file,
        10,
    )
}

fn unpacked(file: &Path) -> Result<Vec<u8>, EvalError> {
    let bytes = read_file(file)?;
    if !bytes.starts_with(&[0x1F, 0x8B]) {
        return Ok(bytes);
    }
    let mut out = Vec::new();
    GzDecoder::new(bytes.as_slice())
        .take(LIMIT)
        .read_to_end(&mut out)
        .map_err(|error| malformed(file, format!("cannot be unpacked: {error}; fetch it again")))?;
    Ok(out)
}

/// Sizes and elements of an IDX file of bytes: two zeros, the type (8), the number of axes, the
/// length of each as a big-endian number.
fn idx<'a>(file: &Path, bytes: &'a [u8], axes: usize) -> Result<(Vec<usize>, &'a [u8]), EvalError> {
    let refused = |what: &str| {
        malformed(
            file,
            format!("is no IDX file of bytes with {axes} axes: {what}; fetch it again"),
        )
    };
    let Some((head, rest)) = bytes.split_at_checked(4) else {
        return Err(refused("it ends in its header"));
    };
    if head[..3] != [0, 0, 8] || usize::from(head[3]) != axes {
        return Err(refused(&format!("it begins with {head:02x?}")));
    }
    let Some((sizes, elements)) = rest.split_at_checked(4 * axes) else {
        return Err(refused("it ends in its header"));
    };
    let sizes: Vec<usize> = sizes
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();
    let whole = sizes
        .iter()
        .try_fold(1_usize, |all, &size| all.checked_mul(size));
    if whole != Some(elements.len()) {
        return Err(refused(&format!(
            "its header says {sizes:?}, but {} bytes follow",
            elements.len()
        )));
    }
    Ok((sizes, elements))
}
