//! The views of an image that a model trains on: weak and strong recipes, which view gets which,
//! and their drawing from counter-based streams.

use rocket_common::experiment::Augment;

use super::{
    Filter, Jitter, Need, Picture, Planes, Rect, gaussian_blur, grayscale, horizontal_flip,
    resize_reduced, sample_crop, solarize,
};
use crate::random::{Purpose, Stream};

/// A strong view's numbers. Order of operations: crop, colour jitter, grayscale, blur, solarize, flip.
#[derive(Debug, Clone, PartialEq)]
pub struct StrongRecipe {
    /// Side of the square view in pixels.
    pub size: usize,
    /// Shares of the area a crop takes.
    pub scale: (f64, f64),
    /// Probability of colour jitter.
    pub jitter_prob: f64,
    /// Largest change of brightness, contrast, saturation and hue.
    pub jitter: [f64; 4],
    /// Probability of grayscale.
    pub grayscale_prob: f64,
    /// Probability of a blur.
    pub blur_prob: f64,
    /// Standard deviations of the blur in pixels.
    pub blur_sigma: (f64, f64),
    /// Probability of solarization.
    pub solarize_prob: f64,
}

/// How one view is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// A crop alone.
    Weak {
        /// Side of the square view in pixels.
        size: usize,
        /// Shares of the area a crop takes.
        scale: (f64, f64),
    },
    /// All augmentations.
    Strong(StrongRecipe),
    /// One of two at random.
    Either(Box<Recipe>, Box<Recipe>),
}

/// Settings of `augment` that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewsError {
    /// Both of `weak_augment` and `strong_augment`.
    #[error("augment.weak_augment and augment.strong_augment exclude each other; set one of them")]
    WeakAndStrong,
    /// `byol_augment` needs two strong views.
    #[error("augment.byol_augment is made for augment.num_augs 2, not {0}")]
    ByolViews(usize),
    /// Views with different sides where one is asked for.
    #[error("{key} must be at least 1")]
    NoPixels {
        /// The key.
        key: &'static str,
    },
    /// A range that is empty or leaves 0..1.
    #[error("{key} is {value}; it must lie in (0, 1] and not cross the other end of its range")]
    Scale {
        /// The key.
        key: &'static str,
        /// As printed.
        value: String,
    },
    /// A probability outside of 0..=1.
    #[error("{key} is {value}; a probability lies between 0 and 1")]
    Probability {
        /// The key.
        key: &'static str,
        /// As printed.
        value: String,
    },
}

/// The recipes of all views of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageViews {
    recipes: Vec<Recipe>,
}

impl ImageViews {
    /// The first view and `strong_views` further ones (none for base CLIP) for a vision tower of
    /// `image_size` pixels.
    ///
    /// # Errors
    /// [`ViewsError`] if settings contradict each other.
    pub fn new(
        augment: &Augment,
        image_size: usize,
        strong_views: usize,
    ) -> Result<Self, ViewsError> {
        check(augment, strong_views)?;
        let strong_size = match augment.multicrop_resize {
            None => image_size,
            Some(size) => usize::try_from(size).unwrap_or(0),
        };
        for (key, size) in [
            ("the image size of the vision tower", image_size),
            ("augment.multicrop_resize", strong_size),
        ] {
            if size == 0 {
                return Err(ViewsError::NoPixels { key });
            }
        }
        let weak = Recipe::Weak {
            size: image_size,
            scale: (augment.weak_min_scale, 1.0),
        };
        let rest = (0..strong_views).map(|view| {
            if augment.weak_augment {
                weak.clone()
            } else {
                Recipe::Strong(strong_recipe(augment, strong_size, view))
            }
        });
        // The first view has the size that the tower expects, also where it is a strong one.
        let first_strong = Recipe::Strong(strong_recipe(augment, image_size, 0));
        let other = if augment.weak_augment {
            weak.clone()
        } else {
            first_strong.clone()
        };
        let first = match (augment.strong_augment, augment.randaugment) {
            (false, false) => weak.clone(),
            (true, _) => first_strong,
            (false, true) => Recipe::Either(weak.clone().into(), other.into()),
        };
        let mut recipes = vec![first];
        recipes.extend(rest);
        Ok(Self { recipes })
    }

