//! Files of torch.save that are damaged, cut short or wicked: each is refused with a sentence.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use rocket_worker::checkpoint::tensors;
use rocket_worker::exchange::{Form, PtCheckpoint, read, read_pt, write_pt, write_safetensors};
use tch::{Device, Kind, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A file of records, `data.pkl` among them.
fn archive(records: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in records {
        zip.start_file(format!("x/{name}"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn stored(records: &[(&str, &[u8])]) -> Vec<u8> {
    archive(records, CompressionMethod::Stored)
}

/// Why a file is not read, its folder left out.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt");
    fs::write(&path, bytes).unwrap();
    let error = read_pt(&path).expect_err("it is refused");
    let hints: String = error
        .hints()
        .iter()
        .map(|hint| format!("\nhint: {hint}"))
        .collect();
    format!("{error}{hints}").replace(&dir.path().display().to_string(), "DIR")
}

/// `{"x": tensor}` with this place in a storage of `numel` floats.
fn tensor_pickle(numel: u8, offset: u8, size: u8, stride: u8) -> Vec<u8> {
    let mut out = b"\x80\x02}(X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(
        b"X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK",
    );
    out.push(numel);
    out.extend(b"tQK");
    out.push(offset);
    out.extend([b'K', size, 0x85, b'K', stride, 0x85]);
    out.extend(b"\x89ccollections\nOrderedDict\n)RtRu.");
    out
}

fn small() -> PtCheckpoint {
    let floats = Tensor::arange(6, (Kind::Float, Device::Cpu));
    PtCheckpoint {
        model: vec![
            ("a".to_owned(), floats.view([2, 3])),
            ("tied".to_owned(), floats.view([2, 3])),
            ("transposed".to_owned(), floats.view([2, 3]).tr()),
            ("count".to_owned(), Tensor::from(-3i64)),
            (
                "none".to_owned(),
                Tensor::zeros([0, 2], (Kind::Half, Device::Cpu)),
            ),
        ],
        epoch: Some(300),
        best_acc1: Some(1.5),
        ..PtCheckpoint::default()
    }
}

fn bytes_of(checkpoint: &PtCheckpoint, form: Form) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt");
    write_pt(&path, checkpoint, form).unwrap();
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    fs::read(&path).unwrap()
}

fn by_name(checkpoint: PtCheckpoint) -> BTreeMap<String, Tensor> {
    checkpoint.model.into_iter().collect()
}

#[test]
fn what_is_written_is_read_in_every_form() {
    let dir = tempfile::tempdir().unwrap();
    let want = by_name(small());
    let same = |path: &Path| {
        let found = read(path).unwrap();
        assert_eq!(found.model.len(), want.len());
        for (name, tensor) in by_name(found) {
            assert_eq!(
                (tensor.size(), tensor.kind()),
                (want[&name].size(), want[&name].kind())
            );
            assert!(tensor.equal(&want[&name]), "{name}");
        }
    };
    let forms = [
        Form::Checkpoint { module: true },
        Form::Checkpoint { module: false },
        Form::StateDict,
    ];
    for form in forms {
        let path = dir.path().join("x.pt");
        write_pt(&path, &small(), form).unwrap();
        same(&path);
        let epoch = read(&path).unwrap().epoch;
        assert_eq!(epoch, (form != Form::StateDict).then_some(300));
    }
    let path = dir.path().join("x.safetensors");
    write_safetensors(&path, &small().model).unwrap();
    same(&path);
    assert_eq!(tensors::load(&path).unwrap().len(), want.len());
    // Written again, it is the same to the byte.
    let form = Form::Checkpoint { module: true };
    assert_eq!(bytes_of(&small(), form), bytes_of(&small(), form));
}

#[test]
fn code_is_refused_by_name() {
    let call = |line: &str| {
        let pickle = format!("\u{2}}}(X\u{1}\0\0\0xc{line}\n(X\u{2}\0\0\0idtRu.");
        refusal(&stored(&[(
            "data.pkl",
            &[b"\x80", pickle.as_bytes()].concat(),
        )]))
    };
    insta::assert_snapshot!(call("posix\nsystem"));
    assert!(call("builtins\neval").contains("calls for 'builtins.eval'"));
    assert!(call("models\nCL2L").contains("calls for 'models.CL2L'"));
    assert!(call("torch\nComplexFloatStorage").contains("'torch.ComplexFloatStorage'"));
    // Known as data only, whatever it is asked to do.
    assert!(call("torch\nFloatStorage").contains("it calls what is no function"));
}

#[test]
fn tensors_that_leave_their_storage_are_refused() {
    let file = |pickle: &[u8]| stored(&[("data.pkl", pickle), ("data/0", &[0; 16])]);
    let good = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pt");
        fs::write(&path, file(&tensor_pickle(4, 1, 3, 1))).unwrap();
        read_pt(&path).unwrap()
    };
    assert_eq!(good.model[0].1.size(), [3]);
    insta::assert_snapshot!(refusal(&file(&tensor_pickle(4, 2, 3, 1))));
    assert!(refusal(&file(&tensor_pickle(4, 0, 3, 2))).contains("reaches beyond its storage"));
    insta::assert_snapshot!(refusal(&file(&tensor_pickle(5, 0, 3, 1))));
    insta::assert_snapshot!(refusal(&stored(&[(
        "data.pkl",
        &tensor_pickle(4, 0, 3, 1)
    )])));
    // Nothing of 2^60 elements comes of 16 bytes.
    let mut huge = tensor_pickle(4, 0, 3, 0);
    let at = huge
        .windows(3)
        .position(|window| window == [b'K', 3, 0x85])
        .unwrap();
    huge.splice(at..at + 2, [0x8A, 8, 0, 0, 0, 0, 0, 0, 0, 0x10]);
    assert!(
        refusal(&file(&huge)).contains("repeats its storage too often"),
        "{}",
        refusal(&file(&huge))
    );
}

#[test]
fn other_files_are_refused_in_words() {
    insta::assert_snapshot!(refusal(b""));
    insta::assert_snapshot!(refusal(b"epoch,loss\n1,2\n"));
    let pickle = tensor_pickle(4, 0, 4, 1);
    let data = [0; 16];
    insta::assert_snapshot!(refusal(&archive(
        &[("data.pkl", &pickle), ("data/0", &data)],
        CompressionMethod::Deflated
    )));
    insta::assert_snapshot!(refusal(&stored(&[
        ("data.pkl", &pickle),
        ("data/0", &data),
        ("byteorder", b"big")
    ])));
    insta::assert_snapshot!(refusal(&stored(&[("weights", &data)])));
    insta::assert_snapshot!(refusal(&stored(&[(
        "data.pkl",
        b"\x80\x02}(X\x05\0\0\0epochK\x01u."
    )])));
    insta::assert_snapshot!(refusal(&stored(&[("data.pkl", b"\x80\x02]q\0h\0a.")])));
    // Arguments that hold themselves, and arguments that double with every level.
    let twice = |args: &[u8]| {
        let head = b"\x80\x02}(X\x0a\0\0\0state_dict}X\x04\0\0\0args}X\x01\0\0\0a";
        refusal(&stored(&[("data.pkl", &[head, args, b"su."].concat())]))
    };
    insta::assert_snapshot!(twice(b"]q\0h\0a"));
    let mut levels = b"]q\0".to_vec();
    for level in 0..25u8 {
        levels.extend([
            b'0',
            b']',
            b'q',
            level + 1,
            b'(',
            b'h',
            level,
            b'h',
            level,
            b'e',
        ]);
    }
    assert!(
        twice(&levels).contains("too many values"),
        "{}",
        twice(&levels)
    );
    let dir = tempfile::tempdir().unwrap();
    let missing = read_pt(&dir.path().join("none.pt"))
        .expect_err("it is missing")
        .to_string();
    assert!(
        missing.ends_with("none.pt': no such file or directory"),
        "{missing}"
    );
}

#[test]
fn no_cut_and_no_flipped_byte_gets_through_unseen() {
    let good = bytes_of(&small(), Form::Checkpoint { module: true });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pt");
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let error = read_pt(&path).expect_err("a part is no whole");
        assert!(error.to_string().contains("x.pt"), "{error}");
    }
    let want = by_name(small());
    let mut refused = 0;
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        // A flip in padding or in a date changes nothing; one that is read changes no value unseen.
        match read_pt(&path) {
            Err(_) => refused += 1,
            Ok(found) => {
                for (name, tensor) in by_name(found) {
                    assert!(want[&name].equal(&tensor), "byte {at} changed {name}");
                }
            }
        }
    }
    assert!(
        refused > good.len() / 3,
        "{refused} of {} flips were seen",
        good.len()
    );
    let at = good
        .windows(8)
        .position(|window| window == [0, 0, 0x80, 0x3F, 0, 0, 0, 0x40])
        .unwrap();
    let mut bytes = good;
    bytes[at] ^= 1;
    insta::assert_snapshot!(refusal(&bytes));
}
