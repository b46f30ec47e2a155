//! What probes found, judged: a pure function.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::Finding;
use super::probe::Found;

/// Between whom was probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Two processes of one machine.
    Processes,
    /// Nodes of a job.
    Nodes,
}

/// Judges what probes found together.
#[must_use]
pub fn judge(found: &[Found], between: Between) -> Vec<Finding> {
    let mut findings = files(found, between);
    if between == Between::Nodes {
        findings.extend(network(found));
        findings.extend(machines(found));
    }
    findings.extend(workers(found, between));
    findings
}

fn files(found: &[Found], between: Between) -> Vec<Finding> {
    let whom = match between {
        Between::Processes => "between processes",
        Between::Nodes => "between nodes",
    };
    let mut findings = Vec::new();
    if let Some(ms) = found.iter().find_map(|one| one.files.seen_after_ms) {
        let text = format!("a file made by one is seen by the other after {ms:.1} ms");
        findings.push(if ms > 5000.0 {
            Finding::warning(text).advice("the file system hides new files (NFS: actimeo); requests such as 'rocket cancel' arrive that late")
        } else {
            Finding::ok(text)
        });
    }
    findings.push(rename(found, whom));
    if found.iter().any(|one| !one.files.rename_dir_refused) {
        findings.push(
            Finding::problem(
                "renaming a folder does not work as POSIX says: a checkpoint could replace another",
            )
            .advice("name a runs root on another file system"),
        );
    }
    findings.push(link(found, whom));
    let fsync = found
        .iter()
        .map(|one| one.files.fsync_ms)
        .fold(0.0, f64::max);
    let speed = found.iter().find_map(|one| one.files.write_mib_s).map_or(String::new(), |speed| {
        format!("; one process writes {speed:.0} MiB/s, so that a checkpoint of 1 GiB takes about {:.0} s", (1024.0 / speed).max(1.0))
    });
    findings.push(if fsync > 2000.0 {
        Finding::warning(format!("an fsync takes {fsync:.0} ms{speed}"))
    } else {
        Finding::ok(format!("an fsync takes {fsync:.1} ms{speed}"))
    });
    for (name, answers) in [
        (
            "flock",
            found
                .iter()
                .filter_map(|one| one.files.flock)
                .collect::<Vec<_>>(),
        ),
        (
            "fcntl",
            found.iter().filter_map(|one| one.files.fcntl).collect(),
        ),
    ] {
        findings.push(match answers[..] {
            [] => Finding::note(format!(
                "the file system knows no {name} locks; rocket needs none"
            )),
            _ if answers.iter().all(|respected| *respected) => {
                Finding::ok(format!("{name} locks hold {whom}"))
            }
            _ => Finding::note(format!(
                "{name} locks do not hold {whom}; rocket needs none"
            )),
        });
    }
    match found.iter().find_map(|one| one.files.lost_lines) {
        Some(0) => findings.push(Finding::ok(format!("appends to a common file (O_APPEND) are whole {whom}"))),
        Some(lost) => findings.push(Finding::note(format!(
            "{lost} of {} lines appended to a common file {whom} were lost or torn (O_APPEND); rocket gives each writer its own file",
            200 * found.len()
        ))),
        None => {}
    }
    findings
}

fn rename(found: &[Found], whom: &str) -> Finding {
    let sum = |of: fn(&Found) -> u64| found.iter().map(of).sum::<u64>();
    let (reads, torn) = (
        sum(|one| one.files.rename.reads),
        sum(|one| one.files.rename.torn),
    );
    let (absent, back) = (
        sum(|one| one.files.rename.absent),
        sum(|one| one.files.rename.back),
    );
    if torn > 0 {
        return Finding::problem(format!(
            "a file that is replaced by rename() is seen half-written {whom}: {torn} of {reads} reads"
        ))
        .advice("name a runs root on another file system: checkpoints rest on this");
    }
    if absent > 0 || back > 0 {
        return Finding::warning(format!(
            "a file that is replaced by rename() vanishes for a moment or steps back {whom} ({absent} and {back} of {reads} reads); rocket reads again"
        ));
    }
    if reads == 0 {
        return Finding::note("rename() could not be watched: nobody read meanwhile");
    }
    Finding::ok(format!(
        "rename() replaces a file at once {whom}: {reads} reads while it was replaced 200 times, none torn"
    ))
}

