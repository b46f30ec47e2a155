//! Model names: `<base>_<vision>_<child>`.

use super::sections::{Base, Child, Model};
use super::vision::{VISION_NAMES, Vision};
use crate::run_dir::suggest;

/// Bases as they are written.
const BASES: [(&str, Base); 2] = [("CLIP", Base::Clip), ("CL2L", Base::Cl2l)];

/// Children as they are written.
const CHILDREN: [(&str, Child); 6] = [
    ("CLIP", Child::Clip),
    ("CL2L", Child::Cl2l),
    ("BARLIP", Child::Barlip),
    ("SIAMLIP", Child::Siamlip),
    ("SWALIP", Child::Swalip),
    ("SWALIPV1", Child::Swalipv1),
];

impl Base {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clip => "CLIP",
            Self::Cl2l => "CL2L",
        }
    }
}

impl Child {
    /// The child that is written so.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        CHILDREN
            .into_iter()
            .find_map(|(known, child)| (known == name).then_some(child))
    }

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        CHILDREN
            .into_iter()
            .find(|(_, child)| *child == self)
            .map_or("", |(name, _)| name)
    }

    /// The bases whose views its loss can use. The losses beside CLIP's own are added to CL2L's, but
    /// for SWALIPV1, which has prototypes of its own and is added to CLIP's.
    #[must_use]
    pub fn base(self) -> Base {
        match self {
            Self::Clip | Self::Swalipv1 => Base::Clip,
            Self::Cl2l | Self::Barlip | Self::Siamlip | Self::Swalip => Base::Cl2l,
        }
    }

    /// Whether its loss has targets that a momentum encoder can give.
    #[must_use]
    pub fn takes_targets(self) -> bool {
        matches!(self, Self::Siamlip | Self::Swalipv1)
    }
}

/// Splits a name.
///
/// # Errors
/// What follows "'model.name' ": which part is wrong, and the nearest name.
pub(crate) fn split(name: &str) -> Result<(Base, &'static str, Child), String> {
    let parts: Vec<&str> = name.split('_').collect();
    let found = match parts[..] {
        [base, vision, child] => Some((
            BASES.into_iter().find(|(known, _)| *known == base),
            VISION_NAMES.into_iter().find(|known| *known == vision),
            CHILDREN.into_iter().find(|(known, _)| *known == child),
        )),
        _ => None,
    };
    if let Some((Some((_, base)), Some(vision), Some((_, child)))) = found {
        return Ok((base, vision, child));
    }
    let wrong = match (found, parts.as_slice()) {
        (Some((None, ..)), [base, ..]) => {
            format!("begins with '{base}'; a base is CLIP or CL2L")
        }
        (Some((_, None, _)), [_, vision, _]) => {
            let known = VISION_NAMES.join(", ");
            format!("holds the vision tower '{vision}'; known are {known}")
        }
        (Some((.., None)), [.., child]) => {
            let known = CHILDREN.map(|(name, _)| name).join(", ");
            format!("ends with '{child}'; a child is one of {known}")
        }
        _ => format!(
            "must have the form <base>_<vision>_<child>, such as CL2L_R50_CL2L, not '{name}'"
        ),
    };
    let all = all_names();
    let meant = suggest(name, all.iter().map(String::as_str));
    Err(match meant {
        Some(meant) => format!("{wrong}; did you mean '{meant}'?"),
        None => wrong,
    })
}

impl Model {
    /// `<base>_<vision>_<child>` of a resolved model; a tower of free dimensions is `VIT` or `CNEXT`.
    #[must_use]
    pub fn full_name(&self) -> String {
        let vision = match &self.vision {
            Some(Vision::Named(name)) => name,
            Some(Vision::Vit(_)) => "VIT",
            Some(Vision::ConvNext(_)) => "CNEXT",
            None => "?",
        };
        let base = self.base.map_or("?", Base::name);
        format!("{base}_{vision}_{}", self.child.map_or("?", Child::name))
    }
}

/// Every name whose parts fit together.
#[must_use]
pub fn all_names() -> Vec<String> {
    let mut names = Vec::new();
    for vision in VISION_NAMES {
        for (name, child) in CHILDREN {
            names.push(format!("{}_{vision}_{name}", child.base().name()));
        }
    }
    names
}
