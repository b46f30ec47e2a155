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

/// Characters that a byte of UTF-8 is read as in some encoding of single bytes: the first of two, of three and of
/// four, and those that follow. The sets are ftfy's.
const FIRST_OF_2: &str = "Â-ßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒ-ΡΣ-ίВ-Я";
const FIRST_OF_3: &str = "à-ïāăąćčďēėęěģīįķĺļŕźΰ-οа-п";
const FIRST_OF_4: &str = "ðóđğšπσру";
const FOLLOWING: &str =
    "ÆØæøĄąĽľŁłŒœŖŗŚśŞşŠšŤťŸŹźŻżŽžƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁЂЃЄЅІЇЈЉЊЋЌЎЏёђѓєѕіїјљњћќўџҐґ†‡‰‹›€№™";
/// What follows too, but stands for itself more often; and U+0080 to U+00BF follow.
const FOLLOWING_AT_TIMES: &str = " –—―‘’‚“”„•…";

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

/// What looks like UTF-8 that was read in an encoding of single bytes.
static UTF_8: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let following = format!("[\u{80}-\u{bf}{FOLLOWING}{FOLLOWING_AT_TIMES}]");
    let pattern = format!(
        "(?:[{FIRST_OF_2}]{following}|[{FIRST_OF_3}]{following}{{2}}|[{FIRST_OF_4}]{following}{{3}})+"
    );
    Regex::new(&pattern).ok()
});

/// Reads lines with such signs as what they were meant to be, where that gives whole UTF-8; or else what looks like
/// UTF-8 in them, each for itself.
pub(super) fn reread(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !is_bad(text) {
        return Cow::Borrowed(text);
    }
    let line = |line: &str| {
        whole(line)
            .or_else(|| parts(line))
            .unwrap_or_else(|| line.to_owned())
    };
    Cow::Owned(text.split_inclusive('\n').map(line).collect())
}

fn is_bad(text: &str) -> bool {
    SIGNS.as_ref().is_some_and(|signs| signs.is_match(text))
}

/// A text with such signs, read again.
fn whole(text: &str) -> Option<String> {
    if !is_bad(text) {
        return None;
    }
    [latin_1, windows_1252].into_iter().find_map(|encode| {
        let bytes = text.chars().map(encode).collect::<Option<Vec<u8>>>()?;
        String::from_utf8(bytes).ok()
    })
}

/// A line of which parts are read again, as ftfy's `decode_inconsistent_utf8` does.
fn parts(line: &str) -> Option<String> {
    let utf_8 = UTF_8.as_ref().filter(|_| is_bad(line))?;
    let mut out = String::with_capacity(line.len());
    let (mut at, mut done) = (0, 0);
    while let Some(part) = utf_8.find_at(line, at) {
        // Not a few characters out of more that are garbled.
        if line[..part.start()].ends_with(follows) {
            at = part.start() + part.as_str().chars().next().map_or(1, char::len_utf8);
            continue;
        }
        at = part.end();
        // The line may have been read in another encoding, which is plsfix's to find.
        if part
            .as_str()
            .chars()
            .any(|c| latin_1(c).or(windows_1252(c)).is_none())
        {
            return None;
        }
        out.push_str(&line[done..part.start()]);
        // All at once: what is read again may begin what looks like more of it.
        match whole(part.as_str()) {
            Some(meant) => out.push_str(&meant),
            None => out.push_str(&as_plsfix(part.as_str())),
        }
        done = part.end();
    }
    out.push_str(&line[done..]);
    Some(out)
}

/// What plsfix, of all that it does, reads again.
fn as_plsfix(text: &str) -> String {
    let config = plsfix::TextFixerConfig {
        fix_latin_ligatures: false,
        fix_character_width: false,
        uncurl_quotes: false,
        fix_line_breaks: false,
        remove_terminal_escapes: false,
        remove_control_chars: false,
        normalization: None,
        ..plsfix::TextFixerConfig::default()
    };
    plsfix::fix_and_explain(text, false, Some(&config)).text
}

fn follows(character: char) -> bool {
    matches!(character, '\u{80}'..='\u{bf}') || FOLLOWING.contains(character)
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
