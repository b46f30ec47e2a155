//! Letters on a picture: Ubuntu Light, and Noto Emoji for what it lacks, both from the crate
//! `epaint_default_fonts` (Ubuntu Font Licence 1.0; SIL Open Font Licence 1.1).

use ab_glyph::{Font, FontRef, GlyphId, PxScale, ScaleFont, point};

use crate::image::Picture;

/// Colour of red, green and blue.
pub(super) type Ink = [u8; 3];

/// The fonts.
pub(super) struct Letters {
    fonts: Vec<FontRef<'static>>,
}

impl Letters {
    pub(super) fn new() -> Self {
        let files = [
            epaint_default_fonts::UBUNTU_LIGHT,
            epaint_default_fonts::NOTO_EMOJI_REGULAR,
        ];
        let fonts = files
            .into_iter()
            .filter_map(|bytes| FontRef::try_from_slice(bytes).ok());
        Self {
            fonts: fonts.collect(),
        }
    }

    /// The first font that has a character; for one that none has, the sign for that.
    fn glyph(&self, character: char) -> Option<(&FontRef<'static>, GlyphId)> {
        let has = |font: &&FontRef<'static>| font.glyph_id(character).0 != 0;
        let font = self.fonts.iter().find(has).or(self.fonts.first())?;
        Some((font, font.glyph_id(character)))
    }

    /// Width of a text in pixels.
    pub(super) fn width(&self, text: &str, size: f32) -> f32 {
        text.chars()
            .filter_map(|character| {
                let (font, glyph) = self.glyph(character)?;
                Some(font.as_scaled(PxScale::from(size)).h_advance(glyph))
            })
            .sum()
    }

    /// Writes a line of text; `at` is its left end and the top of the line.
    pub(super) fn write(
        &self,
        picture: &mut Picture,
        at: (usize, usize),
        text: &str,
        size: f32,
        ink: Ink,
    ) {
        let scale = PxScale::from(size);
        let Some(first) = self.fonts.first() else {
            return;
        };
        let baseline = at.1 as f32 + first.as_scaled(scale).ascent();
        let mut x = at.0 as f32;
        for character in text.chars() {
            let Some((font, glyph)) = self.glyph(character) else {
                continue;
            };
            let advance = font.as_scaled(scale).h_advance(glyph);
            let placed = glyph.with_scale_and_position(scale, point(x, baseline));
            x += advance;
            let Some(outline) = font.outline_glyph(placed) else {
                continue;
            };
            let bounds = outline.px_bounds();
            outline.draw(|dx, dy, cover| {
                let (x, y) = (bounds.min.x + dx as f32, bounds.min.y + dy as f32);
                if x >= 0.0 && y >= 0.0 {
                    blend(picture, x as usize, y as usize, ink, cover);
                }
            });
        }
    }

    /// As much of a text's end as fits into a width, which is what tells long paths apart.
    pub(super) fn end_of(&self, text: &str, size: f32, width: f32) -> String {
        if self.width(text, size) <= width {
            return text.to_owned();
        }
        let ends = text.char_indices().skip(1).map(|(at, _)| &text[at..]);
        let mut cut = ends.map(|end| format!("\u{2026}{end}"));
        cut.find(|end| self.width(end, size) <= width)
            .unwrap_or_default()
    }

    /// Breaks a text into at most `lines` lines of a width; what does not fit ends in dots.
    pub(super) fn wrap(&self, text: &str, size: f32, width: f32, lines: usize) -> Vec<String> {
        let mut broken: Vec<String> = Vec::new();
        let mut line = String::new();
        for word in text.split_whitespace() {
            let joined = if line.is_empty() {
                word.to_owned()
            } else {
                format!("{line} {word}")
            };
            if self.width(&joined, size) <= width {
                line = joined;
                continue;
            }
            if !line.is_empty() {
                broken.push(std::mem::take(&mut line));
            }
            // A word that is wider than a line is cut where it must be.
            for character in word.chars() {
                line.push(character);
                if self.width(&line, size) > width && line.chars().count() > 1 {
                    line.pop();
                    broken.push(std::mem::replace(&mut line, character.to_string()));
                }
            }
            if broken.len() > lines {
                break;
            }
        }
        if !line.is_empty() {
            broken.push(line);
        }
        if broken.len() > lines {
            broken.truncate(lines);
            if let Some(last) = broken.last_mut() {
                while !last.is_empty() && self.width(&format!("{last} …"), size) > width {
                    last.pop();
                }
                last.push_str(" …");
            }
        }
        broken
    }
}

/// Lays ink over a pixel; nothing happens outside of the picture.
fn blend(picture: &mut Picture, x: usize, y: usize, ink: Ink, cover: f32) {
    if x >= picture.width || y >= picture.height {
        return;
    }
    let at = (y * picture.width + x) * 3;
    for (channel, ink) in picture.data[at..at + 3].iter_mut().zip(ink) {
        let mixed = f32::from(*channel) * (1.0 - cover) + f32::from(ink) * cover;
        *channel = mixed.round().clamp(0.0, 255.0) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_to_fit() {
        let letters = Letters::new();
        assert_eq!(letters.fonts.len(), 2);
        let text = "a rather long caption about a dog on a beach, and oneverylongwordwithoutanyspaceinit 🐕";
        for lines in 1..9 {
            let broken = letters.wrap(text, 14.0, 120.0, lines);
            assert!(broken.len() <= lines && !broken.is_empty());
            for line in &broken {
                assert!(letters.width(line, 14.0) <= 121.0, "{line}");
            }
        }
        let whole = letters.wrap(text, 14.0, 120.0, 99).concat();
        assert_eq!(whole.replace(' ', ""), text.replace(' ', ""));
        assert!(letters.wrap("  ", 14.0, 120.0, 3).is_empty());
        // Narrower than any letter: one letter a line, and no endless loop.
        assert_eq!(letters.wrap("ab", 14.0, 1.0, 3), ["a", "b"]);
    }

    #[test]
    fn the_end_of_a_long_name_is_shown() {
        let letters = Letters::new();
        assert_eq!(letters.end_of("a.jpg", 14.0, 120.0), "a.jpg");
        let name = "images/ü/12345678/and/a/long/path.jpg";
        let end = letters.end_of(name, 14.0, 120.0);
        assert!(end.starts_with('…') && end.ends_with("/path.jpg"), "{end}");
        assert!(letters.width(&end, 14.0) <= 120.0);
        assert_eq!(letters.end_of(name, 14.0, 1.0), "");
    }

    #[test]
    fn nothing_is_written_beside_the_picture() {
        let letters = Letters::new();
        let mut picture = Picture::black(20, 10);
        letters.write(&mut picture, (0, 0), "Wide words 🐕 ﷽", 30.0, [255; 3]);
        letters.write(&mut picture, (19, 9), "W", 30.0, [255; 3]);
        assert!(picture.data.iter().any(|&value| value > 100));
    }
}
