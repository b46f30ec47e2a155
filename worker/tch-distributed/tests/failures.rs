//! A peer that dies or stalls ends in an error of the right kind within seconds, never in a hang.

mod common;

use std::time::{Duration, Instant};

use common::*;
use nix::sys::signal::{Signal, raise};
use tch::{Kind, Tensor};
use tch_distributed::{Ddp, DdpOptions, Error, ProcessGroup, ReduceOp, functional, optim};

const TIMEOUT: Duration = Duration::from_secs(2);
/// Far below any hang, far above what a loaded machine needs.
const SOON: Duration = Duration::from_secs(20);

/// Rank 1 gets `signal` in the third round of `work`; the others must see an error soon after.
fn lose_a_peer(
    test: &str,
    worlds: &[usize],
    work: fn(&ProcessGroup) -> tch_distributed::Result<()>,
) {
    let Some(r) = Rank::from_env() else {
        let dir = tempfile::tempdir().unwrap();
        for &world_size in worlds {
            for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
                let phase = format!("{signal}-{world_size}");
                let ends = launch_and_see(
                    test,
                    world_size,
                    &phase,
                    dir.path(),
                    (signal == Signal::SIGSTOP).then_some(1),
                );
                let lost = if signal == Signal::SIGKILL {
                    End::Signal(9)
                } else {
                    End::Hung
                };
                for (rank, end) in ends.iter().enumerate() {
                    let log =
                        std::fs::read_to_string(dir.path().join(format!("log-{phase}-{rank}")));
                    assert_eq!(
                        *end,
                        if rank == 1 { lost } else { End::Ok },
                        "{phase} {log:?}"
                    );
                }
                // Some rank waited for the stalled one itself; others may have lost that rank in turn.
                let kinds: Vec<String> = (0..world_size)
                    .filter(|&rank| rank != 1)
                    .map(|rank| {
                        std::fs::read_to_string(dir.path().join(format!("kind-{phase}-{rank}")))
                            .unwrap()
                    })
                    .collect();
                let expected = if signal == Signal::SIGKILL {
                    "distributed"
                } else {
                    "timeout"
                };
                assert!(kinds.iter().any(|k| k == expected), "{phase}: {kinds:?}");
            }
        }
        return;
    };
    let store = r.store(Duration::from_secs(30));
    let group = r.group_with(&store, TIMEOUT);
    let signal: Signal = r.phase.split('-').next().unwrap().parse().unwrap();
    for round in 0.. {
        if r.rank == 1 && round == 3 {
            raise(signal).unwrap();
        }
        let start = Instant::now();
        let Err(error) = work(&group) else {
            assert!(round < 3, "round {round} went well without rank 1");
            continue;
        };
        assert!(
            start.elapsed() < SOON,
            "the error took {:?}",
            start.elapsed()
        );
        assert!(error.is_fatal_for_group(), "{error:?}");
        let kind = if matches!(error, Error::Timeout(_)) {
            "timeout"
        } else {
            "distributed"
        };
        println!("round {round}: {kind} after {:?}: {error}", start.elapsed());
        std::fs::write(r.dir.join(format!("kind-{}-{}", r.phase, r.rank)), kind).unwrap();
        break;
    }
    // Leaving must not hang either.
    drop(group);
    drop(store);
}

#[test]
fn in_all_reduce() {
    lose_a_peer("in_all_reduce", &[2, 4], |group| {
        group.all_reduce(&Tensor::ones([10_000], CPU), ReduceOp::Sum)
    });
}

#[test]
fn in_all_gather() {
    lose_a_peer("in_all_gather", &[2], |group| {
        group.all_gather(&Tensor::ones([10_000], CPU)).map(|_| ())
    });
}

#[test]
fn in_barrier() {
    lose_a_peer("in_barrier", &[2], ProcessGroup::barrier);
}

#[test]
fn in_the_gradient_of_a_collective() {
    lose_a_peer("in_the_gradient_of_a_collective", &[2], |group| {
        let x = Tensor::ones([100], CPU).set_requires_grad(true);
        let y = functional::all_gather(group, &x)?;
        // tch's own backward: the kind must survive its string.
        Ok(y.sum(Kind::Float).f_backward()?)
    });
}

#[test]
fn in_the_reducer() {
    lose_a_peer("in_the_reducer", &[4], |group| {
        thread_local! {
            static STATE: std::cell::OnceCell<(Ddp, Vec<Tensor>)> = const { std::cell::OnceCell::new() };
        }
        STATE.with(|state| {
            let (ddp, params) = state.get_or_init(|| {
                let params: Vec<_> = (0..4)
                    .map(|_| Tensor::ones([100, 100], CPU).set_requires_grad(true))
                    .collect();
                let options = DdpOptions {
                    bucket_bytes: 30_000,
                    ..DdpOptions::default()
                };
                (Ddp::new(group, &params, &options).unwrap(), params)
            });
            optim::drop_grads(params)?;
            let x = Tensor::ones([8, 100], CPU);
            let y = params.iter().fold(x, |x, p| (x.matmul(p) * 0.01).tanh());
            ddp.backward(&y.sum(Kind::Float))
        })
    });
}