    /// Number of views, the first included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recipes.len()
    }

    /// Never: there is always a first view.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recipes.is_empty()
    }

    /// How view `view` is made.
    #[must_use]
    pub fn recipe(&self, view: usize) -> &Recipe {
        &self.recipes[view]
    }

    /// Side of view `view` in pixels.
    #[must_use]
    pub fn size(&self, view: usize) -> usize {
        self.recipes[view].size()
    }

    /// What every view takes of a picture of this size: known before the picture is decoded, and a pure
    /// function of its arguments.
    #[must_use]
    pub fn plan(
        &self,
        width: usize,
        height: usize,
        seed: u64,
        epoch: u64,
        sample: u64,
    ) -> Vec<ViewPlan<'_>> {
        self.recipes
            .iter()
            .enumerate()
            .map(|(view, recipe)| {
                let purpose = Purpose::Image(view as u32);
                recipe.plan(width, height, Stream::new(seed, epoch, sample, purpose))
            })
            .collect()
    }

    /// View `view` of a picture: a pure function of (seed, epoch, sample, view).
    #[must_use]
    pub fn draw(
        &self,
        picture: &Picture,
        view: usize,
        seed: u64,
        epoch: u64,
        sample: u64,
    ) -> Picture {
        let stream = Stream::new(seed, epoch, sample, Purpose::Image(view as u32));
        let plan = self.recipes[view].plan(picture.width, picture.height, stream);
        plan.draw(picture, (picture.width, picture.height))
            .to_picture()
    }
}

impl Recipe {
    /// Side of the view in pixels.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Weak { size, .. } => *size,
            Self::Strong(recipe) => recipe.size,
            Self::Either(first, _) => first.size(),
        }
    }

    fn plan(&self, width: usize, height: usize, mut stream: Stream) -> ViewPlan<'_> {
        let (size, scale, strong) = match self {
            Self::Weak { size, scale } => (*size, *scale, None),
            Self::Strong(recipe) => (recipe.size, recipe.scale, Some(recipe)),
            Self::Either(first, second) => {
                let chosen = if stream.chance(0.5) { first } else { second };
                return chosen.plan(width, height, stream);
            }
        };
        ViewPlan {
            rect: sample_crop(width, height, scale, &mut stream),
            size,
            strong,
            stream,
        }
    }
}

/// A view whose crop is drawn.
#[derive(Debug, Clone)]
pub struct ViewPlan<'a> {
    /// What is cut out of the picture.
    pub rect: Rect,
    /// Side of the square view in pixels.
    pub size: usize,
    strong: Option<&'a StrongRecipe>,
    /// For what is drawn after the crop.
    stream: Stream,
}

impl ViewPlan<'_> {
    /// The view of a picture that was planned for as `whole` (columns and rows), and decoded as far as
    /// [`Need::of`] the plans.
    #[must_use]
    pub fn draw(self, picture: &Picture, whole: (usize, usize)) -> Planes {
        let size = self.size;
        let view = resize_reduced(picture, whole, self.rect, size, size, Filter::Bicubic);
        let mut view = Planes::of(&view);
        if let Some(recipe) = self.strong {
            recipe.augment(&mut view, self.stream);
        }
        view
    }
}

