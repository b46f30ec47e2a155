//! What autocast computes in which type: the same for every device.

use tch::{Device, Kind, Reduction, Tensor};
use tch_distributed::autocast;

/// Products of all kinds come out in `kind`.
pub fn products_are_in(kind: Kind, device: Device) {
    let rand = |shape: &[i64]| Tensor::rand(shape, (Kind::Float, device));
    let x = rand(&[2, 3, 8, 8]);
    let m = rand(&[2, 8, 8]);
    let all = || {
        let conv = x.conv2d(&rand(&[4, 3, 3, 3]), Some(&rand(&[4])), 1, 1, 1, 1);
        let linear = x.linear(&rand(&[5, 8]), Some(&rand(&[5])));
        let heads = m.unsqueeze(1);
        let none: Option<Tensor> = None;
        let attention = Tensor::scaled_dot_product_attention(
            &heads, &heads, &heads, none, 0.0, true, None, false,
        );
        [conv, linear, m.matmul(&m), m.bmm(&m), attention].map(|t| t.kind())
    };
    assert_eq!(autocast(device, kind, all).unwrap(), [kind; 5]);
}

/// Norms, softmax, losses and what else needs range come out in f32 from inputs in `kind`.
pub fn the_rest_is_in_f32(kind: Kind, device: Device) {
    let x = (Tensor::rand([4, 6], (Kind::Float, device)) + 0.5).to_kind(kind);
    let labels = Tensor::from_slice(&[0i64, 1, 2, 3]).to_device(device);
    let w = Tensor::rand([6], (Kind::Float, device));
    let none: Option<Tensor> = None;
    let results = || {
        vec![
            (
                "layer_norm",
                x.layer_norm([6], Some(&w), Some(&w), 1e-5, false),
            ),
            ("softmax", x.softmax(-1, None)),
            ("log_softmax", x.log_softmax(-1, None)),
            ("cross_entropy", x.cross_entropy_for_logits(&labels)),
            (
                "smoothed",
                x.cross_entropy_loss(&labels, none.as_ref(), Reduction::Mean, -100, 0.1),
            ),
            ("mse", x.mse_loss(&(&x * 2), Reduction::Mean)),
            ("norm", x.norm_scalaropt_dim(2, [-1], true)),
            (
                "linalg_norm",
                x.linalg_norm(2, [-1i64].as_slice(), true, None),
            ),
            ("exp", x.exp()),
            ("log", x.log()),
            ("pow", x.pow_tensor_scalar(2)),
            ("rsqrt", x.rsqrt()),
            ("logsumexp", x.logsumexp([-1], false)),
            ("sum", x.sum_dim_intlist(-1, false, None)),
        ]
    };
    for (name, t) in autocast(device, kind, results).unwrap() {
        assert_eq!(t.kind(), Kind::Float, "{name} of {kind:?}");
    }
}
