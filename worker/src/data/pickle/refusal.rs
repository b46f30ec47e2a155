//! What is not read of a pickle, and how that is said.

use super::Dialect;

/// Why a pickle is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleError {
    /// It ends early.
    #[error("the pickle ends in the middle (byte {at})")]
    Truncated {
        /// Offset of the last opcode.
        at: usize,
    },
    /// It wants something of Python's that is no plain value.
    #[error(
        "the pickle calls for '{name}' (byte {at}), which is refused: only {}dicts, lists, tuples, text and numbers are read, and no code is run",
        match dialect { Dialect::Numpy => "numpy arrays, ", Dialect::Torch => "tensors, argparse.Namespace, " }
    )]
    Refused {
        /// Module and name.
        name: String,
        /// Offset of the opcode.
        at: usize,
        /// What would have been read.
        dialect: Dialect,
    },
    /// An opcode that is not read.
    #[error("the pickle holds opcode {name} (byte {at}), which is not read")]
    Opcode {
        /// Its name or number.
        name: String,
        /// Offset.
        at: usize,
    },
    /// It contradicts itself.
    #[error("the pickle is broken at byte {at}: {what}")]
    Broken {
        /// What is wrong.
        what: &'static str,
        /// Offset.
        at: usize,
    },
}

/// Names of the opcodes that are refused, since they could run code or are of protocols 0 and 1.
pub(super) fn opcode_name(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        0x92 => "NEWOBJ_EX",
        b'P' => "PERSID",
        b'Q' => "BINPERSID",
        0x82 => "EXT1",
        0x83 => "EXT2",
        0x84 => "EXT4",
        b'I' => "INT",
        b'L' => "LONG",
        b'F' => "FLOAT",
        b'V' => "UNICODE",
        b'S' => "STRING",
        b'p' => "PUT",
        b'g' => "GET",
        0x8B => "LONG4",
        0x8F => "EMPTY_SET",
        0x90 => "ADDITEMS",
        0x91 => "FROZENSET",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        other => return format!("0x{other:02x}"),
    };
    name.to_owned()
}
