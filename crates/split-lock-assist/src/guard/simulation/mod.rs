//! Whether the choice is the right one: on guests and kernels that are simulated.

mod world;

use std::time::Duration;

use self::world::{Kernel, Reaches, Scene, World};
use super::{Config, Keeper, Reaction};

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

const HZ_250: Kernel = Kernel {
    tick_ns: 4 * MS,
    sleep_ticks: 3,
};
const HZ_1000: Kernel = Kernel {
    tick_ns: MS,
    sleep_ticks: 11,
};
const HZ_100: Kernel = Kernel {
    tick_ns: 10 * MS,
    sleep_ticks: 2,
};

fn config(scene: &Scene, reaction: Reaction) -> Config {
    Config {
        reaction,
        grace: Some(scene.kernel.grace()),
        ..Config::default()
    }
}

/// Operations a second.
fn rate(scene: Scene, config: Config, own: Duration, horizon: Duration) -> f64 {
    let mut world = World::new(scene);
    world.play(&mut Keeper::new(config), own, horizon, |_| {});
    world.operations as f64 * 1e9 / world.now_ns as f64
}

#[test]
#[ignore]
fn explore() {
    let mut worst = vec![];
    let begin = std::time::Instant::now();
    for kernel in [HZ_250, HZ_1000, HZ_100] {
        for breakpoints in [Reaches::Yes, Reaches::No, Reaches::ByStep] {
            for own_ms in [1, 5, 20] {
                for work_ns in [0, US, 10 * US, 100 * US, MS, 10 * MS, 100 * MS] {
                    for native_ns in [100, US, 10 * US, 100 * US, 300 * US] {
                        for cost_ns in [2 * US, 10 * US, 30 * US, 100 * US] {
                            let scene = Scene {
                                kernel,
                                work_ns,
                                native_ns,
                                round_trip_ns: cost_ns * 4 / 5,
                                handling_ns: cost_ns / 5,
                                run_ns: cost_ns + 5 * US,
                                breakpoints,
                            };
                            let own = Duration::from_millis(own_ms);
                            let t = std::time::Instant::now();
                            let emulate = rate(
                                scene,
                                config(&scene, Reaction::Emulate),
                                own,
                                Duration::from_secs(2),
                            );
                            let grace = rate(
                                scene,
                                config(&scene, Reaction::Grace),
                                own,
                                Duration::from_secs(4),
                            );
                            let auto = rate(
                                scene,
                                config(&scene, Reaction::Auto),
                                own,
                                Duration::from_secs(20),
                            );
                            worst.push((
                                auto / emulate.max(grace),
                                scene,
                                own_ms,
                                emulate,
                                grace,
                                auto,
                                t.elapsed(),
                            ));
                        }
                    }
                }
            }
        }
    }
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!("{} scenes in {:?}", worst.len(), begin.elapsed());
    for (ratio, s, own, e, g, a, t) in &worst[..60] {
        println!(
            "{ratio:.3} hz {} {:?} own {own} w {} b {} e {} emulate {e:.0} grace {g:.0} auto {a:.0} {t:?}",
            1_000_000_000 / s.kernel.tick_ns,
            s.breakpoints,
            s.work_ns,
            s.native_ns,
            s.round_trip_ns + s.handling_ns
        );
    }
    println!("below .9: {}", worst.iter().filter(|w| w.0 < 0.9).count());
}
