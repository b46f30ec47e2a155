//! Values of a pickled list of samples, eight bytes each, and what they point to.

use std::borrow::Cow;

use super::calls::Known;

/// A value: its kind in the four high bits, below them a number, an offset in the file or an index. Text
/// stays in the file, where its opcode says how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell(u64);

/// Kinds of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    None = 0,
    Bool,
    /// A whole number of at most 60 bits.
    Int,
    /// A wider one, by its index.
    Wide,
    Float,
    /// By the offset of its opcode.
    Text,
    /// Text that lies nowhere in the file as it is, by its index.
    Owned,
    /// By the offset of its opcode.
    Bytes,
    /// By its index.
    OwnedBytes,
    List,
    Tuple,
    Dict,
    /// An array of numpy's, whose elements are those of a container.
    Array,
    /// By the text of its name.
    Dtype,
    Known,
}

const TAGS: [Tag; 15] = [
    Tag::None,
    Tag::Bool,
    Tag::Int,
    Tag::Wide,
    Tag::Float,
    Tag::Text,
    Tag::Owned,
    Tag::Bytes,
    Tag::OwnedBytes,
    Tag::List,
    Tag::Tuple,
    Tag::Dict,
    Tag::Array,
    Tag::Dtype,
    Tag::Known,
];

const PAYLOAD: u64 = (1 << 60) - 1;

impl Cell {
    pub(super) const NONE: Self = Self(0);
    /// No value at all.
    pub(super) const ABSENT: Self = Self(u64::MAX);

    pub(super) fn new(tag: Tag, payload: usize) -> Self {
        Self(((tag as u64) << 60) | (payload as u64 & PAYLOAD))
    }

    pub(super) fn tag(self) -> Tag {
        // No other tag is ever written.
        TAGS.get((self.0 >> 60) as usize)
            .copied()
            .unwrap_or(Tag::None)
    }

    pub(super) fn payload(self) -> usize {
        (self.0 & PAYLOAD) as usize
    }
}

/// Elements of a list, tuple, dict (keys and values in turn) or array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Container {
    start: usize,
    len: usize,
    room: usize,
}

/// What cells point to. Containers lie one after the other in one pool, and those that were made since a
/// [`Heap::mark`] can be let go of together.
#[derive(Debug, Default)]
pub struct Heap<'f> {
    pub(super) file: &'f [u8],
    containers: Vec<Container>,
    pool: Vec<Cell>,
    wide: Vec<i64>,
    owned: Vec<String>,
    owned_bytes: Vec<Vec<u8>>,
    /// Bytes of the last two.
    owned_size: usize,
    /// Containers that were let go of, which keep their numbers.
    gone_containers: usize,
    /// How many containers and elements there were at the mark, which stay.
    kept_containers: usize,
    kept_pool: usize,
}

