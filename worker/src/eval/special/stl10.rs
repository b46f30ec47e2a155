//! STL-10 (A. Coates, H. Lee, A. Y. Ng, "An Analysis of Single Layer Networks in Unsupervised
//! Feature Learning", 2011): images of 96 x 96, three planes of columns; labels from 1.

use super::{EvalError, Images, Layout, Places, Split, lines, malformed, read_file};

pub(super) fn read(places: &Places, split: Split) -> Result<Images, EvalError> {
    let stem = match split {
        Split::Train => "train",
        Split::Test => "test",
    };
    let file = |what: &str| {
        let (below, beside) = (
            format!("stl10_binary/{stem}_{what}.bin"),
            format!("{stem}_{what}.bin"),
        );
        places.first(&[&below, &beside], &["stl10_binary.tar.gz"])
    };
    let images_file = file("X")?;
    let labels_file = file("y")?;
    let pixels = read_file(&images_file)?;
    let labels = read_file(&labels_file)?
        .into_iter()
        .map(|label| usize::from(label).checked_sub(1))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| {
            let problem = "holds label 0, but STL-10's labels are 1 to 10; fetch it again";
            malformed(&labels_file, problem.to_owned())
        })?;
    let names = lines(&images_file.with_file_name("class_names.txt"));
    let layout = Layout::PlanesOfColumns { side: 96 };
    let mut images = Images::new(layout, pixels, labels, images_file, 10)?;
    images.names = names;
    Ok(images)
}
