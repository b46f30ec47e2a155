//! The contact sheet: samples as a model will see them, each with its image, all its views, and its
//! captions before and after augmentation.

use super::examine::read;
use super::letters::{Ink, Letters};
use super::scan::choose;
use crate::data::budget::{Budget, DECODE_MEMORY};
use crate::data::source::Source;
use crate::image::{Filter, ImageViews, Picture, Recipe, resize};
use crate::progress::{bytes, grouped};
use crate::text::CaptionViews;

/// What is drawn.
pub struct Sheet<'a> {
    /// Where samples come from.
    pub source: &'a dyn Source,
    /// What the data set is called.
    pub dataset: &'a str,
    /// Samples.
    pub rows: u64,
    /// Which ones.
    pub choice: u64,
    /// Of which random numbers their views are.
    pub seed: u64,
    /// The epoch whose views are drawn.
    pub epoch: u64,
    /// Views of images.
    pub images: &'a ImageViews,
    /// Views of captions.
    pub captions: &'a CaptionViews,
}

/// Side of the square that an image or a view gets.
const SIDE: usize = 192;
const GAP: usize = 14;
const MARGIN: usize = 28;
const PADDING: usize = 16;
/// Width of the column of captions, and of their labels before them.
const TEXT: usize = 560;
const NAMES: usize = 92;
const HEADER: usize = 84;
/// Captions of a sample that are shown before augmentation.
const CAPTIONS: usize = 4;
/// Lines of a caption that are shown: more than a model reads of it (77 tokens).
const LINES: usize = 8;
/// Height of the label above a view.
const LABEL: usize = 24;
const LINE: usize = 19;
/// Between two captions.
const BETWEEN: usize = 5;

const PAPER: Ink = [238, 240, 243];
const CARD: Ink = [255, 255, 255];
const EDGE: Ink = [214, 218, 224];
const WELL: Ink = [246, 247, 249];
const DARK: Ink = [28, 33, 40];
const GRAY: Ink = [112, 121, 133];
const BLUE: Ink = [30, 93, 168];
const RED: Ink = [178, 40, 40];

const TITLE: f32 = 26.0;
const BODY: f32 = 16.0;
const SMALL: f32 = 14.0;

/// One sample's card, ready to be drawn.
struct Card {
    number: String,
    name: String,
    about: String,
    /// Why there is no picture.
    problem: Option<String>,
    /// The image and its views, with their labels.
    pictures: Vec<(String, Picture)>,
    /// Labels and lines of captions.
    texts: Vec<(String, Vec<String>)>,
}

impl Sheet<'_> {
    /// Draws the sheet.
    #[must_use]
    pub fn draw(&self) -> Picture {
        let letters = Letters::new();
        let all = self.source.len() as u64;
        let chosen = choose(all, self.rows.min(all), self.choice);
        let cards: Vec<Card> = chosen
            .iter()
            .map(|&sample| self.card(&letters, sample))
            .collect();
        let columns = 1 + self.images.len();
        let pictures = columns * (SIDE + GAP);
        let width = 2 * (MARGIN + PADDING) + pictures + GAP + NAMES + TEXT;
        let height = HEADER + cards.iter().map(|card| card.height() + GAP).sum::<usize>() + MARGIN;
        let mut sheet = Picture::black(width, height);
        fill(&mut sheet, (0, 0), (width, height), PAPER);
        let title = format!(
            "{}: {} of {} samples",
            self.dataset,
            grouped(chosen.len() as u64),
            grouped(all)
        );
        letters.write(&mut sheet, (MARGIN, 18), &title, TITLE, DARK);
        let note = format!(
            "views of epoch {}, seed {}, as training draws them",
            self.epoch, self.seed
        );
        letters.write(&mut sheet, (MARGIN, 50), &note, BODY, GRAY);
        let mut top = HEADER;
        for card in cards {
            card.draw(&letters, &mut sheet, top);
            top += card.height() + GAP;
        }
        sheet
    }

    fn card(&self, letters: &Letters, sample: u64) -> Card {
        let index = sample as usize;
        let mut card = Card {
            number: grouped(sample),
            name: self.source.name(index),
            about: String::new(),
            problem: None,
            pictures: Vec::new(),
            texts: Vec::new(),
        };
        let budget = Budget::new(DECODE_MEMORY);
        let mut file = Vec::new();
        let picture = read(self.source, index, &mut file)
            .map_err(|(problem, detail)| format!("{}: {detail}", problem.name()))
            .and_then(|()| budget.decode(&file).map_err(|why| why.to_string()));
        match picture {
            Ok((picture, _share)) => {
                card.about = format!(
                    "{} x {} pixels, {}",
                    picture.width,
                    picture.height,
                    bytes(file.len() as f64)
                );
                let views = (0..self.images.len()).map(|view| {
                    let drawn = self
                        .images
                        .draw(&picture, view, self.seed, self.epoch, sample);
                    let side = self.images.size(view);
                    let label = format!(
                        "view {}: {}, {side}",
                        view + 1,
                        kind(self.images.recipe(view))
                    );
                    (label, fit(&drawn))
                });
                let views: Vec<_> = views.collect();
                card.pictures.push(("image".to_owned(), fit(&picture)));
                card.pictures.extend(views);
            }
            Err(why) => card.problem = Some(why),
        }
        let captions = self.source.captions(index);
        let mut add = |label: String, text: &str| {
            let mut wrapped = letters.wrap(text, BODY, TEXT as f32, LINES);
            if wrapped.is_empty() {
                wrapped.push("(empty)".to_owned());
            }
            card.texts.push((label, wrapped));
        };
        for (number, caption) in captions.iter().take(CAPTIONS).enumerate() {
            let label = match captions.len() {
                1 => "caption".to_owned(),
                _ => format!("caption {}", number + 1),
            };
            add(label, caption);
        }
        if captions.len() > CAPTIONS {
            add(
                String::new(),
                &format!("and {} more", captions.len() - CAPTIONS),
            );
        }
        let texts = self
            .captions
            .texts(&captions, self.seed, self.epoch, sample);
        for (view, text) in texts.iter().enumerate() {
            add(format!("view {}", view + 1), text);
        }
        card
    }
}

