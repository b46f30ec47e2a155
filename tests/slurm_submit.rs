//! Submitting: what is refused, what must not leak, and many runs at once.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use support::Text;
use support::slurm::Site;

const SMALL: [&str; 5] = [
    "cluster.partition=low",
    "cluster.nodes=1",
    "cluster.tasks_per_node=1",
    "cluster.cpus_per_task=1",
    "cluster.time=10",
];

/// A refused submit: says every part of `wanted` and nothing of a panic, leaves no job.
fn refused(site: &Site, set: &[&str], wanted: &[&str]) {
    let output = site.try_submit(&[&SMALL, set].concat());
    let text = output.err();
    assert!(!output.status.success(), "{}{text}", output.out());
    for part in wanted {
        assert!(text.contains(part), "'{part}' is not said:\n{text}");
    }
    assert!(
        text.starts_with("error: ") || text.contains("\nerror: "),
        "{text}"
    );
    assert!(!text.contains("panicked"), "{text}");
    // Slurm may keep a record of what it refused.
    let jobs = site.cluster().jobs();
    assert!(
        jobs.values().all(|job| job["JobState"] == "FAILED"),
        "{}",
        site.cluster().report()
    );
}

#[test]
fn bad_inputs_are_refused_in_words() {
    let Some(site) = Site::new(5, &[("CLUSTER_EXTRA", "EnforcePartLimits=ALL")]) else {
        return;
    };
    refused(&site, &["cluster.partition=nowhere"], &["nowhere", "sinfo"]);
    refused(&site, &["cluster.nodes=9"], &["cluster.nodes"]);
    refused(
        &site,
        &["cluster.partition=theirs", "cluster.account=ours"],
        &["account", "cluster.account"],
    );
    refused(
        &site,
        &["cluster.gpus_per_node=9", "cluster.tasks_per_node=9"],
        &["gpus_per_node"],
    );

    // No sbatch: the path holds git and nothing of Slurm.
    let tools = site.cluster().folder().join("tools");
    fs::create_dir(&tools).expect("a folder");
    for tool in ["git", "sh"] {
        let found = ["/usr/bin", "/usr/local/bin", "/bin"]
            .iter()
            .map(|folder| Path::new(folder).join(tool))
            .find(|path| path.exists())
            .expect("it is installed");
        std::os::unix::fs::symlink(found, tools.join(tool)).expect("linked");
    }
    let mut command = site.submit_command(&SMALL);
    command.env(
        "PATH",
        format!(
            "{}:{}",
            site.cluster().folder().join("bin").display(),
            tools.display()
        ),
    );
    let output = command.output().expect("rocket starts");
    assert!(!output.status.success());
    assert!(output.err().contains("sbatch"), "{}", output.err());

    // A folder of runs that the user may not write.
    let closed = site.cluster().folder().join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("closed");
    let mut command = site.submit_command(&SMALL);
    command.arg("--runs").arg(&closed);
    let output = command.output().expect("rocket starts");
    assert!(!output.status.success());
    let text = output.err();
    assert!(text.contains("closed") && text.contains("--runs"), "{text}");
}

#[test]
fn what_slurm_accepts_and_never_starts_is_explained() {
    // Without EnforcePartLimits, Slurm refuses nothing that it may be able to start one day.
    let Some(site) = Site::new(5, &[]) else {
        return;
    };
    // What it will not start with any number of its nodes free, rocket refuses itself.
    refused(
        &site,
        &["cluster.nodes=9"],
        &["cluster.nodes", "nodes in all"],
    );
    for (set, wanted) in [
        (
            &["cluster.partition=short", "cluster.time=1:00:00"][..],
            "time limit is longer than the partition allows",
        ),
        (
            &["cluster.partition=theirs", "cluster.account=ours"],
            "account not known",
        ),
    ] {
        let run = site.submit(&[&SMALL, set].concat());
        run.wait("reason", |_| {
            let said = site.project().rocket(&["status", &run.id]).ok();
            said.contains("pending") && said.contains(wanted)
        });
        site.project().rocket(&["cancel", &run.id]).ok();
        run.happens("cancelled", 1);
    }
}

