//! A YAML file as a tree that knows where each key and value was written.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{Place, Report};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Plain, or quoted and then always a text.
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// Keys in the order they were written.
    Map(Vec<Entry>),
}

/// A key, its place and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) node: Node,
}

/// Deeper than any experiment, shallow enough for recursion.
const MAX_DEPTH: usize = 32;
/// More values than any experiment; stops aliases of aliases of aliases.
const MAX_NODES: usize = 100_000;

impl Node {
    pub(crate) fn empty_map(place: Place) -> Self {
        Self {
            place,
            value: Value::Map(Vec::new()),
        }
    }

    /// Whether nothing was written, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value of a dotted key.
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        path.split('.')
            .try_fold(self, |node, key| Some(&node.entry(key)?.node))
    }

    /// The value of a dotted key, to change it.
    pub(crate) fn get_mut(&mut self, path: &str) -> Option<&mut Node> {
        path.split('.')
            .try_fold(self, |node, key| match &mut node.value {
                Value::Map(entries) => {
                    let mut entries = entries.iter_mut();
                    entries
                        .find(|entry| entry.key == key)
                        .map(|entry| &mut entry.node)
                }
                _ => None,
            })
    }

    /// Place of the value of a dotted key, else of the nearest key above it that was written.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let mut node = self;
        let mut place = Place::default();
        for key in path.split('.') {
            let Some(entry) = node.entry(key) else { break };
            node = &entry.node;
            place = match node.value {
                Value::Map(_) => entry.place,
                _ => node.place,
            };
        }
        place
    }

    /// Nodes in this tree.
    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.count()).sum(),
        }
    }

    fn depth(&self) -> usize {
        1 + match &self.value {
            Value::Scalar { .. } => 0,
            Value::List(items) => items.iter().map(Node::depth).max().unwrap_or(0),
            Value::Map(entries) => {
                let depths = entries.iter().map(|entry| entry.node.depth());
                depths.max().unwrap_or(0)
            }
        }
    }

    /// Says where a key stands twice in one group, and keeps the first.
    pub(crate) fn report_duplicates(&mut self, path: &str, report: &mut Report) {
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => {
                for item in items {
                    item.report_duplicates(path, report);
                }
            }
            Value::Map(entries) => {
                let mut seen: HashMap<String, usize> = HashMap::new();
                entries.retain(|entry| {
                    let Some(line) = seen.get(&entry.key) else {
                        seen.insert(entry.key.clone(), entry.place.line);
                        return true;
                    };
                    let key = join(path, &entry.key);
                    let first = match line {
                        0 => String::new(),
                        line => format!(" (first on line {line})"),
                    };
                    let message = format!("'{key}' is given twice{first}; remove one");
                    report.add(entry.place, message);
                    false
                });
                for entry in entries {
                    entry
                        .node
                        .report_duplicates(&join(path, &entry.key), report);
                }
            }
        }
    }

    /// Puts a value at a dotted key, making the groups on the way.
    ///
    /// # Errors
    /// A key on the way holds something else than keys; its path is given back.
    pub(crate) fn set(&mut self, path: &str, place: Place, new: Node) -> Result<(), String> {
        let mut node = self;
        let mut walked = String::new();
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            if node.is_null() {
                node.value = Value::Map(Vec::new());
            }
            let Value::Map(entries) = &mut node.value else {
                return Err(walked);
            };
            walked = join(&walked, key);
            let at = entries.iter().position(|entry| entry.key == key);
            let at = at.unwrap_or_else(|| {
                entries.push(Entry {
                    key: key.to_owned(),
                    place,
                    node: Node::empty_map(place),
                });
                entries.len() - 1
            });
            if keys.peek().is_none() {
                entries[at].place = place;
                entries[at].node = new;
                return Ok(());
            }
            node = &mut entries[at].node;
        }
        Ok(())
    }

    /// Says of the whole tree which file it is from.
    pub(crate) fn set_origin(&mut self, origin: usize) {
        self.place.origin = origin;
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.set_origin(origin)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.place.origin = origin;
                    entry.node.set_origin(origin);
                }
            }
        }
    }

    /// Gives the whole tree one place.
    pub(crate) fn relocate(&mut self, place: Place) {
        self.place = place;
        match &mut self.value {
            Value::Scalar { .. } => {}
            Value::List(items) => items.iter_mut().for_each(|item| item.relocate(place)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.place = place;
                    entry.node.relocate(place);
                }
            }
        }
    }
}

