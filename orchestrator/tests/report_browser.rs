//! `rocket report` in a real browser.
#![allow(missing_docs)]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/made.rs"]
mod made;
mod support;

use browser::Browser;
use made::Made;
use serde_json::json;
use support::Env;

/// Number of curves drawn, and of points in the least of them.
const DRAWN: &str = "(() => { const paths = [...document.querySelectorAll('path.curve')];
    return [paths.length, Math.min(...paths.map(path => path.getAttribute('d').split(/[ML]/).length - 1))]; })()";

fn quiet(browser: &Browser) {
    assert!(
        browser.complaints().is_empty(),
        "{:#?}",
        browser.complaints()
    );
    assert!(browser.requests().is_empty(), "{:?}", browser.requests());
}

/// Whether the page is as wide as its window: nothing sticks out.
const FITS: &str = "document.documentElement.scrollWidth <= innerWidth";

#[test]
fn the_page_of_a_run_works() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let env = Env::new();
    let mut made = Made::new("cl2l-r50-cc3m-11111111");
    made.cause = Some("</script><img src=x onerror=alert(1)>: the loss is not finite".into());
    made.write(&env.path("repo/runs"));
    env.rocket(&["report", "cl2l-r50-cc3m-11111111"]).ok();
    browser.resize(1280, 900);
    browser.open(&env.path("repo/report.html"));
    quiet(&browser);
    // loss; 4 scores; accuracy; 2 terms; grad_norm; lr; throughput; waiting; memory.
    assert_eq!(browser.eval(DRAWN), json!([13, 4]));
    assert_eq!(
        browser.eval("document.querySelectorAll('path.raw').length"),
        0
    );
    assert_eq!(browser.eval("document.images.length"), 0);
    assert_eq!(browser.eval(FITS), true);
    browser.screenshot("one-desktop");

    // A mouse over the loss reads a value; so do the arrow keys.
    let place = browser.eval("(() => { document.querySelector('.plot svg').scrollIntoView({block: 'center'});
        const box = document.querySelector('.plot svg').getBoundingClientRect(); return [box.left + box.width / 2, box.top + box.height / 2]; })()");
    browser.hover(place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
    let tip = browser.eval("document.querySelector('.tip:not([hidden])').innerText");
    let tip = tip.as_str().unwrap().to_owned();
    assert!(tip.starts_with("step ") && tip.contains("loss"), "{tip}");
    browser.screenshot("one-hover");
    browser.eval("document.querySelector('.plot svg').focus()");
    browser.press("Home");
    browser.press("ArrowRight");
    let said = browser.eval("document.getElementById('said').textContent");
    assert!(
        said.as_str().unwrap().starts_with("step 2: loss "),
        "{said}"
    );

    // Smoothing keeps the raw curve; a logarithmic axis and another x axis draw the same curves elsewhere.
    browser.eval("(() => { const range = document.getElementById('smooth'); range.value = 0.9; range.dispatchEvent(new Event('input')); })()");
    assert_eq!(
        browser.eval("document.querySelectorAll('path.raw').length"),
        13
    );
    let path = "document.querySelector('[data-panel=loss] path.curve').getAttribute('d')";
    let linear = browser.eval(path);
    browser.eval("document.getElementById('log').click()");
    assert_ne!(browser.eval(path), linear);
    let by_step = "[...document.querySelectorAll('[data-panel=loss] text')].map(text => text.textContent).join()";
    for (axis, name) in [
        ("epoch", "epoch"),
        ("seconds", "training time"),
        ("samples", "samples"),
    ] {
        browser.eval(&format!("(() => {{ const axis = document.getElementById('axis'); axis.value = '{axis}'; axis.dispatchEvent(new Event('change')); }})()"));
        let texts = browser.eval(by_step);
        assert!(texts.as_str().unwrap().ends_with(name), "{texts}");
    }

    // A legend's button hides its curve and says so.
    browser.eval("document.querySelector('[data-panel=\"eval emoji\"] .legend button').click()");
    assert_eq!(
        browser.eval("document.querySelectorAll('[data-panel=\"eval emoji\"] path.curve').length"),
        3
    );
    assert_eq!(browser.eval("document.querySelector('[data-panel=\"eval emoji\"] .legend button').getAttribute('aria-pressed')"), "false");

    // Search, and a narrow window in the dark.
    browser.eval("(() => { const search = document.getElementById('search'); search.value = 'optim.lr 0.001'; search.dispatchEvent(new Event('input')); })()");
    assert_eq!(
        browser.eval(
            "[...document.querySelectorAll('#config tbody tr')].filter(row => !row.hidden).length"
        ),
        1
    );
    browser.eval("(() => { const search = document.getElementById('search'); search.value = ''; search.dispatchEvent(new Event('input')); })()");
    let light = browser.eval("getComputedStyle(document.body).backgroundColor");
    browser.prefer("dark");
    assert_ne!(
        browser.eval("getComputedStyle(document.body).backgroundColor"),
        light
    );
    browser.resize(390, 844);
    assert_eq!(browser.eval(FITS), true);
    browser.screenshot("one-narrow-dark");
    browser.eval("document.getElementById('theme').click()");
    assert_eq!(
        browser.eval("getComputedStyle(document.body).backgroundColor"),
        light
    );
    quiet(&browser);
}

#[test]
fn the_page_of_several_runs_works() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let env = Env::new();
    for (point, lr) in ["0.001", "0.0005", "0.002", "0.003"]
        .into_iter()
        .enumerate()
    {
        let mut made = Made::new(&format!("sweep-lr-{point}-1111111{point}"));
        (made.lr, made.seed) = (lr, point as u64);
        made.sweep = Some(("sweep-lr", point as u64));
        made.write(&env.path("repo/runs"));
    }
    env.rocket(&["report", "sweep-lr"]).ok();
    browser.resize(1280, 900);
    browser.open(&env.path("repo/report.html"));
    quiet(&browser);
    // loss, 4 scores, accuracy, gradient norm, learning rate, throughput: 9 panels of 4 runs.
    assert_eq!(browser.eval(DRAWN), json!([36, 4]));
    assert_eq!(
        browser.eval("document.querySelectorAll('.spark path').length"),
        4
    );
    assert_eq!(browser.eval(FITS), true);
    browser.screenshot("several-desktop");
    browser.eval("document.querySelector('#legend button').click()");
    assert_eq!(
        browser.eval("document.querySelectorAll('path.curve').length"),
        27
    );
    browser.prefer("dark");
    browser.screenshot("several-dark");
    browser.resize(390, 844);
    assert_eq!(browser.eval(FITS), true);
    browser.screenshot("several-narrow");
    quiet(&browser);
}

#[test]
fn what_must_not_be_is_seen() {
    // The check itself: a page that asks for something and complains is found out.
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let env = Env::new();
    env.write(
        "bad.html",
        "<img src='http://example.org/x.png'><script>console.error('no'); undefined.x</script>",
    );
    browser.open(&env.path("repo/bad.html"));
    assert_eq!(browser.requests(), ["http://example.org/x.png"]);
    assert!(browser.complaints().len() >= 2);
}
