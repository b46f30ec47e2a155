//! Batch scripts: what is asked of Slurm, and that no value gets out of its place.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rocket::slurm::script::{Script, Successor, describe, render, render_successor};
use rocket_common::experiment::{Cluster, Flag, MailType, TimeLimit};

fn script<'a>(cluster: &'a Cluster, exclude: &'a [String]) -> Script<'a> {
    Script {
        cluster,
        run_id: "demo-01234567",
        lane: None,
        run_dir: Path::new("/runs/demo-01234567"),
        rocket: Path::new("/runs/bundles/abc/rocket"),
        submission: 0,
        token: "5f3a",
        exclude,
    }
}

/// Everything that can be said.
fn full() -> Cluster {
    let text = |text: &str| Some(text.to_owned());
    Cluster {
        mem: Some("400G".parse().unwrap()),
        time: Some(TimeLimit::Seconds(3 * 86_400)),
        partition: text("learn,prio"),
        account: text("vision & language"),
        qos: text("high"),
        constraint: text("a100|h100"),
        use_volta32: true,
        reservation: text("it's mine"),
        comment: text("for #3, \"soon\" \\ $(id) `id`"),
        exclude: vec!["n[1-3]".into(), "n7".into()],
        dependency: text("afterok:123"),
        mail_user: text("ada@example.org"),
        mail_type: vec![MailType::End, MailType::TimeLimit80],
        setup: vec!["module load cuda/12".into(), "export A=\"$(date)\"".into()],
        env: BTreeMap::from([
            ("NCCL_DEBUG".into(), "INFO".into()),
            ("QUOTED".into(), "it's $HOME".into()),
        ]),
        secrets: Some(vec!["HF_TOKEN".into()]),
        extra: BTreeMap::from([
            ("exclusive".into(), Flag::Alone),
            ("switches".into(), Flag::Value("1@1:00:00".into())),
        ]),
        ..Cluster::default()
    }
}

#[test]
fn the_script_of_a_plain_experiment() {
    insta::assert_snapshot!(render(&script(&Cluster::default(), &[])).unwrap());
}

#[test]
fn the_script_that_asks_for_everything() {
    let bad = ["n7".to_owned(), "n9".to_owned()];
    insta::assert_snapshot!(render(&script(&full(), &bad)).unwrap());
}

#[test]
fn only_the_first_submission_waits_for_other_jobs() {
    let cluster = full();
    let mut made = script(&cluster, &[]);
    assert!(
        render(&made)
            .unwrap()
            .contains("--dependency=afterok:123\n")
    );
    made.submission = 1;
    let later = render(&made).unwrap();
    assert!(!later.contains("--dependency"), "{later}");
    assert!(later.ends_with("--submission 1\n"), "{later}");
}

#[test]
fn a_job_without_gpus_and_without_requeue() {
    let cluster = Cluster {
        gpus_per_node: 0,
        tasks_per_node: Some(2),
        requeue: false,
        ..Cluster::default()
    };
    let script = render(&script(&cluster, &[])).unwrap();
    assert!(!script.contains("--gpus-per-node"), "{script}");
    assert!(script.contains("#SBATCH --no-requeue\n"), "{script}");
    assert!(script.contains("#SBATCH --ntasks-per-node=2\n"), "{script}");
}

#[test]
fn the_script_of_a_successor() {
    let cluster = full();
    let successor = Successor {
        cluster: &cluster,
        run_id: "demo-01234567",
        run_dir: Path::new("/runs/it's/demo-01234567"),
        rocket: Path::new("/runs/bundles/abc/rocket"),
        after: 4711,
        token: "5f3a",
    };
    insta::assert_snapshot!(render_successor(&successor).unwrap());
}