#[test]
fn a_lost_answer_submits_nothing_twice() {
    let Some(site) = Site::new(5, &[]) else {
        return;
    };
    // The controller takes the job, and its answer gets lost, as when the client times out.
    let folder = site.cluster().folder().join("lossy");
    fs::create_dir(&folder).expect("a folder");
    let sbatch = folder.join("sbatch");
    let script = "#!/bin/sh\n/usr/bin/sbatch \"$@\" >/dev/null || exit\n\
        echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2\n\
        exit 1\n";
    fs::write(&sbatch, script).expect("written");
    fs::set_permissions(&sbatch, fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = site.submit_command(&SMALL);
    command.arg("--set").arg("cluster.dependency=afterok:1");
    let path = command
        .get_envs()
        .find(|(name, _)| *name == "PATH")
        .and_then(|(_, path)| path?.to_str().map(str::to_owned))
        .expect("a path");
    command.env("PATH", format!("{}:{path}", folder.display()));
    // Something to wait for, so that the job is in the queue when it is looked for.
    let first = site.cluster().occupy("n1", 60);
    assert_eq!(first, 1);
    let run = site.run(&command.output().expect("rocket starts"));
    let jobs = site.cluster().jobs();
    let mine: Vec<_> = jobs
        .values()
        .filter(|job| job["JobName"] == run.id)
        .collect();
    assert_eq!(mine.len(), 1, "{}", run.report());
    assert_eq!(mine[0]["JobId"], run.job().to_string());
    assert_eq!(run.count("queued"), 1, "{}", run.report());
}

#[test]
fn names_and_comments_cannot_inject_a_line() {
    let Some(site) = Site::new(5, &[]) else {
        return;
    };
    let mark = site.cluster().folder().join("home/mark");
    let evil = format!(
        "it's \"$(touch {0})\" `touch {0}`; touch {0}",
        mark.display()
    );
    // A name is refused for what it holds, with quotes, newlines or commands in it.
    for name in ["it's", "a\nb", "$(id)", "a b", "-n"] {
        let yaml = format!("{name:?}");
        refused(&site, &[&format!("name={yaml}")], &["name"]);
    }
    let run = site.submit(
        &[
            &SMALL[..],
            &[
                &format!("cluster.comment={evil:?}"),
                &format!("cluster.env={{NASTY: {evil:?}}}"),
                "train.max_steps=2",
            ],
        ]
        .concat(),
    );
    run.finished();
    assert!(!mark.exists(), "a comment was executed");
    let job = site.cluster().job(run.job());
    assert!(job["Comment"].contains("$(touch"), "{job:#?}");
    // A line break in a comment is no line of the script.
    let broken = format!("cluster.comment={:?}", "x\n#SBATCH --nodes=4");
    let output = site.try_submit(&[&SMALL[..], &[&broken]].concat());
    assert!(!output.status.success());
    assert!(output.err().contains("cluster.comment"), "{}", output.err());
}

#[test]
fn a_secret_is_nowhere_but_in_its_file() {
    const SECRET: &str = "0123456789abcdef-very-secret";
    let Some(site) = Site::new(5, &[]) else {
        return;
    };
    let mut command = site.submit_command(&[&SMALL[..], &["train.max_steps=2"]].concat());
    let output = command
        .env("WANDB_API_KEY", SECRET)
        .env("ANOTHER_TOKEN", format!("{SECRET}-2"))
        .output()
        .expect("rocket starts");
    let run = site.run(&output);
    run.reach(1);
    let shown = site
        .cluster()
        .run("scontrol", &["show", "job", "-dd", &run.job().to_string()]);
    let mut script = site
        .cluster()
        .run(
            "scontrol",
            &["write", "batch_script", &run.job().to_string(), "-"],
        )
        .out();
    script += &shown.out();
    assert!(!script.contains(SECRET));
    run.finished();
    let mut found = Vec::new();
    search(site.project().path(), SECRET, &mut found);
    search(&site.cluster().logs(), SECRET, &mut found);
    found.retain(|path| !path.contains("/.secrets/"));
    assert!(found.is_empty(), "{found:?}");
    // A finished run needs none.
    let secrets = site.project().path().join("runs/.secrets");
    let mut kept = Vec::new();
    search(&secrets, SECRET, &mut kept);
    for file in kept {
        let mode = fs::metadata(&file).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
}

/// Paths of the files below a folder that hold a text.
fn search(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            if path.file_name().is_some_and(|name| name != "bundles") {
                search(&path, text, found);
            }
        } else if let Ok(bytes) = fs::read(&path)
            && bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
}

#[test]
fn two_hundred_submits_and_the_status_of_a_thousand_runs() {
    let Some(site) = Site::new(5, &[]) else {
        return;
    };
    let cluster = site.cluster();
    // Accepted, and never started: what is measured is the way there.
    cluster
        .run("scontrol", &["update", "PartitionName=low", "State=DOWN"])
        .ok();
    let begin = Instant::now();
    let mut runs = Vec::new();
    for seed in 0..200 {
        runs.push(site.submit(&[&SMALL[..], &[&format!("seed={seed}")]].concat()));
    }
    let each = begin.elapsed() / 200;
    assert_eq!(cluster.jobs().len(), 200);
    let jobs: std::collections::BTreeSet<u32> = runs.iter().map(|run| run.job()).collect();
    assert_eq!(jobs.len(), 200);

    // 800 more directories, of runs whose jobs are long forgotten.
    let all = site.project().path().join("runs");
    for (number, run) in (0..800).zip(runs.iter().cycle()) {
        let copy = all.join(format!("{}-copy{number}", run.id));
        copy_folder(
            &run.dir,
            &copy,
            &run.id,
            &format!("{}-copy{number}", run.id),
        );
        site.user().own(&copy);
    }

    // Every question to Slurm is counted.
    let folder = cluster.folder().join("counting");
    fs::create_dir(&folder).expect("a folder");
    let asked = cluster.folder().join("home/asked");
    for program in ["squeue", "scontrol", "sacct", "sinfo"] {
        let script = format!(
            "#!/bin/sh\necho {program} >>{}\nexec /usr/bin/{program} \"$@\"\n",
            asked.display()
        );
        let path = folder.join(program);
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    }
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let _ = fs::remove_file(&asked);
        let mut command = site.project().command("rocket");
        let path = format!(
            "{}:{}:/usr/bin:/bin",
            folder.display(),
            cluster.folder().join("bin").display()
        );
        let begin = Instant::now();
        let output = command
            .arg("status")
            .env("PATH", path)
            .output()
            .expect("rocket starts");
        best = best.min(begin.elapsed());
        let said = output.ok();
        let waiting = |line: &&str| line.starts_with("first-") && line.contains("pending");
        assert!(said.lines().filter(waiting).count() >= 200, "{said}");
        assert_eq!(fs::read_to_string(&asked).expect("it asked"), "squeue\n");
    }
    eprintln!("a submit takes {each:?}, the status of 1000 runs {best:?}");
    assert!(
        best < Duration::from_secs(1),
        "status of 1000 runs takes {best:?}"
    );
}

/// Copies a run's directory under another id.
fn copy_folder(from: &Path, to: &Path, id: &str, new: &str) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("read").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target, id, new);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            fs::write(target, text.replace(id, new)).expect("written");
        }
    }
}
