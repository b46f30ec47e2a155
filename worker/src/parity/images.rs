//! Images: pictures and operations on them recorded from the original (Pillow and torchvision).
//! `images.json` describes the files in the folder `images` beside it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Source;
use super::report::Report;
use crate::image::{
    Filter, Jitter, Picture, Planes, Rect, decode, eval_picture, gaussian_blur, grayscale,
    horizontal_flip, normalize_into, resize, resize_shorter_side, solarize,
};

/// Largest mean difference of pixels, of 255.
const MEAN: f64 = 1.0;
/// Difference of a pixel that counts as large, of 255.
const LARGE: u8 = 2;
/// Largest share of pixels with a large difference.
const LARGE_SHARE: f64 = 0.01;
/// Side of the evaluation's pictures.
const EVAL_SIZE: usize = 224;

#[derive(Deserialize)]
struct Golden {
    images: BTreeMap<String, Image>,
    ops: BTreeMap<String, Op>,
    /// Crops that torch's generator gives.
    rrc_params_seed0: Option<Value>,
}

#[derive(Deserialize)]
struct Image {
    size: [usize; 2],
    decoded_crc32: u32,
    /// Of all bytes; not in every file.
    decoded_sum: Option<u64>,
    resized_size: [usize; 2],
    eval_crop_crc32: u32,
    eval_tensor: Tensor,
}

#[derive(Deserialize)]
struct Tensor {
    sum: f64,
    abs_sum: f64,
    l2: f64,
    min: f64,
    max: f64,
    first8: Vec<f64>,
    /// 8 values of each channel from row 112, column 108 on.
    center8: Vec<f64>,
}

#[derive(Deserialize)]
struct Op {
    file: String,
    src: String,
    crc32: u32,
    ijhw: Option<[usize; 4]>,
    out: Option<usize>,
    factor: Option<f64>,
    sigma: Option<f64>,
    order: Option<String>,
    #[serde(default)]
    factors: BTreeMap<String, f64>,
}

/// Whether a golden file is of this kind.
#[must_use]
pub fn recognises(value: &Value) -> bool {
    value.get("ops").is_some() && value.get("images").is_some()
}

/// Compares decoded pictures, the evaluation transform and every operation. A CRC that is equal
/// says that all pixels are, and then what was recorded of them must be so too; where it is not, the
/// recorded picture is read, which must have that CRC, and pixels are compared.
///
/// # Errors
/// The value is not of this format, a picture is missing or an operation is not known.
pub fn check(source: &Source) -> Result<Report, String> {
    let golden = Golden::deserialize(&source.value).map_err(|error| error.to_string())?;
    let folder = source.path.with_extension("");
    let mut report = Report::default();
    for (name, image) in &golden.images {
        check_image(&mut report, &folder, name, image)?;
    }
    for (name, op) in &golden.ops {
        let mut picture = read(&folder.join(&op.src))?;
        apply(name, op, &mut picture)?;
        pixels(
            &mut report,
            name,
            &picture,
            op.crc32,
            &folder.join(&op.file),
        )?;
    }
    if golden.rrc_params_seed0.is_some() {
        report.skip(
            "rrc_params_seed0",
            "crops are drawn from this program's own random streams, not from torch's generator",
        );
    }
    Ok(report)
}

fn read(file: &Path) -> Result<Picture, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    decode(&bytes).map_err(|error| format!("{}: {error}", file.display()))
}

fn check_image(
    report: &mut Report,
    folder: &Path,
    name: &str,
    image: &Image,
) -> Result<(), String> {
    let picture = read(&folder.join("src").join(name))?;
    report.equal(&format!("{name}.width"), picture.width, image.size[0]);
    report.equal(&format!("{name}.height"), picture.height, image.size[1]);
    let decoded = folder.join(format!("{name}.decoded.png"));
    let equal = pixels(
        report,
        &format!("{name}.decoded"),
        &picture,
        image.decoded_crc32,
        &decoded,
    )?;
    if let Some(want) = image.decoded_sum.filter(|_| equal) {
        let sum = picture.data.iter().map(|&byte| u64::from(byte)).sum();
        report.equal(&format!("{name}.decoded_sum"), sum, want);
    }
    let resized = resize_shorter_side(&picture, EVAL_SIZE);
    report.equal(
        &format!("{name}.resized_width"),
        resized.width,
        image.resized_size[0],
    );
    report.equal(
        &format!("{name}.resized_height"),
        resized.height,
        image.resized_size[1],
    );
    let eval = eval_picture(&picture, EVAL_SIZE);
    let file = folder.join(format!("{name}.eval224.png"));
    let equal = pixels(
        report,
        &format!("{name}.eval"),
        &eval,
        image.eval_crop_crc32,
        &file,
    )?;
    tensor(report, name, &eval, &image.eval_tensor, equal);
    Ok(())
}

