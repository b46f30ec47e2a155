//! Writes what `numpy.save` writes for an object array of dicts: a header and a pickle (protocol 3).

/// The npy file of a one-dimensional array of dicts `{"image_id": str, "captions": [str, ...]}`.
pub(crate) fn object_array<S: AsRef<str>>(samples: &[(S, Vec<String>)]) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': '|O', 'fortran_order': False, 'shape': ({},), }}",
        samples.len()
    );
    // Magic, version and length take 10 bytes; the whole is a multiple of 64 and ends with a newline.
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(
        u16::try_from(header.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    file.extend(header.bytes());

    // array = _reconstruct(ndarray, (0,), b"b"); array.__setstate__((1, (n,), dtype("O"), False, [...]))
    file.extend(
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R",
    );
    file.extend(b"(K\x01");
    int(&mut file, samples.len());
    file.extend(b"\x85cnumpy\ndtype\n");
    text(&mut file, "O8");
    file.extend(b"\x89\x88\x87R(K\x03");
    text(&mut file, "|");
    file.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb\x89](");
    for (image, captions) in samples {
        file.extend(b"}(");
        text(&mut file, "image_id");
        text(&mut file, image.as_ref());
        text(&mut file, "captions");
        file.extend(b"](");
        for caption in captions {
            text(&mut file, caption);
        }
        file.extend(b"eu");
    }
    file.extend(b"etb.");
    file
}

fn int(file: &mut Vec<u8>, value: usize) {
    file.push(b'J');
    file.extend(i32::try_from(value).unwrap_or(i32::MAX).to_le_bytes());
}

/// A pickled str.
pub(crate) fn text(file: &mut Vec<u8>, value: &str) {
    file.push(b'X');
    file.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    file.extend(value.bytes());
}
