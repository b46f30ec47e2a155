//! What `data:` names: one list of samples, or several joined ones.

use std::path::{Path, PathBuf};

use super::sections::{Data, Dataset};

/// One list of samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataList {
    /// Its format; never [`Dataset::MergedOpendata`].
    pub dataset: Dataset,
    /// Folder of the images; empty if the list names whole paths.
    pub root: PathBuf,
    /// The list; empty if the folder is all there is.
    pub list: PathBuf,
}

impl DataList {
    /// A list, whose images lie below `root` unless the list itself says where they are.
    fn new(dataset: Dataset, root: &Path, list: &Path) -> Self {
        let root = if dataset.has_root() {
            root
        } else {
            Path::new("")
        };
        Self {
            dataset,
            root: root.to_owned(),
            list: list.to_owned(),
        }
    }

    /// What people know it by: its list, or the folder where there is none.
    #[must_use]
    pub fn shown(&self) -> &Path {
        if self.list.as_os_str().is_empty() {
            &self.root
        } else {
            &self.list
        }
    }

    /// Whether its images lie in archives.
    #[must_use]
    pub fn in_archives(&self) -> bool {
        matches!(self.dataset, Dataset::Yfcc15m | Dataset::Webdataset)
    }
}

/// Formats of the lists of `merged_opendata`, in their order.
const MERGED: [Dataset; 3] = [Dataset::Cc3m, Dataset::Cc12m, Dataset::Yfcc15m];

impl Data {
    /// The lists that it names, in order.
    ///
    /// # Errors
    /// If keys do not fit together, in a sentence.
    pub fn lists(&self) -> Result<Vec<DataList>, String> {
        if self.dataset != Dataset::MergedOpendata {
            return Ok(vec![DataList::new(
                self.dataset,
                &self.root,
                &self.metadata,
            )]);
        }
        let split = |path: &Path| -> Vec<String> {
            let text = path.to_string_lossy();
            text.split(Dataset::JOINT).map(str::to_owned).collect()
        };
        let (roots, lists) = (split(&self.root), split(&self.metadata));
        if roots.len() != lists.len() {
            return Err(format!(
                "'data.metadata' has {} and 'data.root' {} paths joined by '{}'; each list needs its folder",
                lists.len(),
                roots.len(),
                Dataset::JOINT
            ));
        }
        let joined = roots.into_iter().zip(lists).enumerate();
        joined
            .map(|(number, (root, list))| {
                let (named, list) = named(&list);
                let dataset = named.or_else(|| MERGED.get(number).copied()).ok_or_else(|| {
                    format!(
                        "'data.metadata' joins more lists than merged_opendata has an order for (cc3m, cc12m, yfcc15m); write the format before list {}, as in 'redcaps={list}'",
                        number + 1
                    )
                })?;
                if dataset == Dataset::MergedOpendata {
                    return Err("a list of merged_opendata cannot be merged_opendata itself".to_owned());
                }
                Ok(DataList::new(dataset, Path::new(&root), Path::new(list)))
            })
            .collect()
    }
}

/// A joined list without the format that may stand before it.
#[must_use]
pub fn named(list: &str) -> (Option<Dataset>, &str) {
    let named = list.split_once('=');
    let named = named.and_then(|(name, list)| Some((Dataset::of_name(name)?, list)));
    named.map_or((None, list), |(dataset, list)| (Some(dataset), list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(root: &str, metadata: &str) -> Result<Vec<(Dataset, String)>, String> {
        let data = Data {
            dataset: Dataset::MergedOpendata,
            root: root.into(),
            metadata: metadata.into(),
            ..Data::default()
        };
        let lists = data.lists()?.into_iter();
        Ok(lists
            .map(|one| {
                (
                    one.dataset,
                    format!("{} {}", one.root.display(), one.list.display()),
                )
            })
            .collect())
    }

    #[test]
    fn joined_lists_have_an_order_or_names() {
        assert_eq!(
            lists("a---b---c---d", "a.npy---b.npy---c.pkl---redcaps=d.json").unwrap(),
            [
                (Dataset::Cc3m, "a a.npy".to_owned()),
                (Dataset::Cc12m, "b b.npy".to_owned()),
                (Dataset::Yfcc15m, "c c.pkl".to_owned()),
                (Dataset::Redcaps, "d d.json".to_owned()),
            ]
        );
        assert_eq!(
            lists("a", "webdataset=b.tar").unwrap(),
            [(Dataset::Webdataset, " b.tar".to_owned())]
        );
        assert_eq!(
            lists("a", "yfcc15m=a.pkl").unwrap(),
            [(Dataset::Yfcc15m, "a a.pkl".to_owned())]
        );
        let wrong = [
            lists("a---b", "a.npy"),
            lists("a---b---c---d", "a---b---c---d"),
            lists("a", "merged_opendata=b"),
        ];
        let said: Vec<String> = wrong.into_iter().map(Result::unwrap_err).collect();
        insta::assert_snapshot!(said.join("\n"), @r"
        'data.metadata' has 1 and 'data.root' 2 paths joined by '---'; each list needs its folder
        'data.metadata' joins more lists than merged_opendata has an order for (cc3m, cc12m, yfcc15m); write the format before list 4, as in 'redcaps=d'
        a list of merged_opendata cannot be merged_opendata itself
        ");
    }
}
