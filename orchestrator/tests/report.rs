//! `rocket report`: the page's text and data.
#![allow(missing_docs)]

#[path = "support/made.rs"]
mod made;
mod support;

use std::fs;
use std::io::Write;

use made::Made;
use serde_json::Value;
use support::Env;

fn page(env: &Env, args: &[&str]) -> String {
    let all: Vec<&str> = ["report"].iter().chain(args).copied().collect();
    let said = env.rocket(&all).ok();
    assert_eq!(said.stdout, "report.html\n");
    fs::read_to_string(env.path("repo/report.html")).unwrap()
}

#[test]
fn what_people_write_is_escaped() {
    let env = Env::new();
    let runs = env.path("repo/runs");
    let mut made = Made::new("bad-11111111");
    made.name = "a\"b'<img src=x onerror=alert(1)>".into();
    made.cause = Some("</script><img src=x onerror=alert(1)> & 'more'".into());
    let dir = made.write(&runs);
    // The experiment has a name that is allowed; the manifest's does not have to be.
    let yaml = fs::read_to_string(dir.join("experiment.yaml")).unwrap();
    let yaml = yaml.replacen(&format!("name: {}", made.name), "name: bad", 1);
    fs::write(
        dir.join("experiment.yaml"),
        yaml.replace("/data/cc3m.npy", "'</script><img src=x>.npy'"),
    )
    .unwrap();
    let mut log = fs::File::create(dir.join("attempts/001/ranks/0.log")).unwrap();
    log.write_all(b"\x1b[31mred\x1b[0m \xff\xfe <b>\x00\nlast line\n")
        .unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(dir.join("metrics.jsonl"))
        .unwrap()
        .write_all(
            b"{\"kind\":\"train\",\"step\":201,\"</script><i>loss\":1.5}\n{\"kind\":\"train\",\"st",
        )
        .unwrap();

    let html = page(&env, &["bad-11111111"]);
    assert!(!html.contains("<img") && !html.contains("<i>") && !html.contains("<b>"));
    assert_eq!(html.matches("</script>").count(), 2, "its own two scripts");
    assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(html.contains("red \u{fffd}\u{fffd} &lt;b&gt;\u{fffd}"));
    assert!(html.contains("default-src 'none'"));
    for address in ["http:", "https:", "src=\"", "url("] {
        let svg = html.replace("http://www.w3.org/2000/svg", "");
        assert!(!svg.contains(address), "{address}");
    }
}

#[test]
fn the_data_of_curves() {
    let env = Env::new();
    let mut made = Made::new("base-11111111");
    made.steps = 4;
    made.write(&env.path("repo/runs"));
    let data: Value =
        serde_json::from_str(&env.rocket(&["report", "base", "--json"]).ok().stdout).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&data).unwrap());
}

#[test]
fn a_long_run_becomes_a_small_page() {
    let env = Env::new();
    let mut made = Made::new("long-11111111");
    made.steps = 200_000;
    made.write(&env.path("repo/runs"));
    let html = page(&env, &["long"]);
    assert!(html.len() < 1_000_000, "{}", html.len());
    let data: Value =
        serde_json::from_str(&env.rocket(&["report", "long", "--json"]).ok().stdout).unwrap();
    let loss = &data["panels"][0]["series"][0];
    assert_eq!(loss["recorded"], 200_000);
    let kept = loss["x"].as_array().unwrap().len();
    assert!((1_000..=2_002).contains(&kept), "{kept}");
}

#[test]
fn several_runs_by_pattern_and_by_sweep() {
    let env = Env::new();
    let runs = env.path("repo/runs");
    for (point, seed) in [0, 10, 50].into_iter().enumerate() {
        let mut made = Made::new(&format!("seeds-{seed}-1111111{point}"));
        made.seed = seed;
        made.sweep = Some(("seeds", point as u64));
        made.write(&runs);
    }
    for query in ["seeds-*", "seeds"] {
        let html = page(&env, &[query]);
        assert_eq!(html.matches("<details class=\"run\">").count(), 3);
        assert!(
            html.contains("<code>seed</code>") && html.contains("Differences of configuration")
        );
        assert!(html.contains(&format!("<h1>{query}: 3 runs</h1>")));
    }
    // One that cannot be read hides no other.
    fs::write(runs.join("seeds-0-11111110/run.json"), "{").unwrap();
    let said = env.rocket(&["report", "seeds-*"]).ok();
    assert!(
        said.stderr.contains("warning: run seeds-0-11111110"),
        "{said}"
    );
    let said = env.rocket(&["report", "nothing-*"]).fails();
    assert!(said.stderr.contains("matches 'nothing-*'"), "{said}");
}

#[test]
fn half_a_run_directory_is_said_to_be_half() {
    let env = Env::new();
    let dir = Made::new("half-11111111").write(&env.path("repo/runs"));
    fs::remove_file(dir.join("experiment.yaml")).unwrap();
    fs::remove_file(dir.join("metrics.jsonl")).unwrap();
    fs::remove_dir_all(dir.join("eval")).unwrap();
    fs::remove_dir_all(dir.join("attempts")).unwrap();
    let html = page(&env, &["half"]);
    assert!(html.contains("class=\"trouble\" role=\"note\">half-11111111: cannot read"));
}
