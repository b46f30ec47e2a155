//! What people write wrong in the catalog, the labels and the prompts, and what they are told.

mod eval_support;

use std::fs;
use std::path::{Path, PathBuf};

use eval_support::{image_folder, no_decode, write_json};
use rocket_worker::eval::classes::Matched;
use rocket_worker::eval::labels::Template;
use rocket_worker::eval::{Catalog, EvalError, EvalSet, Labels, Prompts, Templates};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with a catalog, labels and prompts.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new(catalog: &Value, labels: &Value, templates: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        write_json(&dir.path().join("catalog.json"), catalog);
        write_json(&dir.path().join("labels.json"), labels);
        write_json(&dir.path().join("templates.json"), templates);
        Self { dir }
    }

    /// The set `pets` with class folders and labels.
    fn pets(folders: &[&str], labels: &Value, more: &Value) -> Self {
        let mut entry = json!({"path": "data", "type": "imagefolder", "test": "val"});
        let object = entry.as_object_mut().expect("an object");
        object.extend(more.as_object().expect("an object").clone());
        let this = Self::new(
            &json!({"pets": entry}),
            &json!({"pets": labels}),
            &json!({"pets": ["a {}"]}),
        );
        image_folder(&this.path().join("data/val"), folders);
        this
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn open(&self, set: &str) -> Result<EvalSet, EvalError> {
        let at = |name: &str| self.path().join(name);
        EvalSet::open(
            set,
            &Catalog::load(&at("catalog.json"), self.path())?,
            &Labels::load(&at("labels.json"))?,
            &Templates::load(&at("templates.json"))?,
            no_decode(),
        )
    }

    /// What a person is told, the temporary folder left out.
    fn error(&self, set: &str) -> String {
        let error = self.open(set).err().expect("an error");
        error
            .to_string()
            .replace(&format!("{}/", self.path().display()), "")
    }
}

fn pets_error(folders: &[&str], labels: &Value, more: &Value) -> String {
    Files::pets(folders, labels, more).error("pets")
}

