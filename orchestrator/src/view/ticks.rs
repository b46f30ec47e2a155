//! Round numbers along an axis.

/// About `count` round numbers within a range: 1, 2 or 5 times a power of ten apart.
pub(super) fn linear(low: f64, high: f64, count: f64) -> Vec<f64> {
    let span = high - low;
    if !(span.is_finite() && span > 0.0) {
        return vec![low];
    }
    let raw = span / count.max(1.0);
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|f| f * power >= raw * 0.999);
    let unit = factor.unwrap_or(10.0) * power;
    multiples(low, high, unit)
}

/// As [`linear`], for seconds: whole minutes, hours, days.
pub(super) fn seconds(low: f64, high: f64, count: f64) -> Vec<f64> {
    const UNITS: [f64; 17] = [
        1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0,
        43200.0, 86400.0, 172_800.0, 432_000.0,
    ];
    let fits = |unit: &&f64| (high - low) / **unit <= count.max(2.0);
    match UNITS.iter().find(fits) {
        Some(unit) => multiples(low, high, *unit),
        None => linear(low, high, count),
    }
}

fn multiples(low: f64, high: f64, unit: f64) -> Vec<f64> {
    let first = (low / unit - 1e-9).ceil() as i64;
    let last = (high / unit + 1e-9).floor() as i64;
    (first..=last.min(first + 100))
        .map(|i| i as f64 * unit)
        .collect()
}

/// Of an axis of decimal logarithms: powers of ten, and numbers between where there are few.
pub(super) fn logarithmic(low: f64, high: f64) -> Vec<f64> {
    let factors: &[f64] = match high - low {
        span if span < 1.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
        span if span < 2.2 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let (from, to) = (low.floor() as i32, high.ceil() as i32);
    let stride = ((to - from) / 6).max(1) as usize;
    let found: Vec<f64> = (from..=to)
        .step_by(stride)
        .flat_map(|power| factors.iter().map(move |f| f64::from(power) + f.log10()))
        .filter(|at| (low - 1e-9..=high + 1e-9).contains(at))
        .collect();
    if found.len() > 1 {
        found
    } else {
        vec![low, (low + high) / 2.0, high]
    }
}

/// A number as short as its neighbours on the axis allow.
pub(super) fn label(value: f64) -> String {
    let size = value.abs();
    let trim = |text: String| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        }
    };
    match size {
        0.0 => "0".into(),
        _ if size < 1e-12 => "0".into(),
        _ if size >= 1e9 => trim(format!("{:.2}", value / 1e9)) + "G",
        _ if size >= 1e6 => trim(format!("{:.2}", value / 1e6)) + "M",
        _ if size >= 1e4 => trim(format!("{:.1}", value / 1e3)) + "k",
        _ if size < 1e-3 => {
            let text = format!("{value:.1e}");
            text.replace(".0e", "e")
        }
        _ if size >= 100.0 => trim(format!("{value:.1}")),
        _ if size >= 1.0 => trim(format!("{value:.3}")),
        _ => trim(format!("{value:.4}")),
    }
}

/// Seconds as people count them.
pub(super) fn time_label(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{}s", label(s)),
        s if s < 3600.0 => format!("{}m", label(s / 60.0)),
        s if s < 172_800.0 => format!("{}h", label((s / 360.0).round() / 10.0)),
        s => format!("{}d", label((s / 8640.0).round() / 10.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let labels = |ticks: Vec<f64>| ticks.into_iter().map(label).collect::<Vec<_>>();
        assert_eq!(
            labels(linear(0.03, 1.01, 5.0)),
            ["0.2", "0.4", "0.6", "0.8", "1"]
        );
        assert_eq!(
            labels(linear(0.0, 40_000.0, 4.0)),
            ["0", "10k", "20k", "30k", "40k"]
        );
        assert_eq!(logarithmic(-3.0, 1.0), [-3.0, -2.0, -1.0, 0.0, 1.0]);
        let times = seconds(0.0, 7000.0, 5.0);
        assert_eq!(
            times.into_iter().map(time_label).collect::<Vec<_>>(),
            ["0s", "30m", "1h", "1.5h"]
        );
        assert_eq!(linear(2.0, 2.0, 5.0), [2.0]);
    }
}
