//! Signs of UTF-8 that was read as Latin-1 or Windows-1252 which ftfy 6.3 knows and the crate plsfix
//! does not yet ("Ä°zmir" for "İzmir"). Everything else is plsfix's.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

use super::html::WINDOWS;

/// Characters by how likely they stand in mojibake; the sets are ftfy's.
const UPPER: &str = "\u{c0}-\u{d1}\u{d8}\u{dc}\u{dd}ĂĀĄĆČĎĐĘĚĒĖĞĢİĪĶĹĽŁĻŃŇŅŒŘŚŞŠŢŤŮŰŸŹŻŽҐ";
const LOWER: &str = "\u{df}\u{e0}-\u{f1}ăąāćčďđęěēėğģįīķĺľłļœŕśşšťüźżžґﬁﬂ";
const START: &str = "¡«¿©΄΅‘‚“„•‹\u{f8ff}";
const END: &str = "®»˝”›™";
const BAD: &str = "¦¤¨¬¯¸ƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}ªº";
const BOX: &str = "│┌┐┘├┤┬┼═-╬▀▄█▌▐░▒▓";
const LAW: &str = "¶§";

static SIGNS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let signs = [
        format!("[{LAW}][{BAD}{BOX}]"),
        format!("[{BAD}{UPPER}{BOX}][{LAW}]"),
        format!("[{LAW}][{END}][{START}]"),
        format!("[{LOWER}{UPPER}][{START}][\\p{{L}}\\p{{N}}_]"),
        format!("[{UPPER}]°"),
        "[ÂÃÎÐ]œ".to_owned(),
        "ā€".to_owned(),
    ];
    Regex::new(&signs.join("|")).ok()
});

/// Reads lines with such signs as what they were meant to be, where that gives whole UTF-8.
pub(super) fn reread(text: &str) -> Cow<'_, str> {
    let bad = |line: &str| SIGNS.as_ref().is_some_and(|signs| signs.is_match(line));
    if text.is_ascii() || !bad(text) {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| {
        [latin_1, windows_1252]
            .into_iter()
            .filter(|_| bad(line))
            .find_map(|encode| {
                let bytes = line.chars().map(encode).collect::<Option<Vec<u8>>>()?;
                String::from_utf8(bytes).ok()
            })
            .unwrap_or_else(|| line.to_owned())
    };
    Cow::Owned(text.split_inclusive('\n').map(line).collect())
}

fn latin_1(character: char) -> Option<u8> {
    u8::try_from(u32::from(character)).ok()
}

fn windows_1252(character: char) -> Option<u8> {
    let place = WINDOWS.iter().position(|&known| known == character);
    match (place, latin_1(character)) {
        (Some(place), _) => Some(0x80 + place as u8),
        (None, Some(0x80..=0x9f)) => None,
        (None, byte) => byte,
    }
}
