//! Tests of the simulated CartPole.

#[path = "../examples/cartpole/physics.rs"]
mod physics;

use physics::CartPole;

/// States of gymnasium 1.4's CartPole-v1 after the same start states and actions.
#[test]
fn moves_like_gymnasiums_cart() {
    let mut cartpole = CartPole::at([0.01, -0.02, 0.03, -0.04]);
    for action in [1, 0, 0, 1, 1, 1, 0, 1] {
        cartpole.step(action);
    }
    let expected = [0.022194582872812667, 0.36748623028388583, 0.004924309497341877, -0.5645483843942637];
    for (got, expected) in cartpole.observation().into_iter().zip(expected) {
        assert!((f64::from(got) - expected).abs() < 1e-6, "{got}, not {expected}");
    }
}

#[test]
fn falls_when_gymnasiums_pole_does() {
    let mut cartpole = CartPole::at([0.0; 4]);
    let steps = (1..).find(|_| {
        cartpole.step(1);
        cartpole.terminated()
    });
    assert_eq!(steps, Some(9));
    assert!(!cartpole.truncated());
}

#[test]
fn starts_within_0_05() {
    let mut cartpole = CartPole::new(0);
    let mut start = || {
        cartpole.reset();
        cartpole.observation()
    };
    let starts: Vec<_> = (0..1000).flat_map(|_| start()).collect();
    let (least, most) = starts.iter().fold((1.0_f32, -1.0_f32), |(low, high), &one| (low.min(one), high.max(one)));
    assert!((-0.05..-0.0499).contains(&least) && (0.0499..0.05).contains(&most), "{least} to {most}");
}