/// Compares pixels with the recorded picture; whether all are equal.
fn pixels(
    report: &mut Report,
    name: &str,
    picture: &Picture,
    crc: u32,
    file: &Path,
) -> Result<bool, String> {
    if crc32fast::hash(&picture.data) == crc {
        report.close(&format!("{name}.mean"), 0.0, 0.0, MEAN);
        report.close(&format!("{name}.large"), 0.0, 0.0, LARGE_SHARE);
        return Ok(true);
    }
    let want = read(file)?;
    report.equal(&format!("{name}.crc32"), crc32fast::hash(&want.data), crc);
    if (want.width, want.height) != (picture.width, picture.height) {
        let size = |picture: &Picture| format!("{} x {}", picture.width, picture.height);
        report.equal(&format!("{name}.size"), size(picture), size(&want));
        return Ok(false);
    }
    let differences = || {
        picture
            .data
            .iter()
            .zip(&want.data)
            .map(|(a, b)| a.abs_diff(*b))
    };
    let count = picture.data.len().max(1) as f64;
    let mean = differences().map(f64::from).sum::<f64>() / count;
    let large = differences()
        .filter(|&difference| difference > LARGE)
        .count() as f64
        / count;
    report.close(&format!("{name}.mean"), mean, 0.0, MEAN);
    report.close(&format!("{name}.large"), large, 0.0, LARGE_SHARE);
    Ok(picture.data == want.data)
}

/// Compares the normalised tensor `[3, 224, 224]`. One step of 255 is 1/(255 x .225) here. Of `equal`
/// pixels nothing but float32's rounding may differ.
fn tensor(report: &mut Report, name: &str, picture: &Picture, want: &Tensor, equal: bool) {
    let mut values = vec![0.0f32; picture.data.len()];
    normalize_into(picture, &mut values);
    let count = values.len() as f64;
    let step = if equal { 1e-6 } else { 1.0 / (255.0 * 0.225) };
    let wide = || values.iter().map(|&value| f64::from(value));
    let (sum, abs_sum): (f64, f64) = (wide().sum(), wide().map(f64::abs).sum());
    let l2 = wide().map(|value| value * value).sum::<f64>().sqrt();
    // Sums may differ by a mean difference of one step, as the pixels may; float32 sums by a little.
    report.close(&format!("{name}.sum"), sum, want.sum, step * count);
    report.close(
        &format!("{name}.abs_sum"),
        abs_sum,
        want.abs_sum,
        step * count,
    );
    report.close(&format!("{name}.l2"), l2, want.l2, step * count.sqrt());
    // Single values may be the one in a hundred that differs more: twice what most may.
    let single = 2.0 * step * f64::from(LARGE);
    let (min, max) = wide().fold((f64::MAX, f64::MIN), |(min, max), value| {
        (min.min(value), max.max(value))
    });
    report.close(&format!("{name}.min"), min, want.min, single);
    report.close(&format!("{name}.max"), max, want.max, single);
    for (index, &value) in want.first8.iter().enumerate() {
        report.close(
            &format!("{name}.first8.{index}"),
            f64::from(values[index]),
            value,
            single,
        );
    }
    let side = EVAL_SIZE;
    for (index, &value) in want.center8.iter().enumerate() {
        let at = (index / 8 * side + side / 2) * side + 108 + index % 8;
        let got = values.get(at).copied().map_or(f64::NAN, f64::from);
        report.close(&format!("{name}.center8.{index}"), got, value, single);
    }
}

fn apply(name: &str, op: &Op, picture: &mut Picture) -> Result<(), String> {
    let lacks = |what: &str| format!("operation {name} has no '{what}'");
    let factor = || op.factor.ok_or_else(|| lacks("factor"));
    let kind = name.split('_').next().unwrap_or_default();
    if kind == "rrc" {
        let [top, left, height, width] = op.ijhw.ok_or_else(|| lacks("ijhw"))?;
        let out = op.out.ok_or_else(|| lacks("out"))?;
        let rect = Rect {
            top,
            left,
            height,
            width,
        };
        *picture = resize(picture, rect, out, out, Filter::Bicubic);
        return Ok(());
    }
    // As the loader does: colours on planes.
    let mut planes = Planes::of(picture);
    match kind {
        "brightness" => Jitter::Brightness(factor()?).apply(&mut planes),
        "contrast" => Jitter::Contrast(factor()?).apply(&mut planes),
        "saturation" => Jitter::Saturation(factor()?).apply(&mut planes),
        "hue" => Jitter::Hue(factor()?).apply(&mut planes),
        "jitter" => {
            for letter in op.order.as_ref().ok_or_else(|| lacks("order"))?.chars() {
                let factor = *op
                    .factors
                    .get(letter.encode_utf8(&mut [0; 4]) as &str)
                    .ok_or_else(|| lacks("factors"))?;
                match letter {
                    'b' => Jitter::Brightness(factor),
                    'c' => Jitter::Contrast(factor),
                    's' => Jitter::Saturation(factor),
                    'h' => Jitter::Hue(factor),
                    other => return Err(format!("operation {name} has an unknown step '{other}'")),
                }
                .apply(&mut planes);
            }
        }
        "gray3" => grayscale(&mut planes),
        "blur" => gaussian_blur(&mut planes, op.sigma.ok_or_else(|| lacks("sigma"))?),
        "solarize" => solarize(&mut planes),
        "hflip" => horizontal_flip(&mut planes),
        _ => return Err(format!("operation {name} is not known")),
    }
    *picture = planes.to_picture();
    Ok(())
}
