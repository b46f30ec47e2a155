//! Real processes for tests: a test starts its own executable again, once per rank.

#![allow(dead_code, unreachable_pub)] // each test file uses a part of it

pub mod gpu;
pub mod precision;

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use tch_distributed::{GlooOptions, ProcessGroup, Store};

pub const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Far above what any test needs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a rank knows.
pub struct Rank {
    pub rank: usize,
    pub world_size: usize,
    pub phase: String,
    pub dir: PathBuf,
}

impl Rank {
    /// None in the process that the test harness runs, Some in those started by [`launch`].
    pub fn from_env() -> Option<Rank> {
        let var = |name: &str| std::env::var(name).ok();
        let rank = var("TEST_RANK")?.parse().unwrap();
        tch::set_num_threads(1);
        Some(Rank {
            rank,
            world_size: var("TEST_WORLD_SIZE").unwrap().parse().unwrap(),
            phase: var("TEST_PHASE").unwrap(),
            dir: var("TEST_DIR").unwrap().into(),
        })
    }

    /// Rank 0 serves at a free port and tells it by a file.
    pub fn store(&self, timeout: Duration) -> Store {
        let path = self.dir.join(format!("port-{}", self.phase));
        if self.rank == 0 {
            let store = Store::tcp("127.0.0.1", 0, self.world_size, true, timeout).unwrap();
            assert_ne!(store.port(), 0);
            let aside = path.with_extension("new");
            std::fs::write(&aside, store.port().to_string()).unwrap();
            std::fs::rename(aside, path).unwrap();
            return store;
        }
        let start = Instant::now();
        while !path.exists() {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "rank 0 did not start"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let port = std::fs::read_to_string(path).unwrap().parse().unwrap();
        Store::tcp("127.0.0.1", port, self.world_size, false, timeout).unwrap()
    }

    pub fn group_with(&self, store: &Store, timeout: Duration) -> ProcessGroup {
        let options = GlooOptions::new(timeout).interface("lo");
        ProcessGroup::gloo(store, self.rank, self.world_size, &options).unwrap()
    }

    pub fn group(&self) -> (Store, ProcessGroup) {
        let timeout = Duration::from_secs(30);
        let store = self.store(timeout);
        let group = self.group_with(&store, timeout);
        (store, group)
    }
}

/// How a rank ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    Ok,
    Signal(i32),
    Failed,
    Hung,
}

struct Running(Vec<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs `test` of this executable as `world_size` ranks; panics with the output of all where one fails.
/// A rank that is still there after a long while, or is `stalled` and alone left, is killed and counts as
/// hung.
pub fn launch_and_see(
    test: &str,
    world_size: usize,
    phase: &str,
    dir: &Path,
    stalled: Option<usize>,
) -> Vec<End> {
    let log = |rank: usize| dir.join(format!("log-{phase}-{rank}"));
    let spawn = |rank: usize| {
        let out = File::create(log(rank)).unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args([
                test,
                "--exact",
                "--nocapture",
                "--test-threads=1",
                "--include-ignored",
            ])
            .env_remove("LD_LIBRARY_PATH")
            .env("OMP_NUM_THREADS", "1")
            .env("TEST_RANK", rank.to_string())
            .env("TEST_WORLD_SIZE", world_size.to_string())
            .env("TEST_PHASE", phase)
            .env("TEST_DIR", dir)
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn()
            .unwrap()
    };
    let mut running = Running((0..world_size).map(spawn).collect());
    let start = Instant::now();
    let mut ends: Vec<Option<End>> = (0..world_size).map(|_| None).collect();
    while ends.iter().any(Option::is_none) {
        let left = ends.iter().filter(|e| e.is_none()).count();
        for (rank, end) in ends.iter_mut().enumerate().filter(|(_, e)| e.is_none()) {
            let Some(status) = running.0[rank].try_wait().unwrap() else {
                if start.elapsed() > PATIENCE || (left == 1 && stalled == Some(rank)) {
                    *end = Some(End::Hung);
                }
                continue;
            };
            *end = Some(match status.signal() {
                Some(signal) => End::Signal(signal),
                None if status.success() => End::Ok,
                None => End::Failed,
            });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let ends: Vec<End> = ends.into_iter().flatten().collect();
    if ends.contains(&End::Failed) {
        let told = (0..world_size).map(|rank| {
            let text = std::fs::read_to_string(log(rank)).unwrap_or_default();
            format!("rank {rank} ({:?}):\n{text}\n", ends[rank])
        });
        panic!("{test} ({phase}) failed:\n{}", told.collect::<String>());
    }
    ends
}

/// As [`launch_and_see`], where all ranks must end well.
pub fn launch(test: &str, world_size: usize, phase: &str, dir: &Path) {
    for (rank, end) in launch_and_see(test, world_size, phase, dir, None)
        .iter()
        .enumerate()
    {
        let log = std::fs::read_to_string(dir.join(format!("log-{phase}-{rank}")));
        assert_eq!(
            *end,
            End::Ok,
            "rank {rank} of {test} ({phase}): {}",
            log.unwrap_or_default()
        );
    }
}

/// Runs `body` as 2 and as 4 ranks, in turn.
pub fn with_ranks(test: &str, body: impl FnOnce(Rank)) {
    match Rank::from_env() {
        Some(rank) => body(rank),
        None => {
            let dir = tempfile::tempdir().unwrap();
            for world_size in [2, 4] {
                launch(test, world_size, &world_size.to_string(), dir.path());
            }
        }
    }
}

/// All values as bits, so that equal means equal.
pub fn bits(tensors: &[Tensor]) -> Vec<u64> {
    let of = |t: &Tensor| -> Vec<u64> {
        let t = t.detach().to_kind(Kind::Double).flatten(0, -1).contiguous();
        Vec::<f64>::try_from(t)
            .unwrap()
            .into_iter()
            .map(f64::to_bits)
            .collect()
    };
    tensors.iter().flat_map(of).collect()
}

/// FNV-1a over [`bits`].
pub fn hash(tensors: &[Tensor]) -> i64 {
    let step = |h: u64, b: u64| (h ^ b).wrapping_mul(0x0100_0000_01b3);
    bits(tensors).into_iter().fold(0xcbf2_9ce4_8422_2325, step) as i64
}

/// Whether all ranks hold the same bits.
pub fn agree(group: &ProcessGroup, tensors: &[Tensor]) -> bool {
    let own = hash(tensors);
    let all = group.all_gather(&Tensor::from(own)).unwrap();
    Vec::<i64>::try_from(all).unwrap().iter().all(|&h| h == own)
}

/// The largest difference, relative to the largest value of `b` (or 1).
pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let (a, b) = (
        a.detach().to_kind(Kind::Double),
        b.detach().to_kind(Kind::Double),
    );
    (&a - &b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]).max(1.0)
}

/// `t` `[N, C, H, W]` with channels last in memory.
pub fn channels_last_of(t: &Tensor) -> Tensor {
    let t = t.permute([0, 2, 3, 1]).contiguous();
    t.permute([0, 3, 1, 2])
}

pub fn values(t: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(t.detach().to_kind(Kind::Double).flatten(0, -1).contiguous()).unwrap()
}
