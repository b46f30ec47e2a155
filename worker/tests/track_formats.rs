//! The bytes of TensorBoard's event files and of the log of Weights & Biases.

use std::fs;

use proptest::prelude::*;
use rocket_worker::track::wandb::Datastore;
use rocket_worker::track::{EventFile, Position, Record, RecordKind, masked_crc};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_event_file_is_what_tensorboard_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("events");
    let mut file = EventFile::create(&path, 1.5).expect("made");
    file.restart(2.5, 3).expect("written");
    file.scalars(&[Record {
        kind: RecordKind::Train,
        at: Position { step: 3, seen: 0 },
        time: 2.5,
        values: vec![("loss".to_owned(), 0.1), ("lr".to_owned(), 1e-3)],
    }])
    .expect("written");
    let bytes = fs::read(&path).expect("read");
    assert_eq!(hex(&bytes), include_str!("golden/track/events.hex").trim());
    let again = EventFile::create(&path, 1.5).expect_err("it is there");
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
    // CRC-32C of "123456789" is e3069283.
    assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
}

/// Records of a log, read as `log_format.md` says.
fn records(data: &[u8]) -> Vec<Vec<u8>> {
    assert_eq!(hex(&data[..7]), "3a572642e1be00");
    let (mut at, mut records, mut parts) = (7, Vec::new(), Vec::new());
    while at < data.len() {
        let left = 32768 - at % 32768;
        if left < 7 {
            assert!(data[at..at + left].iter().all(|byte| *byte == 0));
            at += left;
            continue;
        }
        let crc = u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"));
        let length = usize::from(u16::from_le_bytes([data[at + 4], data[at + 5]]));
        assert!(length + 7 <= left, "a record crosses the end of a block");
        let kind = data[at + 6];
        assert_eq!(crc, crc32fast::hash(&data[at + 6..at + 7 + length]));
        assert_eq!(matches!(kind, 1 | 2), parts.is_empty());
        parts.push(data[at + 7..at + 7 + length].to_vec());
        if matches!(kind, 1 | 4) {
            records.push(parts.concat());
            parts.clear();
        }
        at += 7 + length;
    }
    assert!(parts.is_empty());
    records
}

fn data(length: usize, salt: usize) -> Vec<u8> {
    (0..length)
        .map(|index| ((index + salt) % 251) as u8)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn records_of_any_length_are_read_back(
        lengths in prop::collection::vec(prop_oneof![0..80_usize, 32_700..32_800_usize, 60_000..70_000_usize], 1..8),
        cut in 0..9_usize,
    ) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("run.wandb");
        let all: Vec<Vec<u8>> = lengths.iter().enumerate().map(|(salt, length)| data(*length, salt)).collect();
        let cut = cut.min(all.len());
        let mut store = Datastore::create(&path).expect("made");
        store.append(&all[..cut]).expect("written");
        let end = store.len();
        store.append(&[data(5000, 7)]).expect("written");
        drop(store);
        // Killed in the middle of a record: what is not whole is cut off.
        let torn = fs::read(&path).expect("read");
        fs::write(&path, &torn[..torn.len() - 11]).expect("written");
        let mut store = Datastore::go_on(&path, end).expect("opened");
        store.append(&all[cut..]).expect("written");
        let bytes = fs::read(&path).expect("read");
        prop_assert_eq!(bytes.len() as u64, store.len());
        prop_assert_eq!(records(&bytes), all);
    }
}

#[test]
fn a_record_never_begins_in_the_last_bytes_of_a_block() {
    let dir = tempfile::tempdir().expect("a folder");
    for left in 0..16 {
        let path = dir.path().join(left.to_string());
        let mut store = Datastore::create(&path).expect("made");
        let all = [data(32768 - 7 - 7 - left, 1), data(40, 2), data(0, 3)];
        store.append(&all).expect("written");
        assert_eq!(
            records(&fs::read(&path).expect("read")),
            all,
            "{left} bytes left"
        );
    }
}