/// What a view is, in a word.
fn kind(recipe: &Recipe) -> &'static str {
    match recipe {
        Recipe::Weak { .. } => "weak",
        Recipe::Strong(_) => "strong",
        Recipe::Either(..) => "weak or strong",
    }
}

/// A picture made to fit into its square; of a small one each pixel becomes a square of pixels.
fn fit(picture: &Picture) -> Picture {
    let longer = picture.width.max(picture.height);
    if longer <= SIDE {
        return enlarge(picture, SIDE / longer.max(1));
    }
    let scale = |side: usize| (side * SIDE / longer).max(1);
    let (width, height) = (scale(picture.width), scale(picture.height));
    resize(picture, picture.bounds(), width, height, Filter::Bicubic)
}

fn enlarge(picture: &Picture, times: usize) -> Picture {
    let mut large = Picture::black(picture.width * times, picture.height * times);
    for (y, row) in large
        .data
        .chunks_exact_mut(picture.width * times * 3)
        .enumerate()
    {
        let pixels = picture.row(y / times).chunks_exact(3);
        for (square, pixel) in row.chunks_exact_mut(3 * times).zip(pixels) {
            for out in square.chunks_exact_mut(3) {
                out.copy_from_slice(pixel);
            }
        }
    }
    large
}

impl Card {
    fn height(&self) -> usize {
        let pictures = LABEL + SIDE;
        let texts = self
            .texts
            .iter()
            .map(|(_, lines)| lines.len() * LINE + BETWEEN);
        // The name, what the file is, the captions.
        let texts = 2 * 22 + 6 + texts.sum::<usize>();
        2 * PADDING + pictures.max(texts)
    }

    fn draw(&self, letters: &Letters, sheet: &mut Picture, top: usize) {
        let width = sheet.width - 2 * MARGIN;
        fill(sheet, (MARGIN, top), (width, self.height()), EDGE);
        fill(
            sheet,
            (MARGIN + 1, top + 1),
            (width - 2, self.height() - 2),
            CARD,
        );
        let (left, top) = (MARGIN + PADDING, top + PADDING);
        let text = sheet.width - MARGIN - PADDING - TEXT - NAMES;
        if let Some(problem) = &self.problem {
            let room = text - left - GAP;
            fill(sheet, (left, top + LABEL), (room - GAP, SIDE), WELL);
            let lines = letters.wrap(problem, BODY, (room - 4 * GAP) as f32, 6);
            for (line, problem) in lines.iter().enumerate() {
                let at = (left + GAP, top + LABEL + GAP + line * LINE);
                letters.write(sheet, at, problem, BODY, RED);
            }
        }
        for (column, (label, picture)) in self.pictures.iter().enumerate() {
            let left = left + column * (SIDE + GAP);
            letters.write(sheet, (left, top), label, SMALL, GRAY);
            fill(sheet, (left, top + LABEL), (SIDE, SIDE), WELL);
            let at = (
                left + (SIDE - picture.width) / 2,
                top + LABEL + (SIDE - picture.height) / 2,
            );
            paste(sheet, at, picture);
        }
        let number = format!("{} \u{b7} ", self.number);
        let indent = letters.width(&number, BODY);
        letters.write(sheet, (text, top), &number, BODY, GRAY);
        let name = letters.end_of(&self.name, BODY, (NAMES + TEXT) as f32 - indent);
        letters.write(sheet, (text + indent as usize, top), &name, BODY, DARK);
        letters.write(sheet, (text, top + 22), &self.about, SMALL, GRAY);
        let mut y = top + 2 * 22 + 6;
        for (label, lines) in &self.texts {
            let ink = if label.starts_with("view") {
                BLUE
            } else {
                GRAY
            };
            // On one baseline with the text.
            letters.write(sheet, (text, y + 2), label, SMALL, ink);
            for line in lines {
                letters.write(sheet, (text + NAMES, y), line, BODY, DARK);
                y += LINE;
            }
            y += BETWEEN;
        }
    }
}

fn fill(picture: &mut Picture, at: (usize, usize), size: (usize, usize), ink: Ink) {
    let width = picture.width;
    for y in at.1..(at.1 + size.1).min(picture.height) {
        let row = &mut picture.data[y * width * 3..][..width * 3];
        for pixel in row[at.0 * 3..(at.0 + size.0).min(width) * 3].chunks_exact_mut(3) {
            pixel.copy_from_slice(&ink);
        }
    }
}

fn paste(sheet: &mut Picture, at: (usize, usize), picture: &Picture) {
    let width = sheet.width;
    for y in 0..picture.height {
        let start = ((at.1 + y) * width + at.0) * 3;
        sheet.data[start..start + picture.width * 3].copy_from_slice(picture.row(y));
    }
}
