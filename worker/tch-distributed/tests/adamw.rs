//! AdamW against the formulas of its paper, computed here in f64.

mod common;

use common::*;
use tch::{Device, Kind, Tensor, no_grad};
use tch_distributed::{AdamW, Error, Hyper, optim};

/// Algorithm 2 of Loshchilov and Hutter (2019), one number at a time.
struct Reference {
    theta: f64,
    m: f64,
    v: f64,
    t: i32,
}

impl Reference {
    fn step(&mut self, g: f64, h: &Hyper) {
        self.t += 1;
        let (b1, b2) = h.betas;
        self.m = b1 * self.m + (1.0 - b1) * g;
        self.v = b2 * self.v + (1.0 - b2) * g * g;
        let m_hat = self.m / (1.0 - b1.powi(self.t));
        let v_hat = self.v / (1.0 - b2.powi(self.t));
        self.theta -= h.lr * (m_hat / (v_hat.sqrt() + h.eps) + h.weight_decay * self.theta);
    }
}

fn hypers() -> [Hyper; 2] {
    let decay = Hyper {
        lr: 3e-2,
        betas: (0.9, 0.98),
        eps: 1e-6,
        weight_decay: 0.1,
    };
    [
        decay,
        Hyper {
            lr: 5e-2,
            betas: (0.8, 0.95),
            eps: 1e-8,
            weight_decay: 0.0,
        },
    ]
}

type State = Vec<(String, Tensor)>;

/// The gradient of step `t` for value `i`: of both signs, over many sizes, sometimes zero.
fn gradient(t: usize, i: usize) -> f64 {
    let k = (7 * t + 3 * i) % 11;
    (k as f64 - 5.0) * 10f64.powi((i % 5) as i32 - 3)
}

fn set_grad(p: &Tensor, t: usize, first: usize) {
    let n = p.numel();
    let g: Vec<f64> = (0..n).map(|i| gradient(t, first + i)).collect();
    let g = Tensor::from_slice(&g)
        .to_kind(p.kind())
        .view(p.size().as_slice());
    optim::drop_grads(&[p.shallow_clone()]).unwrap();
    (p * g).sum(p.kind()).backward();
}

fn start(kind: Kind) -> Vec<Tensor> {
    let make = |(shape, first): (&[i64], i64)| {
        let n: i64 = shape.iter().product();
        let t = (Tensor::arange(n, (Kind::Double, Device::Cpu)) + first)
            .sin()
            .view(shape);
        t.to_kind(kind).set_requires_grad(true)
    };
    [(&[3i64, 5][..], 0), (&[19], 15), (&[], 34)]
        .map(make)
        .into()
}

fn optimiser(p: &[Tensor]) -> AdamW {
    let [decay, plain] = hypers();
    let group = |p: &[Tensor], h| (p.iter().map(Tensor::shallow_clone).collect::<Vec<_>>(), h);
    AdamW::new(vec![group(&p[..1], decay), group(&p[1..], plain)]).unwrap()
}

fn step(adamw: &mut AdamW, p: &[Tensor], t: usize) {
    for (p, first) in p.iter().zip([0, 15, 34]) {
        set_grad(p, t, first);
    }
    adamw.step().unwrap();
}

#[test]
fn matches_the_formula() {
    for (kind, tolerance) in [(Kind::Double, 1e-13), (Kind::Float, 2e-6)] {
        let p = start(kind);
        let mut adamw = optimiser(&p);
        let theta: Vec<f64> = p.iter().flat_map(values).collect();
        let make = |theta| Reference {
            theta,
            m: 0.0,
            v: 0.0,
            t: 0,
        };
        let mut reference: Vec<Reference> = theta.into_iter().map(make).collect();
        for t in 0..20 {
            if t == 10 {
                adamw.groups_mut()[1].hyper.lr = 1e-3;
            }
            step(&mut adamw, &p, t);
            let [decay, mut plain] = hypers();
            if t >= 10 {
                plain.lr = 1e-3;
            }
            for (i, r) in reference.iter_mut().enumerate() {
                r.step(gradient(t, i), if i < 15 { &decay } else { &plain });
            }
            let theta: Vec<f64> = p.iter().flat_map(values).collect();
            for (i, (r, theta)) in reference.iter().zip(theta).enumerate() {
                let off = (r.theta - theta).abs() / r.theta.abs().max(1.0);
                assert!(
                    off < tolerance,
                    "{kind:?} step {t} value {i}: {theta} is not {}",
                    r.theta
                );
            }
        }
        // A step more or less would show: the tolerance is far below one step's move.
        let before = reference[0].theta;
        reference[0].step(gradient(20, 0), &hypers()[0]);
        assert!((reference[0].theta - before).abs() > 100.0 * tolerance);
    }
}

