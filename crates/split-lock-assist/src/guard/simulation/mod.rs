//! Whether the choice is the right one: with guests and kernels that are simulated.

mod world;

use std::time::Duration;

use self::world::{Kernel, Reaches, Scene, World};
use super::{Config, Keeper, Reaction, Response, Verdict};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

const HZ_100: Kernel = Kernel {
    tick_ns: 10 * MS,
    sleep_ticks: 2,
};
const HZ_250: Kernel = Kernel {
    tick_ns: 4 * MS,
    sleep_ticks: 3,
};
const HZ_1000: Kernel = Kernel {
    tick_ns: MS,
    sleep_ticks: 11,
};

/// One split lock after the other.
const DENSE: Scene = Scene {
    kernel: HZ_250,
    work_ns: 0,
    native_ns: US,
    round_trip_ns: 8 * US,
    handling_ns: 2 * US,
    run_ns: 15 * US,
    breakpoints: Reaches::Yes,
    is_noisy: false,
};

const SPARSE: Scene = Scene {
    work_ns: 10 * MS,
    ..DENSE
};

fn config(scene: &Scene, reaction: Reaction) -> Config {
    Config {
        reaction,
        grace: Some(scene.kernel.grace()),
        ..Config::default()
    }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Operations a second from now on.
fn rate_from_now(world: &mut World, keeper: &mut Keeper, own: Duration, seconds: u64) -> f64 {
    let (began_ns, before) = (world.now_ns, world.operations);
    let until = Duration::from_nanos(began_ns) + ms(1_000 * seconds);
    world.play(keeper, own, until, |_| {});
    (world.operations - before) as f64 * 1e9 / (world.now_ns - began_ns) as f64
}

/// Operations a second, once the guard has settled.
fn rate(scene: Scene, config: Config, own: Duration, seconds: u64) -> f64 {
    let (mut world, mut keeper) = (World::new(scene), Keeper::new(config));
    rate_from_now(&mut world, &mut keeper, own, 1);
    rate_from_now(&mut world, &mut keeper, own, seconds)
}

/// How close the choice comes to the better of what there is to choose from.
fn quality(scene: Scene, own: Duration) -> f64 {
    let rate = |reaction, seconds| rate(scene, config(&scene, reaction), own, seconds);
    let better = rate(Reaction::Emulate, 2).max(rate(Reaction::Grace, 5));
    rate(Reaction::Auto, 15) / better
}

fn scenes() -> impl Iterator<Item = Scene> {
    let works = [0, 3 * US, 30 * US, 300 * US, 3 * MS, 100 * MS];
    let natives = [100, US, 30 * US, 300 * US];
    let costs = [2 * US, 15 * US, 100 * US];
    works.into_iter().flat_map(move |work_ns| {
        natives.into_iter().flat_map(move |native_ns| {
            costs.into_iter().map(move |cost_ns| Scene {
                work_ns,
                native_ns,
                round_trip_ns: cost_ns * 4 / 5,
                handling_ns: cost_ns / 5,
                run_ns: cost_ns + 5 * US,
                ..DENSE
            })
        })
    })
}

fn assert_good_choice(scene: Scene, own: Duration) {
    let quality = quality(scene, own);
    assert!(
        quality >= 0.9,
        "{quality:.3} of the better: {own:?} {scene:?}"
    );
}

#[test]
fn the_choice_is_never_much_worse_than_the_better_one_with_breakpoints() {
    for scene in scenes() {
        for own in [1, 5, 20] {
            assert_good_choice(scene, ms(own));
        }
    }
}

#[test]
fn the_choice_is_never_much_worse_than_the_better_one_without_breakpoints() {
    for scene in scenes() {
        for own in [1, 5, 20] {
            let breakpoints = Reaches::No;
            assert_good_choice(
                Scene {
                    breakpoints,
                    ..scene
                },
                ms(own),
            );
        }
    }
}

#[test]
fn the_choice_is_the_same_under_other_kernels() {
    for kernel in [HZ_100, HZ_1000] {
        for scene in scenes().step_by(5) {
            for breakpoints in [Reaches::ByStep, Reaches::No] {
                let scene = Scene {
                    kernel,
                    breakpoints,
                    ..scene
                };
                assert_good_choice(scene, ms(1));
            }
        }
    }
}

#[test]
fn without_leave_to_wait_the_choice_is_to_emulate() {
    for scene in scenes().step_by(3) {
        for breakpoints in [Reaches::Yes, Reaches::No] {
            let scene = Scene {
                breakpoints,
                ..scene
            };
            let rate = |reaction, seconds| {
                let config = Config {
                    grace: None,
                    ..config(&scene, reaction)
                };
                rate(scene, config, ms(1), seconds)
            };
            let quality = rate(Reaction::Auto, 10) / rate(Reaction::Emulate, 2);
            assert!(quality >= 0.9, "{quality:.3} of emulating: {scene:?}");
        }
    }
}

#[test]
fn noise_does_not_mislead() {
    // A guest that splits a few times a second takes too long to measure.
    let often = |scene: &Scene| scene.work_ns <= 3 * MS;
    for scene in scenes().filter(often).step_by(2) {
        for breakpoints in [Reaches::Yes, Reaches::No] {
            let scene = Scene {
                breakpoints,
                is_noisy: true,
                ..scene
            };
            let quality = quality(scene, ms(5));
            assert!(quality >= 0.8, "{quality:.3} of the better: {scene:?}");
        }
    }
}

/// Operations a second of a guest, and of itself after it was something else for a while.
fn before_and_after_a_change(first: Scene, second: Scene) -> (f64, f64) {
    let expected = rate(second, config(&second, Reaction::Auto), ms(5), 10);
    let mut world = World::new(first);
    let mut keeper = Keeper::new(config(&first, Reaction::Auto));
    rate_from_now(&mut world, &mut keeper, ms(5), 60);
    world.set_work(second.work_ns);
    rate_from_now(&mut world, &mut keeper, ms(5), 60);
    (expected, rate_from_now(&mut world, &mut keeper, ms(5), 10))
}

#[test]
fn a_guest_that_changes_is_noticed() {
    // Let through while it is dense, because a split lock is cheap here.
    let cheap = Scene {
        native_ns: 100,
        ..DENSE
    };
    let sparse = Scene {
        work_ns: 5 * MS,
        ..cheap
    };
    for (first, second) in [(cheap, sparse), (sparse, cheap)] {
        let (expected, got) = before_and_after_a_change(first, second);
        assert!(
            got >= 0.9 * expected,
            "{got} instead of {expected}: {second:?}"
        );
    }
}

#[test]
fn below_the_threshold_there_is_progress_where_there_was_none() {
    for breakpoints in [Reaches::Yes, Reaches::ByStep, Reaches::No] {
        for work_ns in [0, MS, 30 * MS] {
            let scene = Scene {
                work_ns,
                breakpoints,
                ..DENSE
            };
            let turns_in_1_s = |reaction, grace, own| {
                let mut world = World::new(scene);
                let config = Config {
                    grace,
                    ..config(&scene, reaction)
                };
                world.play(&mut Keeper::new(config), own, ms(1_000), |_| {});
                world.operations
            };
            for own in [ms(1) / 5, ms(1), ms(8)] {
                for reaction in [Reaction::Off, Reaction::Report] {
                    assert_eq!(turns_in_1_s(reaction, Some(ms(28)), own), 0);
                }
                // Deadlines hold, and so nothing can be waited for.
                assert_eq!(turns_in_1_s(Reaction::Grace, None, own), 0);
                for (reaction, grace) in [
                    (Reaction::Grace, Some(ms(28))),
                    (Reaction::Emulate, None),
                    (Reaction::Auto, None),
                    (Reaction::Auto, Some(ms(28))),
                ] {
                    let turns = turns_in_1_s(reaction, grace, own);
                    assert!(
                        turns >= 15,
                        "{turns} with {reaction} and {own:?}: {scene:?}"
                    );
                }
            }
        }
    }
}

/// Time that a guest loses for each split lock, once that is noticed.
fn lost_ns(scene: Scene, reaction: Reaction, own: Duration) -> f64 {
    let mut world = World::new(scene);
    let mut keeper = Keeper::new(config(&scene, reaction));
    rate_from_now(&mut world, &mut keeper, own, 5);
    1e9 / rate_from_now(&mut world, &mut keeper, own, 20) - scene.work_ns as f64
}

#[test]
fn a_sparse_split_lock_costs_a_sleep_or_next_to_nothing() {
    for work_ns in [20 * MS, 100 * MS] {
        let scene = Scene { work_ns, ..SPARSE };
        // Long enough for the kernel.
        let own = ms(100);
        let punished = lost_ns(scene, Reaction::Off, own);
        assert!(punished > 8e6, "{punished}");
        for reaction in [Reaction::Emulate, Reaction::Auto] {
            let lost = lost_ns(scene, reaction, own);
            assert!(500.0 * lost < punished, "{lost} and {punished}: {reaction}");
        }
        // A stall is found by the next probe, whose length grows with the root of time.
        let without = Scene {
            breakpoints: Reaches::No,
            ..scene
        };
        let lost = lost_ns(without, Reaction::Emulate, ms(1));
        assert!(lost < 4e6, "{lost}");
    }
}

#[test]
fn a_stall_is_reported_once_for_each_instruction() {
    let mut world = World::new(SPARSE);
    let (mut new, mut old) = (0, 0);
    let mut keeper = Keeper::new(config(&SPARSE, Reaction::Report));
    world.play(&mut keeper, ms(1), ms(1_000), |verdict| {
        if let Some(stall) = verdict.stall() {
            assert!(matches!(verdict, Verdict::Stalled(_)));
            assert_eq!(stall.response, Response::Reported);
            new += u32::from(stall.is_new);
            old += u32::from(!stall.is_new);
        }
    });
    assert_eq!(new, 1);
    assert!(old > 900, "{old}");
}

#[test]
fn above_the_threshold_a_sparse_guest_is_slow_and_not_stalled() {
    let mut world = World::new(SPARSE);
    let (mut slow, mut stalled) = (0, 0);
    let mut keeper = Keeper::new(config(&SPARSE, Reaction::Report));
    world.play(&mut keeper, ms(20), ms(10_000), |verdict| match verdict {
        Verdict::Slow(_) => slow += 1,
        Verdict::Stalled(_) => stalled += 1,
        _ => {}
    });
    assert!(slow > 50, "{slow}");
    assert_eq!(stalled, 0);
}