impl<'f> Heap<'f> {
    pub(super) fn new(file: &'f [u8]) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    /// Text of a cell; parts that are no UTF-8 (Python's lone surrogates) become U+FFFD.
    #[must_use]
    pub fn text(&self, cell: Cell) -> Option<Cow<'_, str>> {
        match cell.tag() {
            Tag::Text => Some(String::from_utf8_lossy(self.raw(cell))),
            Tag::Owned => self
                .owned
                .get(cell.payload())
                .map(|text| Cow::Borrowed(text.as_str())),
            _ => None,
        }
    }

    /// The whole number of a cell.
    #[must_use]
    pub fn int(&self, cell: Cell) -> Option<i64> {
        match cell.tag() {
            // Shifted up and down again, for its sign.
            Tag::Int => Some(((cell.payload() as i64) << 4) >> 4),
            Tag::Wide => self.wide.get(cell.payload()).copied(),
            _ => None,
        }
    }

    /// Elements of a list, tuple or array of one axis.
    #[must_use]
    pub fn items(&self, cell: Cell) -> Option<&[Cell]> {
        matches!(cell.tag(), Tag::List | Tag::Tuple | Tag::Array)
            .then(|| self.elements(cell))
            .flatten()
    }

    /// Whether it is a dict.
    #[must_use]
    pub fn is_dict(&self, cell: Cell) -> bool {
        cell.tag() == Tag::Dict
    }

    /// Whether it is `None`.
    #[must_use]
    pub fn is_none(&self, cell: Cell) -> bool {
        cell.tag() == Tag::None
    }

    /// The value of a key of a dict; the last one, if it was written twice.
    #[must_use]
    pub fn get(&self, dict: Cell, key: &str) -> Option<Cell> {
        if dict.tag() != Tag::Dict {
            return None;
        }
        let pairs = self.elements(dict)?;
        pairs
            .chunks_exact(2)
            .rev()
            .find(|pair| self.is_text(pair[0], key))
            .map(|pair| pair[1])
    }

    pub(super) fn is_text(&self, cell: Cell, text: &str) -> bool {
        match cell.tag() {
            Tag::Text => self.raw(cell) == text.as_bytes(),
            Tag::Owned => self
                .owned
                .get(cell.payload())
                .is_some_and(|own| own == text),
            _ => false,
        }
    }

    /// Bytes of text or bytes in the file. The machine has checked that they are there.
    pub(super) fn raw(&self, cell: Cell) -> &'f [u8] {
        let at = cell.payload();
        let (width, start) = match self.file.get(at) {
            Some(0x8C | b'C' | b'U') => (1, at + 2),
            Some(0x8D | 0x8E | 0x96) => (8, at + 9),
            _ => (4, at + 5),
        };
        let length = self.file.get(at + 1..at + 1 + width).unwrap_or_default();
        let length = length
            .iter()
            .rev()
            .fold(0, |length, &byte| (length << 8) | usize::from(byte));
        start
            .checked_add(length)
            .and_then(|end| self.file.get(start..end))
            .unwrap_or_default()
    }

    pub(super) fn bytes(&self, cell: Cell) -> Option<&[u8]> {
        match cell.tag() {
            Tag::Bytes => Some(self.raw(cell)),
            Tag::OwnedBytes => self.owned_bytes.get(cell.payload()).map(Vec::as_slice),
            _ => None,
        }
    }

    /// Elements of whatever has some; `None` also if they were let go of.
    pub(super) fn elements(&self, cell: Cell) -> Option<&[Cell]> {
        let container = self.container(cell)?;
        self.pool
            .get(container.start..container.start + container.len)
    }

    fn index(&self, cell: Cell) -> Option<usize> {
        let number = cell.payload();
        if number < self.kept_containers {
            return Some(number);
        }
        number
            .checked_sub(self.gone_containers)
            .filter(|&at| at >= self.kept_containers)
    }

    fn container(&self, cell: Cell) -> Option<Container> {
        matches!(cell.tag(), Tag::List | Tag::Tuple | Tag::Dict | Tag::Array)
            .then(|| self.index(cell))
            .flatten()
            .and_then(|index| self.containers.get(index).copied())
    }

    /// Whether a cell is a container that was let go of.
    pub(super) fn is_gone(&self, cell: Cell) -> bool {
        matches!(cell.tag(), Tag::List | Tag::Tuple | Tag::Dict | Tag::Array)
            && self.index(cell).is_none()
    }

    pub(super) fn known(cell: Cell) -> Option<Known> {
        (cell.tag() == Tag::Known)
            .then(|| Known::ALL.get(cell.payload()).copied())
            .flatten()
    }

    pub(super) fn make(&mut self, tag: Tag, items: &[Cell]) -> Cell {
        let number = self.containers.len() + self.gone_containers;
        self.containers.push(Container {
            start: self.pool.len(),
            len: items.len(),
            room: items.len(),
        });
        self.pool.extend_from_slice(items);
        Cell::new(tag, number)
    }

    /// Appends to a container; false if it was let go of, or is older than the mark, since what is new then
    /// will be let go of.
    pub(super) fn append(&mut self, cell: Cell, items: &[Cell]) -> bool {
        let Some(index) = self.index(cell).filter(|&at| at >= self.kept_containers) else {
            return false;
        };
        let Some(mut container) = self.containers.get(index).copied() else {
            return false;
        };
        let end = container.start + container.len;
        if end == self.pool.len() {
            self.pool.extend_from_slice(items);
            container.room = container.room.max(container.len + items.len());
        } else if container.len + items.len() <= container.room {
            self.pool[end..end + items.len()].copy_from_slice(items);
        } else {
            // To the end of the pool, with room to grow so that many small pieces cost no more than once.
            let start = self.pool.len();
            self.pool.extend_from_within(container.start..end);
            self.pool.extend_from_slice(items);
            container.start = start;
            container.room = (container.len + items.len()) * 2;
            self.pool.resize(start + container.room, Cell::NONE);
        }
        container.len += items.len();
        self.containers[index] = container;
        true
    }

    /// Gives an array the elements of a list.
    pub(super) fn share(&mut self, array: Cell, list: Cell) {
        if let (Some(index), Some(container)) = (self.index(array), self.container(list)) {
            self.containers[index] = Container {
                room: container.len,
                ..container
            };
        }
    }

    pub(super) fn integer(&mut self, value: i64) -> Cell {
        if (value << 4) >> 4 == value {
            return Cell(((Tag::Int as u64) << 60) | (value as u64 & PAYLOAD));
        }
        self.wide.push(value);
        Cell::new(Tag::Wide, self.wide.len() - 1)
    }

    /// Keeps text that is not in the file; `None` if all such text together outgrows the file, which only a
    /// file made to do so can bring about.
    pub(super) fn own(&mut self, text: String) -> Option<Cell> {
        self.charge(text.len())?;
        self.owned.push(text);
        Some(Cell::new(Tag::Owned, self.owned.len() - 1))
    }

    pub(super) fn own_bytes(&mut self, bytes: Vec<u8>) -> Option<Cell> {
        self.charge(bytes.len())?;
        self.owned_bytes.push(bytes);
        Some(Cell::new(Tag::OwnedBytes, self.owned_bytes.len() - 1))
    }

    fn charge(&mut self, bytes: usize) -> Option<()> {
        self.owned_size += bytes;
        (self.owned_size <= self.file.len().saturating_mul(4)).then_some(())
    }

    /// From here on containers can be let go of.
    pub(super) fn mark(&mut self) {
        self.kept_containers = self.containers.len();
        self.kept_pool = self.pool.len();
    }

    /// Lets go of every container since the mark.
    pub(super) fn release(&mut self) {
        self.gone_containers += self.containers.len() - self.kept_containers;
        self.containers.truncate(self.kept_containers);
        self.pool.truncate(self.kept_pool);
    }
}
