//! Pictures of the dashboard, and what keys do.

use std::path::PathBuf;

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use rocket_common::events::Status;

use super::app::{Action, App, Effect, Key, Mode, Pane};
use super::detail::{Curve, Detail, Rank};
use super::draw::draw;
use super::gpu::Use;
use crate::view::RunView;

/// A run that stands somewhere.
fn view(run: &str, status: Status, submitted: i64) -> RunView {
    let is_running = status == Status::Running;
    RunView {
        run: run.to_owned(),
        name: "name".into(),
        sweep: None,
        status,
        cause: (status == Status::Failed)
            .then(|| "rank 3: the loss of step 9000 is not finite".to_owned()),
        hint: (status == Status::Failed).then(|| "a lower optim.lr often helps".to_owned()),
        exit: None,
        attempt: (status != Status::Pending).then_some(1),
        resumptions: 1,
        world_size: (status != Status::Pending).then_some(4),
        step: match status {
            Status::Pending => 0,
            Status::Finished => 40_000,
            _ => 15_000,
        },
        total_steps: (status != Status::Pending).then_some(40_000),
        epoch: is_running.then_some(12.5),
        samples_per_second: is_running.then_some(4321.9),
        eta_seconds: is_running.then_some(7500),
        resident_bytes: Vec::new(),
        checkpoint: Some(14_800),
        metrics: if status == Status::Finished {
            [("imagenet/z_top1".to_owned(), 0.287)].into()
        } else {
            [].into()
        },
        main_score: (status == Status::Finished).then(|| "imagenet/z_top1".to_owned()),
        supervisor: None,
        job: (status == Status::Pending).then(|| "4711".to_owned()),
        waiting: (status == Status::Pending).then(|| "waits for nodes".to_owned()),
        held: false,
        trouble: None,
        nodes: vec!["n1".into()],
        excluded: Vec::new(),
        commit: "1".repeat(40),
        submitted: Timestamp::from_second(1_767_225_600 + submitted).ok(),
        started: None,
        ended: None,
        dir: PathBuf::from("/runs").join(run),
    }
}

fn detail(run: &str) -> Detail {
    let curve = |name: &str, of: fn(f64) -> f64| Curve {
        name: name.into(),
        points: (0..100)
            .map(|i| (f64::from(i) * 150.0, of(f64::from(i))))
            .collect(),
    };
    Detail {
        run: run.into(),
        rank: 0,
        curves: vec![
            curve("loss", |i| 7.0 * (-i / 30.0).exp() + 1.0),
            curve("clip_acc", |i| i / 2.0),
            curve("samples_per_second", |_| 4300.0),
            curve("lr", |i| 1e-3 * (1.0 - i / 100.0)),
        ],
        ranks: (0..4)
            .map(|rank| Rank {
                rank,
                phase: (rank < 3).then_some("training"),
                step: 15_000,
                resident_bytes: 8_123_456_789,
                gpu: (rank == 0).then_some(Use {
                    pid: 1,
                    index: 0,
                    utilisation: Some(97),
                    used_mib: Some(61_234),
                    total_mib: Some(143_771),
                }),
            })
            .collect(),
        gpus: None,
        log_name: "attempt 1 rank 0".into(),
        log: (0..50)
            .map(|i| format!("INFO step {i}: loss {}.5", 60 - i))
            .collect(),
        trouble: None,
    }
}

fn app() -> App {
    let mut app = App::new("/runs".into(), false, String::new());
    let views = vec![
        view("alpha-00000001", Status::Finished, 1),
        view("beta-00000002", Status::Failed, 2),
        view("gamma-00000003", Status::Running, 3),
        view("delta-00000004", Status::Pending, 4),
        view("epsilon-00000005", Status::Cancelled, 5),
    ];
    assert_eq!(app.take(views, 0), Effect::Look);
    app.now = "2026-01-31 12:00:00".into();
    app
}

fn picture(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, app)).unwrap();
    terminal.backend().to_string()
}

fn press(app: &mut App, keys: &str) -> Effect {
    let mut effect = Effect::Nothing;
    for c in keys.chars() {
        effect = app.press(Key::Char(c));
    }
    effect
}

#[test]
fn a_large_window() {
    let mut app = app();
    assert_eq!(app.chosen.as_deref(), Some("delta-00000004"));
    assert_eq!(press(&mut app, "j"), Effect::Look);
    app.take_detail(detail("gamma-00000003"));
    insta::assert_snapshot!(picture(&app, 140, 40));
}

#[test]
fn an_ordinary_window() {
    let mut app = app();
    press(&mut app, "j");
    app.take_detail(detail("gamma-00000003"));
    insta::assert_snapshot!(picture(&app, 80, 24));
}

#[test]
fn a_small_window() {
    let mut app = app();
    press(&mut app, "j");
    app.take_detail(detail("gamma-00000003"));
    insta::assert_snapshot!(picture(&app, 40, 10));
    insta::assert_snapshot!(picture(&app, 20, 3));
}

#[test]
fn no_size_of_a_window_is_too_odd() {
    let mut app = app();
    press(&mut app, "j");
    app.take_detail(detail("gamma-00000003"));
    for mode in [
        Mode::List,
        Mode::Help,
        Mode::Asking(Action::Cancel, "gamma-00000003".into()),
    ] {
        app.mode = mode;
        for pane in [Pane::All, Pane::Curves, Pane::Ranks, Pane::Log] {
            app.pane = pane;
            for (width, height) in [
                (1, 1),
                (24, 5),
                (24, 60),
                (300, 5),
                (37, 16),
                (100, 17),
                (99, 23),
            ] {
                picture(&app, width, height);
            }
        }
    }
}