#[test]
fn all_wrong_entries_of_a_catalog_are_named_at_once() {
    let catalog = json!({
        "a": {"path": "/x", "type": "imagefolders", "test": "val"},
        "b": {"type": "imagefolder", "tset": "val"},
        "c": "/x",
        "d": {"path": 3, "type": "special"},
        "e": {"path": "", "type": "filelist", "classes": 7},
        "good": {"path": "/x", "type": "special"},
        // Its result would be a file in a folder that nobody makes, or anywhere.
        "wds/pets": {"path": "/x", "type": "imagefolder", "test": "val"},
        "../../x": {"path": "/x", "type": "imagefolder", "test": "val"},
    });
    insta::assert_snapshot!(Files::new(&catalog, &json!({}), &json!({})).error("a"), @r"
    catalog.json: entry 'a': unknown type 'imagefolders'; did you mean 'imagefolder'? the types are 'imagefolder', 'filelist', 'special'
    catalog.json: entry 'b': unknown key 'tset'; did you mean 'test'? the keys are 'path', 'type', 'train', 'test', 'classes'
    catalog.json: entry 'b': the key 'path' is missing; add it
    catalog.json: entry 'b': the key 'test' is missing; name the folder below 'path' that holds the class folders ('.' if they lie in 'path' itself)
    catalog.json: entry 'c': a string stands where an object with 'path' and 'type' is needed
    catalog.json: entry 'd': 'path' is a number; write a string
    catalog.json: entry 'e': 'path' is empty; write a path or a name there
    catalog.json: entry 'e': the key 'test' is missing; name what precedes '_images.npy' and '_labels.npy' in the names of the files in 'path'
    catalog.json: entry 'e': 'classes': a number stands where a list of folder names in label order, an object of folder: label, or the path of a JSON file with one of these is needed
    catalog.json: entry 'wds/pets': a set's name must be 1 to 64 bytes, without '/' and not beginning with '.', since its results are files of that name; not 'wds/pets'
    catalog.json: entry '../../x': a set's name must be 1 to 64 bytes, without '/' and not beginning with '.', since its results are files of that name; not '../../x'
    ");
}

#[test]
fn what_is_not_json_is_shown_with_its_place() {
    let files = Files::new(&json!({}), &json!({}), &json!({}));
    fs::write(
        files.path().join("catalog.json"),
        "{\n  \"a\": {\"path\": }\n}",
    )
    .expect("written");
    insta::assert_snapshot!(files.error("a"), @r"catalog.json:2:17: this is not valid JSON: expected value; mend the file at that place");
    fs::write(
        files.path().join("catalog.json"),
        "{\n  \"a\": {},\n  \"a\": {}\n}",
    )
    .expect("written");
    insta::assert_snapshot!(files.error("a"), @r"catalog.json:3:5: this is not valid JSON: the key 'a' stands twice; mend the file at that place");
    fs::remove_file(files.path().join("catalog.json")).expect("removed");
    insta::assert_snapshot!(files.error("a"), @r"catalog.json: cannot read this file: No such file or directory (os error 2)");
}

#[test]
fn an_unknown_set_lists_the_known_ones() {
    let catalog = json!({"cars": {"path": "/x", "type": "special"}, "dtd": {"path": "/x", "type": "special"}});
    insta::assert_snapshot!(Files::new(&catalog, &json!({}), &json!({})).error("pets"), @r"catalog.json: there is no entry 'pets'; it has 'cars', 'dtd'. Choose one of these or add 'pets' to the file");
}

#[test]
fn only_sets_with_a_format_of_their_own_are_special() {
    let catalog = json!({"pets": {"path": "/x", "type": "special"}});
    let files = Files::new(&catalog, &json!({}), &json!({}));
    insta::assert_snapshot!(files.error("pets"), @"catalog.json: entry 'pets': type 'special' is for sets in a binary format of their own, which are 'mnist', 'cifar10', 'cifar100', 'stl10'; set the type to 'imagefolder' or 'filelist'");
}

#[test]
fn labels_and_prompts_of_another_set_or_form_are_refused() {
    let entry = json!({"path": "/x", "type": "imagefolder", "test": "val"});
    let catalog = json!({"pets": entry, "parrots": entry});
    let error =
        |labels: Value, templates: Value| Files::new(&catalog, &labels, &templates).error("pets");
    let unlisted = |labels: Value, templates: Value| {
        Files::new(&catalog, &labels, &templates).error("parrots")
    };
    let pets = json!({"pets": ["cat", "dog"]});
    insta::assert_snapshot!(unlisted(json!({"cars": ["a"]}), json!({"parrots": ["{}"]})), @"there are no class names of 'parrots': labels.json has 'cars', and they are not among the published ones that rocket carries. Add 'parrots' to the file");
    insta::assert_snapshot!(unlisted(json!({"parrots": ["a"]}), json!({"cars": ["{}"], "dtd": ["{}"]})), @"there are no prompts of 'parrots': templates.json has 'cars', 'dtd', and they are not among the published ones that rocket carries. Add 'parrots' to the file");
    insta::assert_snapshot!(error(json!({"pets": []}), json!({"pets": ["{}"]})), @r"labels.json: entry 'pets': the list of class names is empty");
    insta::assert_snapshot!(error(json!({"pets": {"0": "cat"}}), json!({"pets": ["{}"]})), @r"labels.json: entry 'pets': an object stands where a list of class names is needed");
    insta::assert_snapshot!(error(json!({"pets": ["cat", "", 3, [], ["a", null]]}), json!({"pets": ["{}"]})), @r"
    labels.json: entry 'pets': class 1 is named by an empty string; write a name, or a list of names
    labels.json: entry 'pets': class 2 is named by a number; write a name, or a list of names
    labels.json: entry 'pets': class 3 has no name; give it one
    labels.json: entry 'pets': class 4 is named by null; write a name, or a list of names
    ");
    insta::assert_snapshot!(error(pets, json!({"pets": ["a photo", "a { }", "{} and {}", 5]})), @r"
    templates.json: entry 'pets': prompt 0 'a photo' has no place for the class name; write '{}' there
    templates.json: entry 'pets': prompt 1 'a { }' has a brace that is no place for the class name; write '{}' there, or double the brace
    templates.json: entry 'pets': prompt 2 '{} and {}' has '{}' more than once; write '{0}' at each place
    templates.json: entry 'pets': prompt 3 is a number; write a string
    ");
}

#[test]
fn a_missing_folder_and_a_folder_without_classes_are_named() {
    let files = Files::pets(&[], &json!(["cat"]), &json!({}));
    insta::assert_snapshot!(files.error("pets"), @r"data/val: cannot find class folders here: there is no folder in it; lay the images out as one folder per class");
    fs::remove_dir_all(files.path().join("data")).expect("removed");
    insta::assert_snapshot!(files.error("pets"), @r"catalog.json: entry 'pets': there is no folder data/val; make it with 'rocket-worker data prepare-eval pets SOURCE', or correct 'path' and 'test'");
}

#[test]
fn folders_that_are_not_the_labels_are_refused_with_the_difference() {
    let labels = json!(["cat", "dog", "Great Pyrenees"]);
    let none = json!({});
    // One too many, one too few, and numbers that say nothing.
    insta::assert_snapshot!(pets_error(&["cat", "dog", "great_pyrenees", ".cache"], &labels, &none), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      4 class folders, but 3 labels
      no label for 1 folder: '.cache'
    remove what is too much, add what is missing, or give the label of each folder under 'classes' in the catalog
    ");
    insta::assert_snapshot!(pets_error(&["cat", "dog"], &labels, &none), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      2 class folders, but 3 labels
      no folder for 1 label: 'Great Pyrenees'
    remove what is too much, add what is missing, or give the label of each folder under 'classes' in the catalog
    ");
    insta::assert_snapshot!(pets_error(&["n01", "n02"], &labels, &none), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      2 class folders, but 3 labels
      the folders are 'n01', 'n02'
    remove what is too much, add what is missing, or give the label of each folder under 'classes' in the catalog
    ");
    // As many, but in an order that only luck would make right.
    insta::assert_snapshot!(pets_error(&["a_dog", "cat", "dog"], &labels, &none), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      folder 'cat' comes at place 1 in sorted order, where the label is 'dog', but bears the name of label 0
      folder 'dog' comes at place 2 in sorted order, where the label is 'Great Pyrenees', but bears the name of label 1
    give the label of each folder under 'classes' in the catalog
    ");
    let many = json!([
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"
    ]);
    insta::assert_snapshot!(
        pets_error(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"], &many, &none), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      the folders are numbers without leading zeros, so that '10' sorts before '2': sorted order is probably not the labels' order
    list the folders in the order of the labels under 'classes' in the catalog
    "
    );
}

#[test]
fn an_explicit_order_that_does_not_fit_is_refused_with_the_difference() {
    let labels = json!(["cat", "dog", "crane", "crane"]);
    let folders = ["n1", "n2", "n3", "n4"];
    let error = |classes: Value| pets_error(&folders, &labels, &json!({"classes": classes}));
    insta::assert_snapshot!(error(json!(["n1", "n2", "n3"])), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      'classes' lists 3 folders, but there are 4 labels
    list one folder per label, in the order of the labels
    ");
    insta::assert_snapshot!(error(json!(["n1", "n2", "n2", "n5"])), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      'classes' names folder 'n2' twice
      1 folder in 'classes' but no such folder: 'n5'
      2 folders on disk but not in 'classes': 'n3', 'n4'
      no folder for 1 label: 'crane'
    mend 'classes' in the catalog, or the folders
    ");
    insta::assert_snapshot!(error(json!({"n1": "cat", "n2": "cow", "n3": "crane"})), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      'classes' gives folder 'n2' the label 'cow', which is no label
      'classes' gives folder 'n3' the label 'crane', which is the name of 2 classes (numbers 2, 3); give a list of folders in label order instead
    use the labels' names exactly as they are written there
    ");
    insta::assert_snapshot!(error(json!({"n1": "cat", "n2": "cat"})), @r"
    data/val: the class folders of 'pets' do not match its labels in labels.json:
      'classes' gives label 0 ('cat') to both 'n1' and 'n2'
      2 folders on disk but not in 'classes': 'n3', 'n4'
      no folder for 3 labels: 'dog', 'crane', 'crane'
    mend 'classes' in the catalog, or the folders
    ");
    insta::assert_snapshot!(error(json!("order.json")), @r"data/order.json: cannot read this file: No such file or directory (os error 2)");
    insta::assert_snapshot!(error(json!(["n1", 2])), @r"catalog.json: entry 'pets': 'classes': folder 1 is a number; write a string");
}

#[test]
fn empty_class_folders_are_named() {
    let files = Files::pets(
        &["cat", "dog", "emu"],
        &json!(["cat", "dog", "emu"]),
        &json!({}),
    );
    let image = files.path().join("data/val/dog/0.jpg");
    fs::rename(&image, image.with_extension("gif")).expect("renamed");
    insta::assert_snapshot!(files.error("pets"), @r"data/val: no image in a class folder of 'pets': dog; add images (.jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp) or remove the class from folders and labels");
    fs::remove_file(files.path().join("data/val/cat/0.jpg")).expect("removed");
    insta::assert_snapshot!(files.error("pets"), @r"data/val: no image in class folders of 'pets': cat, dog; add images (.jpg .jpeg .png .ppm .bmp .pgm .tif .tiff .webp) or remove the class from folders and labels");
}

fn targets(set: &EvalSet) -> Vec<usize> {
    (0..set.samples.len())
        .map(|i| set.samples.target(i))
        .collect()
}

#[test]
fn folders_are_matched_by_order_by_name_or_explicitly() {
    let open = |folders: &[&str], labels: Value, more: Value| {
        Files::pets(folders, &labels, &more)
            .open("pets")
            .expect("a set")
    };
    let none = || json!({});
    let set = open(&["n01", "n02", "n03"], json!(["cat", "dog", "emu"]), none());
    assert_eq!(
        (targets(&set), set.matched),
        (vec![0, 1, 2], Matched::SortedOrder)
    );
    // Sorted, capitals come first: the names say better.
    let set = open(
        &["Zebra", "cat", "hot_dog"],
        json!(["cat", "hot dog", ["horse", "zebra"]]),
        none(),
    );
    assert_eq!(
        (targets(&set), set.matched),
        (vec![2, 0, 1], Matched::ByName)
    );
    let set = open(&["0", "1", "10", "2"], json!(["0", "1", "2", "10"]), none());
    assert_eq!(
        (targets(&set), set.matched),
        (vec![0, 1, 3, 2], Matched::ByName)
    );
    // Names shared by two classes say nothing against the sorted order.
    let set = open(&["n1", "n2"], json!(["crane", "crane"]), none());
    assert_eq!(set.matched, Matched::SortedOrder);
    let set = open(
        &["n1", "n2"],
        json!(["cat", "dog"]),
        json!({"classes": ["n2", "n1"]}),
    );
    assert_eq!(
        (targets(&set), set.matched),
        (vec![1, 0], Matched::Explicit)
    );
    let set = open(
        &["n1", "n2"],
        json!(["cat", "dog"]),
        json!({"classes": {"n1": "dog", "n2": "cat"}}),
    );
    assert_eq!(
        (targets(&set), set.matched),
        (vec![1, 0], Matched::Explicit)
    );
    assert_eq!(set.class_names, ["cat", "dog"]);
}

#[test]
fn an_order_file_lies_beside_the_splits() {
    let files = Files::pets(
        &["n1", "n2"],
        &json!(["cat", "dog"]),
        &json!({"classes": "classes.json"}),
    );
    write_json(
        &files.path().join("data/classes.json"),
        &json!(["n2", "n1"]),
    );
    let set = files.open("pets").expect("a set");
    assert_eq!(
        (targets(&set), set.matched),
        (vec![1, 0], Matched::Explicit)
    );
}

#[test]
fn variables_in_paths_are_expanded_and_must_be_set() {
    let paths = [
        "$ROOT/a",
        "${ROOT}b/$SUB",
        "a$$b",
        "/x",
        "$NONE/a",
        "${ROOT",
        "a/$/b",
    ];
    let entries = paths.iter().enumerate();
    let catalog: serde_json::Map<String, Value> = entries
        .map(|(i, p)| (i.to_string(), json!({"path": p, "type": "special"})))
        .collect();
    let files = Files::new(&Value::Object(catalog), &json!({}), &json!({}));
    let catalog =
        Catalog::load(&files.path().join("catalog.json"), Path::new("/base")).expect("a catalog");
    let variable = |name: &str| match name {
        "ROOT" => Some("/data".to_owned()),
        "SUB" => Some("sub".to_owned()),
        _ => None,
    };
    let root = |i: usize| catalog.root_with(&catalog.entries()[i], variable);
    let good: Vec<PathBuf> = (0..4).map(|i| root(i).expect("a path")).collect();
    assert_eq!(
        good,
        ["/data/a", "/datab/sub", "/base/a$b", "/x"].map(PathBuf::from)
    );
    let bad: Vec<String> = (4..7)
        .map(|i| root(i).expect_err("an error").to_string())
        .collect();
    let bad = bad
        .join("\n")
        .replace(&format!("{}/", files.path().display()), "");
    insta::assert_snapshot!(bad, @r"
    catalog.json: entry '4': path '$NONE/a': the environment variable NONE is not set; set it, or write the path out
    catalog.json: entry '5': path '${ROOT': '${' is not closed; write '${NAME}'
    catalog.json: entry '6': path 'a/$/b': '$' begins no variable; write '$NAME', or '$$' for a dollar sign
    ");
}

#[test]
fn images_are_found_as_torchvision_finds_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let cat = dir.path().join("cat");
    for file in [
        "b.JPG",
        "a.png",
        "note.txt",
        "z/1.jpeg",
        "z/y/2.webp",
        "z-1/0.jpg",
        ".jpg",
        "no",
    ] {
        let path = cat.join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("created");
        fs::write(path, b"").expect("written");
    }
    fs::write(dir.path().join("stray.jpg"), b"").expect("written");
    std::os::unix::fs::symlink(&cat, cat.join("z/up")).expect("linked");
    let classes = rocket_worker::eval::imagefolder::list(dir.path()).expect("listed");
    assert_eq!(classes.len(), 1);
    let found: Vec<String> = classes[0]
        .images
        .iter()
        .map(|p| p.strip_prefix(&cat).expect("below").display().to_string())
        .collect();
    // Folders are ordered by their whole path as text: '-' comes before '/'.
    assert_eq!(
        found,
        [
            ".jpg",
            "a.png",
            "b.JPG",
            "z/1.jpeg",
            "z-1/0.jpg",
            "z/y/2.webp"
        ]
    );
}

#[test]
fn prompts_are_filled_as_python_fills_them() {
    let fill = |text: &str| Template::parse(text).map(|t| t.fill("cat"));
    assert_eq!(fill("a {}.").as_deref(), Ok("a cat."));
    assert_eq!(fill("{0} or {0}").as_deref(), Ok("cat or cat"));
    assert_eq!(fill("{{{}}} é").as_deref(), Ok("{cat} é"));
    for wrong in ["a", "{", "}", "{} {}", "{} {0}", "{name}", "{{}}"] {
        assert!(fill(wrong).is_err(), "{wrong}");
    }
    // Every template with every name, templates outermost.
    let templates = ["a {}", "the {}"].map(|t| Template::parse(t).expect("a template"));
    let labels = vec![
        vec!["cat".to_owned(), "kitty".to_owned()],
        vec!["dog".to_owned()],
    ];
    let prompts = Prompts::new(&labels, &templates);
    assert_eq!(
        prompts.by_class[0],
        ["a cat", "a kitty", "the cat", "the kitty"]
    );
    assert_eq!(prompts.by_class[1], ["a dog", "the dog"]);
}
