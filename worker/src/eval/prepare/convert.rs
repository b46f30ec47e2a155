//! Forms that no image decoder reads, turned into images: PPM into PNG, a video into its middle frame.

use std::path::Path;
use std::process::{Command, Stdio};

use super::PrepareError;

/// Turns members into images by the endings of their names; others stay as they are.
#[derive(Default)]
pub(super) struct Converter {
    /// A folder for videos, made when the first comes.
    folder: Option<tempfile::TempDir>,
}

impl Converter {
    pub(super) fn convert(&mut self, path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, PrepareError> {
        let failed = |problem: String| PrepareError::Form {
            what: path.to_owned(),
            problem,
        };
        match path.rsplit('.').next() {
            Some("ppm") => ppm_to_png(&bytes).map_err(failed),
            Some("avi") => self.middle_frame(&bytes).map_err(failed),
            _ => Ok(bytes),
        }
    }

    /// Frame n/2 + 1 of n (counted from 0), as VISSL's script takes it, by ffmpeg.
    fn middle_frame(&mut self, video: &[u8]) -> Result<Vec<u8>, String> {
        let frames = avi_frames(video).ok_or("this is no AVI video that can be read")?;
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => {
                tempfile::tempdir().map_err(|e| format!("a folder for it cannot be made: {e}"))?
            }
        };
        let folder = self.folder.insert(folder).path();
        let (input, frame) = (folder.join("video.avi"), folder.join("frame.jpg"));
        std::fs::write(&input, video)
            .map_err(|error| format!("cannot be copied to {}: {error}", input.display()))?;
        let middle = (frames / 2 + 1).min(frames.saturating_sub(1));
        // The header may count more frames than there are, where a video is cut off: then the last one.
        let ways = [
            (format!("select=eq(n\\,{middle})"), "1"),
            (format!("select=lte(n\\,{middle})"), "1000000"),
        ];
        let mut said = String::new();
        for (filter, most) in ways {
            // What the last video left must not be taken for a frame of this one.
            let _ = std::fs::remove_file(&frame);
            said = ffmpeg(&input, &frame, &filter, most)?;
            match std::fs::read(&frame) {
                Ok(bytes) if !bytes.is_empty() => return Ok(bytes),
                _ => {}
            }
        }
        let said = said.lines().next().map(|said| format!(": {said}"));
        let said = said.unwrap_or_default();
        Err(format!("ffmpeg found no frame in it{said}"))
    }
}

/// Writes those of the first `most` frames that a filter lets through, each over the one before; gives what
/// ffmpeg said.
fn ffmpeg(input: &Path, frame: &Path, filter: &str, most: &str) -> Result<String, String> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-i"])
        .arg(input)
        .args(["-vf", filter, "-frames:v", most, "-q:v", "2"])
        .args(["-f", "image2", "-update", "1"])
        .arg(frame)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            format!(
                "its middle frame is taken by ffmpeg, which cannot be started ({error}); install it \
                 (Debian: apt-get install ffmpeg), and run this again: it goes on where it was"
            )
        })?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Number of frames by an AVI file's main header.
fn avi_frames(video: &[u8]) -> Option<u32> {
    if !video.starts_with(b"RIFF") || video.get(8..12)? != b"AVI " {
        return None;
    }
    let at = video
        .get(..4096.min(video.len()))?
        .windows(4)
        .position(|w| w == b"avih")?;
    // Name and length, then four numbers, then the frames.
    let frames = video.get(at + 24..at + 28)?;
    Some(u32::from_le_bytes([
        frames[0], frames[1], frames[2], frames[3],
    ]))
}

/// A binary PPM (P6, 8 bits) as PNG, pixel by pixel the same.
fn ppm_to_png(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let refused = || "this is no binary PPM file of 8 bits (P6)".to_owned();
    let mut at = 2;
    let mut numbers = [0_u32; 3];
    if !bytes.starts_with(b"P6") {
        return Err(refused());
    }
    for number in &mut numbers {
        loop {
            match bytes.get(at) {
                Some(b'#') => {
                    let end = bytes[at..]
                        .iter()
                        .position(|&b| b == b'\n')
                        .ok_or_else(refused)?;
                    at += end + 1;
                }
                Some(byte) if byte.is_ascii_whitespace() => at += 1,
                Some(_) => break,
                None => return Err(refused()),
            }
        }
        let digits = bytes[at..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count();
        *number = std::str::from_utf8(&bytes[at..at + digits])
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(refused)?;
        at += digits;
    }
    let [width, height, most] = numbers;
    let length = u64::from(width) * u64::from(height) * 3;
    let pixels = bytes.get(at + 1..).unwrap_or_default();
    if most != 255 || length == 0 || (pixels.len() as u64) < length {
        return Err(refused());
    }
    rgb_to_png(width, height, &pixels[..length as usize])
}

/// Pixels `[height, width, 3]` as PNG.
pub(super) fn rgb_to_png(width: u32, height: u32, pixels: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(|e| e.to_string())?;
    writer.write_image_data(pixels).map_err(|e| e.to_string())?;
    writer.finish().map_err(|e| e.to_string())?;
    Ok(out)
}
