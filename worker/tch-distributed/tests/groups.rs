//! Rendezvous, collectives and their gradients, over real processes.

mod common;

use std::time::{Duration, Instant};

use common::*;
use tch::{Kind, Tensor};
use tch_distributed::{Error, GlooOptions, ProcessGroup, ReduceOp, Store, functional};

#[test]
fn the_store_carries_values_and_counts() {
    with_ranks("the_store_carries_values_and_counts", |r| {
        let store = r.store(Duration::from_secs(30));
        store
            .set(&format!("from-{}", r.rank), &[r.rank as u8, 0, 255])
            .unwrap();
        let next = (r.rank + 1) % r.world_size;
        assert_eq!(
            store.get(&format!("from-{next}")).unwrap(),
            [next as u8, 0, 255]
        );
        store.set(&format!("empty-{}", r.rank), &[]).unwrap();
        assert!(store.get(&format!("empty-{}", r.rank)).unwrap().is_empty());
        store.add("sum", 10 + r.rank as i64).unwrap();
        let error = store
            .get_within("nobody", Some(Duration::from_millis(200)))
            .unwrap_err();
        assert!(matches!(error, Error::Timeout(_)), "{error:?}");
        // The server leaves last.
        let group = r.group_with(&store, Duration::from_secs(30));
        group.barrier().unwrap();
        let expected: usize = (0..r.world_size).map(|rank| 10 + rank).sum();
        assert_eq!(store.add("sum", 0).unwrap(), expected as i64);
        group.barrier().unwrap();
    });
}

#[test]
fn no_server_is_a_timeout() {
    let start = Instant::now();
    let error = Store::tcp("127.0.0.1", 9, 2, false, Duration::from_secs(1)).unwrap_err();
    assert!(
        matches!(error, Error::Timeout(_) | Error::Distributed(_)),
        "{error:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_missing_rank_is_a_timeout() {
    let store = Store::tcp("127.0.0.1", 0, 2, true, Duration::from_secs(1)).unwrap();
    let options = GlooOptions::new(Duration::from_secs(1)).interface("lo");
    let start = Instant::now();
    let error = ProcessGroup::gloo(&store, 0, 2, &options).unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_group_talks_over_a_local_address() {
    with_ranks("a_group_talks_over_a_local_address", |r| {
        let timeout = Duration::from_secs(30);
        let store = r.store(timeout);
        // Linux takes all of 127/8 for itself: each rank has an address of its own here.
        let own = format!("127.0.0.{}", r.rank + 1);
        let mut options = GlooOptions::new(timeout).name("v4").address(own);
        let group = ProcessGroup::gloo(&store, r.rank, r.world_size, &options).unwrap();
        let t = Tensor::from(r.rank as i64);
        group.all_reduce(&t, ReduceOp::Sum).unwrap();
        let sum = (r.world_size * (r.world_size - 1) / 2) as i64;
        assert_eq!(i64::try_from(t).unwrap(), sum);
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            options = options.name("v6").address("::1");
            let group = ProcessGroup::gloo(&store, r.rank, r.world_size, &options).unwrap();
            group.barrier().unwrap();
        }
        group.barrier().unwrap();
    });
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let timeout = Duration::from_secs(5);
    let store = Store::tcp("127.0.0.1", 0, 1, true, timeout).unwrap();
    // TEST-NET-1 (RFC 5737) belongs to nobody.
    let options = GlooOptions::new(timeout).address("192.0.2.1");
    assert!(ProcessGroup::gloo(&store, 0, 1, &options).is_err());
}

#[test]
fn wrong_arguments_are_said() {
    let store = Store::tcp("127.0.0.1", 0, 1, true, Duration::from_secs(5)).unwrap();
    let options = GlooOptions::new(Duration::from_secs(5)).interface("lo");
    let text = ProcessGroup::gloo(&store, 1, 1, &options)
        .unwrap_err()
        .to_string();
    assert_eq!(text, "rank 1 is not below the world size 1");
    let group = ProcessGroup::gloo(&store, 0, 1, &options).unwrap();
    let ints = Tensor::from_slice(&[1i64, 2]);
    let text = group
        .all_reduce(&ints, ReduceOp::Avg)
        .unwrap_err()
        .to_string();
    assert_eq!(
        text,
        "all_reduce by Avg needs a floating-point tensor, not Int64"
    );
    let text = group.broadcast(&ints, 3).unwrap_err().to_string();
    assert_eq!(text, "root 3 is not below the world size 1");
}

#[test]
fn collectives_give_what_they_say() {
    with_ranks("collectives_give_what_they_say", |r| {
        let (_store, group) = r.group();
        let (rank, w) = (r.rank as f64, r.world_size as f64);
        let expected = [
            (ReduceOp::Sum, w * (w + 1.0) / 2.0),
            (ReduceOp::Avg, (w + 1.0) / 2.0),
            (ReduceOp::Min, 1.0),
            (ReduceOp::Max, w),
        ];
        for (op, value) in expected {
            for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Half] {
                let t = Tensor::full([2, 3], rank + 1.0, (kind, tch::Device::Cpu));
                group.all_reduce(&t, op).unwrap();
                assert_eq!(values(&t), [value; 6], "{op:?} {kind:?}");
            }
        }
        // A transposed tensor, a leaf that requires a gradient, and integers.
        let t = (Tensor::arange(6, CPU).view([2, 3]) * (rank + 1.0)).tr();
        group.all_reduce(&t, ReduceOp::Sum).unwrap();
        let n = w * (w + 1.0) / 2.0;
        assert_eq!(values(&t), [0.0, 3.0 * n, n, 4.0 * n, 2.0 * n, 5.0 * n]);
        let leaf = Tensor::ones([2], CPU).set_requires_grad(true);
        group.all_reduce(&leaf, ReduceOp::Avg).unwrap();
        group.all_reduce(&leaf, ReduceOp::Sum).unwrap();
        assert_eq!((values(&leaf), leaf.requires_grad()), (vec![w; 2], true));
        let ints = Tensor::from_slice(&[r.rank as i64]);
        group.all_reduce(&ints, ReduceOp::Max).unwrap();
        assert_eq!(values(&ints), [w - 1.0]);

        let gathered = group.all_gather(&Tensor::full([2, 1], rank, CPU)).unwrap();
        assert_eq!(gathered.size(), [r.world_size as i64, 2, 1]);
        let expected: Vec<f64> = (0..r.world_size).flat_map(|i| [i as f64; 2]).collect();
        assert_eq!(values(&gathered), expected);
        let scalar = group.all_gather(&Tensor::from(rank)).unwrap();
        assert_eq!(scalar.size(), [r.world_size as i64]);

        let t = Tensor::full([3], rank, CPU);
        group.broadcast(&t, r.world_size - 1).unwrap();
        assert_eq!(values(&t), [w - 1.0; 3]);
        let many = [
            Tensor::full([3], rank, CPU),
            Tensor::from_slice(&[r.rank as i64]),
        ];
        group.broadcast_all(&many, 1).unwrap();
        assert_eq!(
            (values(&many[0]), values(&many[1])),
            (vec![1.0; 3], vec![1.0])
        );
        group.within(Duration::from_secs(5)).barrier().unwrap();
    });
}