#[test]
fn what_would_happen_is_said_in_words() {
    let short = Cluster {
        time: Some(TimeLimit::Seconds(3600)),
        requeue: false,
        successor: true,
        gpus_per_node: 0,
        tasks_per_node: Some(1),
        nodes: 1,
        ..Cluster::default()
    };
    let told = [Cluster::default(), full(), short].map(|cluster| describe(&cluster));
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_a_script_cannot_say_is_named() {
    let with = |change: &dyn Fn(&mut Cluster)| {
        let mut cluster = Cluster::default();
        change(&mut cluster);
        render(&script(&cluster, &[])).unwrap_err().to_string()
    };
    let break_in = |what: &str| format!("{what}\n#SBATCH --uid=0");
    let told = [
        with(&|cluster| cluster.account = Some(break_in("a"))),
        with(&|cluster| cluster.comment = Some("a\u{0}".into())),
        with(&|cluster| cluster.exclude = vec![break_in("n1")]),
        with(&|cluster| {
            let value = Flag::Value(break_in("x"));
            cluster.extra = BTreeMap::from([("wckey".into(), value)]);
        }),
        with(&|cluster| cluster.env = BTreeMap::from([("A".into(), break_in("x"))])),
        with(&|cluster| cluster.env = BTreeMap::from([("A; id #".into(), "x".into())])),
        with(&|cluster| cluster.partition = Some("x".repeat(9000))),
        with(&|cluster| cluster.setup = vec!["# ".repeat(1 << 20); 3]),
    ];
    insta::assert_snapshot!(told.join("\n"));
    let cluster = Cluster::default();
    let mut odd = script(&cluster, &[]);
    odd.run_dir = Path::new("/runs/a\n#SBATCH --uid=0");
    assert!(render(&odd).is_err());
}

/// `#SBATCH` lines as sbatch reads them: up to the first command, each with quotes and backslashes of
/// its own kind.
fn directives(script: &str) -> Vec<String> {
    let header = script
        .lines()
        .take_while(|line| line.starts_with('#') || line.trim().is_empty());
    let mut found = Vec::new();
    for line in header.filter_map(|line| line.strip_prefix("#SBATCH")) {
        let mut word = String::new();
        let mut quote = None;
        let mut chars = line.trim_start().chars();
        while let Some(c) = chars.next() {
            match (c, quote) {
                ('\\', _) => word.extend(chars.next()),
                (c, Some(open)) if c == open => quote = None,
                ('\'' | '"', None) => quote = Some(c),
                ('#', None) => break,
                (c, None) if c.is_whitespace() => {
                    found.push(std::mem::take(&mut word));
                }
                _ => word.push(c),
            }
        }
        assert_eq!(quote, None, "{line}");
        found.push(word);
    }
    found
}

/// What the script starts, by a real shell: the arguments and the variables of `env`.
fn started(script: &str, folder: &Path) -> (Vec<String>, BTreeMap<String, String>) {
    let file = folder.join("job.sbatch");
    std::fs::write(&file, script).unwrap();
    let output = Command::new("bash")
        .arg(&file)
        .env("LEAK", "1")
        .env("SLURM_JOB_ID", "1")
        .env("SLURM_EXPORT_ENV", "HOME")
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (arguments, variables) = text.split_once("\0\0").unwrap();
    let variables = variables
        .split_terminator('\0')
        .filter_map(|line| line.split_once('='));
    (
        arguments.split('\0').map(str::to_owned).collect(),
        variables.map(|(k, v)| (k.into(), v.into())).collect(),
    )
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9 '\"\\\\#$()`;&|<>*?!~{}%,=@:\t\u{e9}\u{1f600}-]{1,24}",
        prop::sample::select(vec![
            "' --uid=0 '",
            "\\' --uid=0 #",
            "\\\\' x",
            "$(touch pwned)",
            "`touch pwned`",
            "'; touch pwned; '",
            "a # b",
            "%j %x %%",
            "-x",
            "--wrap=id",
            "{{ token }}",
            "{% raw %}",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_value_gets_out_of_its_place(
        account in texts(), comment in texts(), reservation in texts(), constraint in texts(),
        option in texts(), variable in texts(), folder in texts().prop_map(|text| text.replace('/', "_")),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let run_dir = temp.path().join(&folder);
        std::fs::create_dir(&run_dir).unwrap();
        let rocket = run_dir.join("rocket");
        let print = "#!/bin/bash\nprintf '%s\\0' \"$@\"\nprintf '\\0'\nenv -0\n";
        std::fs::write(&rocket, print).unwrap();
        std::fs::set_permissions(&rocket, std::fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster {
            account: Some(account.clone()),
            comment: Some(comment.clone()),
            reservation: Some(reservation.clone()),
            constraint: Some(constraint.clone()),
            extra: BTreeMap::from([("wckey".into(), Flag::Value(option.clone()))]),
            env: BTreeMap::from([("VARIABLE".into(), variable.clone())]),
            ..Cluster::default()
        };
        let made = Script { run_dir: &run_dir, rocket: &rocket, ..script(&cluster, &[]) };
        let text = render(&made).unwrap();
        let run_dir = run_dir.to_str().unwrap();
        prop_assert_eq!(directives(&text), [
            "--job-name=demo-01234567", "--nodes=4", "--ntasks-per-node=8", "--cpus-per-task=10",
            "--gpus-per-node=8",
            &format!("--account={account}"),
            &format!("--constraint={constraint}"),
            &format!("--reservation={reservation}"),
            &format!("--wckey={option}"),
            &format!("--comment={comment} rocket=5f3a"),
            "--requeue", "--signal=B:USR1@360", "--open-mode=append",
            &format!("--chdir={run_dir}"),
            "--export=HOME,LANG,LOGNAME,PATH,SHELL,SLURM_CONF,TZ,USER",
        ]);
        let (arguments, variables) = started(&text, temp.path());
        prop_assert_eq!(arguments, ["supervise", run_dir, "--submission", "0"]);
        prop_assert_eq!(variables.get("VARIABLE"), Some(&variable));
        prop_assert_eq!(variables.get("LEAK"), None);
        prop_assert_eq!(variables.get("SLURM_EXPORT_ENV"), None);
        prop_assert_eq!(variables.get("SLURM_JOB_ID").map(String::as_str), Some("1"));
        prop_assert!(!temp.path().join("pwned").exists());
    }
}

#[test]
fn set_up_lines_run_as_they_were_written_and_see_the_environment() {
    let temp = tempfile::tempdir().unwrap();
    let rocket = temp.path().join("rocket");
    let print = "#!/bin/bash\nprintf '%s\\0' \"$@\"\nprintf '\\0'\nenv -0\n";
    std::fs::write(&rocket, print).unwrap();
    std::fs::set_permissions(&rocket, std::fs::Permissions::from_mode(0o755)).unwrap();
    let cluster = Cluster {
        env: BTreeMap::from([("BASE".into(), "b c".into())]),
        setup: vec![
            "export TWICE=\"$BASE $BASE\"".into(),
            "if true; then\n  export DEEP='{{ x }}'\nfi".into(),
        ],
        ..Cluster::default()
    };
    let made = Script {
        run_dir: temp.path(),
        rocket: &rocket,
        ..script(&cluster, &[])
    };
    let (_, variables) = started(&render(&made).unwrap(), temp.path());
    assert_eq!(variables["TWICE"], "b c b c");
    assert_eq!(variables["DEEP"], "{{ x }}");
}

#[test]
fn jobs_of_a_lane_share_a_name_and_wait_for_each_other() {
    let mut cluster = Cluster::default();
    let lines = |cluster: &Cluster| {
        let made = Script {
            lane: Some("rates-lane1-0011aabb"),
            ..script(cluster, &[])
        };
        render(&made).map(|text| {
            let wanted = ["--job-name", "--dependency", "--comment"];
            let lines = text
                .lines()
                .filter(|line| wanted.iter().any(|option| line.contains(option)));
            lines.collect::<Vec<_>>().join("\n")
        })
    };
    insta::assert_snapshot!(lines(&cluster).unwrap(), @r"
    #SBATCH --job-name=rates-lane1-0011aabb
    #SBATCH --dependency=singleton
    #SBATCH --comment='demo-01234567 rocket=5f3a'
    ");
    cluster.dependency = Some("afterok:12".into());
    cluster.comment = Some("for the paper".into());
    insta::assert_snapshot!(lines(&cluster).unwrap(), @r"
    #SBATCH --job-name=rates-lane1-0011aabb
    #SBATCH --dependency=afterok:12,singleton
    #SBATCH --comment='demo-01234567 for the paper rocket=5f3a'
    ");
    cluster.dependency = Some("afterok:12?afterok:13".into());
    insta::assert_snapshot!(lines(&cluster).unwrap_err(), @"'cluster.dependency' is 'afterok:12?afterok:13', any of several, which Slurm cannot join with 'max_running' of the sweep");
}
