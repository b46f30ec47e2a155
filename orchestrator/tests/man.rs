//! `rocket man`: a page for rocket and each of its commands.
#![allow(missing_docs)]

mod support;

use std::fs;

use support::Env;

#[test]
fn every_command_has_a_page() {
    let env = Env::new();
    let dir = env.path("man1");
    env.rocket(&["man", "--dir", dir.to_str().unwrap()]).ok();
    let mut pages: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    pages.sort();
    for page in [
        "rocket.1",
        "rocket-submit.1",
        "rocket-sweep.1",
        "rocket-sweep-extend.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
    for hidden in ["rocket-supervise.1", "rocket-rank.1", "rocket-help.1"] {
        assert!(!pages.iter().any(|name| name == hidden), "{pages:?}");
    }
    let page = fs::read_to_string(dir.join("rocket-sweep-extend.1")).unwrap();
    assert!(page.contains(".TH rocket-sweep-extend 1 "), "{page}");
    for section in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", "KEY=VALUE"] {
        assert!(page.contains(section), "{section}: {page}");
    }
    assert_eq!(env.rocket(&["man", "sweep", "extend"]).ok().stdout, page);
    let said = env.rocket(&["man", "sbmit"]).fails();
    insta::assert_snapshot!(said, @r"
    --- stderr
    error: rocket has no command 'sbmit'
    hint: did you mean 'submit'?
    ");
}