#[test]
fn gradients_flow_through_collectives() {
    with_ranks("gradients_flow_through_collectives", |r| {
        let (_store, group) = r.group();
        let w = r.world_size as i64;
        let weights = |rank: usize| Tensor::arange(3 * w, CPU).view([w, 3]) * (rank + 1) as f64;
        let sum_of_weights =
            (0..r.world_size).fold(Tensor::zeros([w, 3], CPU), |s, i| s + weights(i));

        let x = (Tensor::arange(3, CPU) + r.rank as f64).set_requires_grad(true);
        let y = functional::all_gather(&group, &x).unwrap();
        for i in 0..w {
            assert_eq!(
                values(&y.get(i)),
                [i as f64, i as f64 + 1.0, i as f64 + 2.0]
            );
        }
        (y * weights(r.rank)).sum(Kind::Float).backward();
        assert_eq!(
            values(&x.grad()),
            values(&sum_of_weights.get(r.rank as i64))
        );

        // Each rank's loss is (rank + 1) * y^2, with y the sum over ranks of (rank + 1) * x.
        let scale = (r.rank + 1) as f64;
        let x = Tensor::ones([2], CPU).set_requires_grad(true);
        let y = functional::all_reduce(&group, &(&x * scale)).unwrap();
        let total = (w * (w + 1) / 2) as f64;
        assert_eq!(values(&y), [total; 2]);
        (y.square() * scale).sum(Kind::Float).backward();
        assert_eq!(values(&x.grad()), [scale * 2.0 * total * total; 2]);
    });
}

/// Which order Gloo sums in must not change from call to call, or from process to process.
#[test]
fn sums_have_one_order() {
    const TEST: &str = "sums_have_one_order";
    let Some(r) = Rank::from_env() else {
        let dir = tempfile::tempdir().unwrap();
        let read = |phase: &str| std::fs::read(dir.path().join(phase)).unwrap();
        launch(TEST, 4, "a", dir.path());
        launch(TEST, 4, "b", dir.path());
        assert_eq!(read("sums-a"), read("sums-b"));
        return;
    };
    let (_store, group) = r.group();
    let mut all = Vec::new();
    for n in [1, 7, 1000, 100_003] {
        tch_distributed::rng::manual_seed(tch::Device::Cpu, r.rank as u64).unwrap();
        let x = Tensor::randn([n], CPU) * 10f64.powi(r.rank as i32);
        let once = x.copy();
        group.all_reduce(&once, ReduceOp::Sum).unwrap();
        assert!(agree(&group, &[once.shallow_clone()]), "{n}");
        for _ in 0..10 {
            let again = x.copy();
            group.all_reduce(&again, ReduceOp::Sum).unwrap();
            assert_eq!(bits(&[again]), bits(&[once.shallow_clone()]), "{n}");
        }
        all.extend(bits(&[once]).iter().flat_map(|b| b.to_le_bytes()));
    }
    if r.rank == 0 {
        std::fs::write(r.dir.join(format!("sums-{}", r.phase)), all).unwrap();
    }
    group.barrier().unwrap();
}