impl Need {
    /// What views need of a picture: rows down to the lowest crop; and, if it may be decoded smaller, by how
    /// much without any crop being enlarged that would not be anyway.
    #[must_use]
    pub fn of(plans: &[ViewPlan<'_>], may_reduce: bool) -> Self {
        let rows = plans.iter().map(|plan| plan.rect.top + plan.rect.height);
        let large = |reduction: usize| {
            let sides = |rect: Rect| rect.width.min(rect.height) / reduction;
            plans.iter().all(|plan| sides(plan.rect) >= plan.size)
        };
        let reductions = [8, 4, 2].into_iter();
        Self {
            rows: rows.max().unwrap_or(0),
            reduction: reductions
                .filter(|_| may_reduce)
                .find(|reduction| large(*reduction))
                .unwrap_or(1),
        }
    }
}

impl StrongRecipe {
    fn augment(&self, view: &mut Planes, mut stream: Stream) {
        if stream.chance(self.jitter_prob) {
            for operation in self.draw_jitter(&mut stream) {
                operation.apply(view);
            }
        }
        if stream.chance(self.grayscale_prob) {
            grayscale(view);
        }
        if stream.chance(self.blur_prob) {
            let sigma = stream.range(self.blur_sigma.0, self.blur_sigma.1);
            gaussian_blur(view, sigma);
        }
        if stream.chance(self.solarize_prob) {
            solarize(view);
        }
        if stream.chance(0.5) {
            horizontal_flip(view);
        }
    }

    /// Factors 1 - x to 1 + x (not negative), hue -x to x, in random order: torchvision's `ColorJitter`.
    fn draw_jitter(&self, stream: &mut Stream) -> [Jitter; 4] {
        let [brightness, contrast, saturation, hue] = self.jitter;
        let mut around_one = |x: f64| stream.range((1.0 - x).max(0.0), 1.0 + x);
        let mut operations = [
            Jitter::Brightness(around_one(brightness)),
            Jitter::Contrast(around_one(contrast)),
            Jitter::Saturation(around_one(saturation)),
            Jitter::Hue(stream.range(-hue, hue)),
        ];
        stream.shuffle(&mut operations);
        operations
    }
}

fn strong_recipe(augment: &Augment, size: usize, view: usize) -> StrongRecipe {
    let scale = (augment.multicrop_min_scale, augment.multicrop_max_scale);
    // BYOL (arXiv 2006.07733, appendix B) blurs the first view always and solarizes the second only.
    let byol = [(1.0, 0.0), (0.1, 0.2)];
    let (saturation, grayscale_prob, blur_prob, solarize_prob) = if augment.byol_augment {
        let (blur, solarize) = byol[view.min(1)];
        (0.2, 0.2, blur, solarize)
    } else {
        (
            0.4,
            augment.grayscale_prob,
            augment.blur_prob,
            augment.solarize_prob,
        )
    };
    StrongRecipe {
        size,
        scale,
        jitter_prob: 0.8,
        jitter: [0.4, 0.4, saturation, 0.1],
        grayscale_prob,
        blur_prob,
        blur_sigma: (0.1, 2.0),
        solarize_prob,
    }
}

fn check(augment: &Augment, strong_views: usize) -> Result<(), ViewsError> {
    if augment.weak_augment && augment.strong_augment {
        return Err(ViewsError::WeakAndStrong);
    }
    if augment.byol_augment && strong_views != 2 && strong_views != 0 {
        return Err(ViewsError::ByolViews(strong_views));
    }
    let scales = [
        ("augment.weak_min_scale", augment.weak_min_scale, 1.0),
        (
            "augment.multicrop_min_scale",
            augment.multicrop_min_scale,
            augment.multicrop_max_scale,
        ),
        (
            "augment.multicrop_max_scale",
            augment.multicrop_max_scale,
            1.0,
        ),
    ];
    for (key, value, end) in scales {
        if !(value > 0.0 && value <= end) {
            let value = value.to_string();
            return Err(ViewsError::Scale { key, value });
        }
    }
    let probabilities = [
        ("augment.blur_prob", augment.blur_prob),
        ("augment.solarize_prob", augment.solarize_prob),
        ("augment.grayscale_prob", augment.grayscale_prob),
    ];
    for (key, value) in probabilities {
        if !(0.0..=1.0).contains(&value) {
            let value = value.to_string();
            return Err(ViewsError::Probability { key, value });
        }
    }
    Ok(())
}