fn link(found: &[Found], whom: &str) -> Finding {
    let mut winners: BTreeMap<u32, u32> = BTreeMap::new();
    for claim in found.iter().flat_map(|one| &one.files.link.won) {
        *winners.entry(*claim).or_default() += 1;
    }
    let claims = 40;
    let single = winners.values().filter(|count| **count == 1).count();
    let wrong: u32 = found.iter().map(|one| one.files.link.wrong_answers).sum();
    let of_each: Vec<String> = found
        .iter()
        .map(|one| one.files.link.won.len().to_string())
        .collect();
    if single != claims {
        return Finding::problem(format!(
            "link() does not let exactly one win {whom}: of {claims} names {single} have one owner"
        ))
        .advice(
            "name a runs root on another file system: attempts of a run are claimed by link()",
        );
    }
    if wrong > 0 {
        return Finding::warning(format!(
            "link() lets exactly one win {whom}, and told the wrong result {wrong} times (an answer lost on the network)"
        ));
    }
    Finding::ok(format!(
        "link() lets exactly one win {whom}: {claims} names were claimed at once, {} won",
        of_each.join(" and ")
    ))
}

fn network(found: &[Found]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in found {
        let Some(net) = &one.net else { continue };
        let name = one.machine.name();
        let Some(reached) = &net.reached else {
            findings.push(Finding::problem(format!(
                "{name} does not reach the first node by TCP ({}): ranks could not meet",
                net.failed.join("; ")
            ))
            .advice("a firewall between nodes, or names that do not resolve: ask the administrators"));
            continue;
        };
        findings.push(Finding::ok(format!(
            "{name} reaches the first node as '{reached}' in {:.2} ms",
            net.round_trip_ms.unwrap_or_default()
        )));
        let skew = net.clock_ahead_s.unwrap_or_default();
        findings.push(if skew.abs() > 2.0 {
            Finding::warning(format!(
                "the clocks of {name} and the first node differ by {skew:.1} s; rocket decides nothing by clocks, but times of events may look out of order"
            ))
            .advice("ask the administrators for NTP")
        } else {
            Finding::ok(format!("the clocks of {name} and the first node differ by {:.3} s", skew.abs()))
        });
    }
    findings
}

fn machines(found: &[Found]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in found {
        let machine = &one.machine;
        let memory = machine
            .memory_mib
            .map_or(String::new(), |mib| format!(", {} GiB", mib / 1024));
        let gpus = match (&machine.gpus[..], machine.gpu_devices) {
            ([], 0) => "no GPU".to_owned(),
            ([], devices) => format!("{devices} GPU devices whose driver does not answer"),
            (gpus, _) => format!(
                "{} x {} ({}, driver {})",
                gpus.len(),
                gpus[0].name,
                gpus[0].memory,
                gpus[0].driver
            ),
        };
        findings.push(Finding::ok(format!(
            "{} ({}): {} CPUs for the job{memory}, {gpus}{}",
            machine.name(),
            machine.host,
            machine.cpus,
            machine
                .cpu_model
                .as_deref()
                .map_or(String::new(), |model| format!(", {model}"))
        )));
        if machine.gpus.is_empty() && machine.visible.is_some() {
            findings.push(
                Finding::warning(format!(
                    "Slurm gave the job GPUs on {}, and no NVIDIA driver answers there (nvidia-smi)",
                    machine.name()
                ))
                .advice("set 'cluster: {device: cpu}', or tell the administrators"),
            );
        }
    }
    let hosts: BTreeSet<&str> = found.iter().map(|one| one.machine.host.as_str()).collect();
    if found.len() > 1 && hosts.len() == 1 {
        findings.push(Finding::note(
            "the nodes of the job are one machine: nothing was learnt of a network or a shared file system",
        ));
    }
    let models: BTreeSet<&str> = found
        .iter()
        .filter_map(|one| one.machine.cpu_model.as_deref())
        .collect();
    if models.len() > 1 {
        findings.push(Finding::note(
            "the nodes have different processors: numbers are the same to the bit only on the same kind",
        )
        .advice("pin one kind by 'cluster.constraint' where that matters"));
    }
    findings
}

fn workers(found: &[Found], between: Between) -> Vec<Finding> {
    found
        .iter()
        .filter_map(|one| {
            let worker = one.worker.as_ref()?;
            let place = match between {
                Between::Processes if one.rank > 0 => return None,
                Between::Processes => "here",
                Between::Nodes => one.machine.name(),
            };
            Some(match (&worker.version, &worker.error) {
                (Some(version), _) => Finding::ok(format!(
                    "the trainer starts {} ({version}, libtorch loaded in {:.1} s)",
                    if between == Between::Nodes { format!("on {place}") } else { place.to_owned() },
                    worker.seconds
                )),
                (None, error) => {
                    let text = format!(
                        "the trainer does not start {}: {}",
                        if between == Between::Nodes { format!("on {place}") } else { place.to_owned() },
                        error.as_deref().unwrap_or("no reason is known")
                    );
                    match between {
                        Between::Nodes => Finding::problem(text)
                            .advice("compare the system libraries (glibc) of the node with those of the machine that built it"),
                        // A login node need not be able to; nodes must.
                        Between::Processes => Finding::warning(text)
                            .advice("'rocket doctor --job' tries it on nodes"),
                    }
                }
            })
        })
        .collect()
}