/// `a.b`, or `b` at the top.
pub(crate) fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

/// Reads one YAML document. An empty one is an empty group.
///
/// # Errors
/// Text that is not YAML: the first place where it is not, and why.
pub(crate) fn load(text: &str) -> Result<Node, (Place, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::default();
    let start = Place {
        origin: 0,
        line: 1,
        column: 1,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let place = Place {
                origin: 0,
                line: error.marker().line(),
                column: error.marker().col() + 1,
            };
            (place, syntax_words(text, place, error.info()))
        })?;
        builder.take(event, span)?;
    }
    Ok(builder.root.unwrap_or_else(|| Node::empty_map(start)))
}

/// Reads the groups of keys of an experiment, and says what is given twice in one.
pub(crate) fn root(text: &str, report: &mut Report) -> Option<Node> {
    let mut root = match load(text) {
        Ok(root) => root,
        Err((place, message)) => {
            report.add(place, message);
            return None;
        }
    };
    if root.is_null() {
        root = Node::empty_map(root.place);
    }
    if !matches!(root.value, Value::Map(_)) {
        let message = "an experiment is a group of keys such as 'name: demo'";
        report.add(root.place, message);
        return None;
    }
    root.report_duplicates("", report);
    Some(root)
}

/// A tab in the indentation is the one mistake that YAML parsers name least clearly.
fn syntax_words(text: &str, place: Place, info: &str) -> String {
    let indented_by_tab = |line: &str| {
        let content = line.trim_start_matches([' ', '\t']);
        line[..line.len() - content.len()].contains('\t')
    };
    // The parser may stop at the line or right after it.
    let lines = text.lines().skip(place.line.saturating_sub(2)).take(2);
    if lines.into_iter().any(indented_by_tab) {
        return "a tab is used for indentation; YAML wants spaces".to_owned();
    }
    format!("this is not YAML: {info}")
}

/// A list or group that is being read.
struct Frame {
    anchor: usize,
    place: Place,
    items: Vec<Node>,
    entries: Vec<Entry>,
    is_map: bool,
    key: Option<(String, Place)>,
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
}

type Refusal = (Place, String);

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Refusal> {
        let place = Place {
            origin: 0,
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                let message = "a second YAML document starts here; an experiment file holds one";
                Err((place, message.to_owned()))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = tag.is_some_and(|tag| tag.suffix == "str");
                let value = Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain && !is_text,
                };
                self.add(Node { place, value }, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.add(node, 0),
                None => Err((
                    place,
                    "an alias refers to a value that contains it".to_owned(),
                )),
            },
            Event::SequenceStart(anchor, _) => self.open(place, anchor, false),
            Event::MappingStart(anchor, _) => self.open(place, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.frames.pop() else {
                    return Ok(());
                };
                let value = if frame.is_map {
                    Value::Map(frame.entries)
                } else {
                    Value::List(frame.items)
                };
                let place = frame.place;
                self.add(Node { place, value }, frame.anchor)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, place: Place, anchor: usize, is_map: bool) -> Result<(), Refusal> {
        if self.frames.len() >= MAX_DEPTH {
            return Err((place, "values are nested too deeply here".to_owned()));
        }
        self.frames.push(Frame {
            anchor,
            place,
            items: Vec::new(),
            entries: Vec::new(),
            is_map,
            key: None,
        });
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Refusal> {
        // A closed list or group was counted by its items already; once more does not matter.
        self.nodes += node.count();
        if self.nodes > MAX_NODES || self.frames.len() + node.depth() > MAX_DEPTH + 1 {
            return Err((
                node.place,
                "the values are too many or nested too deeply".to_owned(),
            ));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        if !frame.is_map {
            frame.items.push(node);
            return Ok(());
        }
        match frame.key.take() {
            Some((key, place)) => frame.entries.push(Entry { key, place, node }),
            None => match node.value {
                Value::Scalar { text, .. } => frame.key = Some((text, node.place)),
                _ => {
                    let message = "a key must be a word, not a list or a group of keys";
                    return Err((node.place, message.to_owned()));
                }
            },
        }
        Ok(())
    }
}