#[test]
fn before_and_without_runs() {
    let mut app = App::new("/runs".into(), false, String::new());
    insta::assert_snapshot!(picture(&app, 60, 8));
    app.take(Vec::new(), 2);
    insta::assert_snapshot!(picture(&app, 60, 8));
}

#[test]
fn a_run_that_failed_says_why() {
    let mut app = app();
    press(&mut app, "/beta");
    app.press(Key::Enter);
    let mut looked = Detail {
        gpus: Some("no rank runs".into()),
        ..detail("beta-00000002")
    };
    for rank in &mut looked.ranks {
        rank.gpu = None;
    }
    app.take_detail(looked);
    app.press(Key::Tab);
    app.press(Key::Tab);
    insta::assert_snapshot!(picture(&app, 100, 20));
}

#[test]
fn help_and_questions_lie_above_the_rest() {
    let mut app = app();
    press(&mut app, "?");
    insta::assert_snapshot!(picture(&app, 80, 18));
    assert_eq!(press(&mut app, "xjc"), Effect::Nothing);
    insta::assert_snapshot!(picture(&app, 80, 12));
}

#[test]
fn nothing_is_done_without_a_yes() {
    let mut app = app();
    press(&mut app, "j");
    assert_eq!(press(&mut app, "cn"), Effect::Nothing);
    assert_eq!(app.message.as_deref(), Some("nothing was done"));
    let run = || "gamma-00000003".to_owned();
    assert_eq!(press(&mut app, "cy"), Effect::Act(Action::Cancel, run()));
    // What runs cannot be resumed, what has finished not be cancelled.
    assert_eq!(press(&mut app, "u"), Effect::Nothing);
    assert_eq!(
        app.message.as_deref(),
        Some("gamma-00000003 is running: it goes on already")
    );
    press(&mut app, "G");
    assert_eq!(app.chosen.as_deref(), Some("alpha-00000001"));
    press(&mut app, "c");
    assert_eq!(app.mode, Mode::List);
    assert!(
        app.message
            .as_deref()
            .unwrap()
            .contains("nothing to cancel")
    );
}

#[test]
fn the_choice_stays_on_its_run() {
    let mut app = app();
    press(&mut app, "j");
    app.take_detail(detail("gamma-00000003"));
    let mut views = app.all.clone();
    views.push(view("zeta-00000006", Status::Running, 6));
    assert_eq!(app.take(views, 0), Effect::Nothing);
    assert_eq!(
        (app.chosen.as_deref(), app.place()),
        (Some("gamma-00000003"), Some(2))
    );
    assert!(app.detail.is_some());
    // What was read of another run comes too late.
    app.take_detail(detail("alpha-00000001"));
    assert_eq!(app.detail.as_ref().unwrap().run, "gamma-00000003");
    // It leaves the list: its neighbour is chosen.
    let views = app
        .all
        .iter()
        .filter(|view| view.run != "gamma-00000003")
        .cloned()
        .collect();
    assert_eq!(app.take(views, 0), Effect::Look);
    assert_eq!(app.chosen.as_deref(), Some("epsilon-00000005"));
    assert!(app.detail.is_none());
}

#[test]
fn the_list_is_sorted_and_filtered() {
    let mut app = app();
    let names = |app: &App| -> Vec<String> {
        app.shown
            .iter()
            .map(|view| view.run[..4].to_owned())
            .collect()
    };
    assert_eq!(names(&app), ["delt", "gamm", "epsi", "beta", "alph"]);
    press(&mut app, "s");
    assert_eq!(names(&app), ["epsi", "delt", "gamm", "beta", "alph"]);
    press(&mut app, "sS");
    assert_eq!(names(&app), ["gamm", "epsi", "delt", "beta", "alph"]);
    press(&mut app, "a");
    assert_eq!(names(&app), ["gamm", "delt"]);
    press(&mut app, "a/run");
    assert_eq!(names(&app), ["gamm"]);
    app.press(Key::Backspace);
    assert_eq!(
        (app.filter.as_str(), app.mode.clone()),
        ("ru", Mode::Typing)
    );
    app.press(Key::Escape);
    assert_eq!(names(&app).len(), 5);
    assert_eq!(press(&mut app, "q"), Effect::Quit);
    assert_eq!(app.press(Key::Interrupt), Effect::Quit);
}

#[test]
fn ranks_are_gone_through() {
    let mut app = app();
    press(&mut app, "j");
    assert_eq!(press(&mut app, "r"), Effect::Look);
    assert_eq!(app.rank, 1);
    press(&mut app, "RR");
    assert_eq!(app.rank, 3);
    press(&mut app, "r");
    assert_eq!(app.rank, 0);
}

#[test]
fn colours_are_used_only_where_they_are_wanted() {
    let coloured = |colour: bool| {
        let mut app = app();
        app.colour = colour;
        press(&mut app, "j");
        app.take_detail(detail("gamma-00000003"));
        let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
        terminal.draw(|frame| draw(frame, &app)).unwrap();
        let cells = terminal.backend().buffer().content();
        assert!(
            cells
                .iter()
                .any(|cell| cell.modifier.contains(Modifier::REVERSED))
        );
        cells
            .iter()
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert!(coloured(true) > 100);
    assert_eq!(coloured(false), 0);
}