#[test]
fn goes_on_bit_by_bit_after_loading() {
    let p = start(Kind::Float);
    let mut adamw = optimiser(&p);
    (0..3).for_each(|t| step(&mut adamw, &p, t));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("optim.safetensors");
    let state = adamw.state();
    let named: Vec<&str> = state.iter().map(|(k, _)| k.as_str()).collect();
    assert_eq!(
        named[..4],
        ["0.exp_avg", "0.exp_avg_sq", "0.step", "1.exp_avg"]
    );
    Tensor::write_safetensors(&state, &path).unwrap();
    let q: Vec<Tensor> = p
        .iter()
        .map(|p| p.detach().copy().set_requires_grad(true))
        .collect();
    let mut fresh = optimiser(&q);
    let mut loaded = Tensor::read_safetensors(&path).unwrap();
    loaded.reverse(); // names decide, not the order
    fresh.load_state(&loaded).unwrap();

    (3..6).for_each(|t| step(&mut adamw, &p, t));
    (3..6).for_each(|t| step(&mut fresh, &q, t));
    assert_eq!(bits(&p), bits(&q));
    let tensors = |a: &AdamW| a.state().into_iter().map(|(_, t)| t).collect::<Vec<_>>();
    assert_eq!(bits(&tensors(&adamw)), bits(&tensors(&fresh)));
}

#[test]
fn a_parameter_without_gradient_stays() {
    let p = start(Kind::Float);
    let mut adamw = optimiser(&p);
    set_grad(&p[1], 0, 15);
    let before = bits(&[p[0].shallow_clone()]);
    adamw.step().unwrap();
    assert_eq!(bits(&[p[0].shallow_clone()]), before);
    let steps: Vec<f64> = adamw
        .state()
        .iter()
        .filter(|(k, _)| k.ends_with("step"))
        .flat_map(|(_, t)| values(t))
        .collect();
    assert_eq!(steps, [0.0, 1.0, 0.0]);
    adamw.zero_grad().unwrap();
    assert!(!p[1].grad().defined());
}

#[test]
fn wrong_states_are_refused_in_words() {
    let p = start(Kind::Float);
    let mut adamw = optimiser(&p);
    step(&mut adamw, &p, 0);
    let good = || -> State { optimiser(&start(Kind::Float)).state() };
    let before = bits(&[adamw.state()[0].1.shallow_clone()]);
    let mut refused = |change: &dyn Fn(&mut State)| {
        let mut state = good();
        change(&mut state);
        let error = adamw.load_state(&state).unwrap_err();
        assert!(matches!(error, Error::Invalid(_)));
        error.to_string()
    };
    assert_eq!(
        refused(&|s| drop(s.remove(4))),
        "the optimiser state has no entry \"1.exp_avg_sq\""
    );
    assert_eq!(
        refused(&|s| s[3].1 = Tensor::zeros([18], CPU)),
        "entry \"1.exp_avg\" of the optimiser state is Float of shape [18], but this optimiser needs \
         Float of shape [19]"
    );
    assert_eq!(
        refused(&|s| s.push(("3.step".into(), Tensor::zeros([1], CPU)))),
        "entry \"3.step\" of the optimiser state belongs to no parameter"
    );
    assert_eq!(
        bits(&[adamw.state()[0].1.shallow_clone()]),
        before,
        "nothing has changed"
    );
}

#[test]
fn norms_and_clipping() {
    let p: Vec<Tensor> = [3.0, 4.0, 12.0]
        .map(|x| Tensor::full([1], x, CPU).set_requires_grad(true))
        .into();
    assert_eq!(
        optim::norm(&optim::grads(&p)).unwrap().double_value(&[]),
        0.0
    );
    p.iter()
        .for_each(|p| (p * p * 0.5).sum(Kind::Float).backward());
    assert_eq!(
        optim::norm(&optim::grads(&p)).unwrap().double_value(&[]),
        13.0
    );
    assert_eq!(
        optim::clip_grad_norm(&p, 26.0).unwrap().double_value(&[]),
        13.0
    );
    assert_eq!(values(&p[2].grad()), [12.0]);
    assert_eq!(
        optim::clip_grad_norm(&p, 1.3).unwrap().double_value(&[]),
        13.0
    );
    assert!((values(&p[2].grad())[0] - 1.2).abs() < 1e-6);
    no_grad(|| assert_eq!(values(&p[0]), [3.0]));
}
