//! CartPole-v1. Equations and constants are from gymnasium/envs/classic_control/cartpole.py, after Barto, Sutton &
//! Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems" (1983).

const GRAVITY: f64 = 9.8;
const MASS_POLE: f64 = 0.1;
const TOTAL_MASS: f64 = 1.0 + MASS_POLE;
const LENGTH: f64 = 0.5; // half the length of the pole
const FORCE: f64 = 10.0;
const SECONDS_PER_STEP: f64 = 0.02;
const LIMIT_X: f64 = 2.4;
const LIMIT_ANGLE: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
const LIMIT_STEPS: u32 = 500;

/// A cart with a pole.
pub struct CartPole {
    x: f64,
    speed: f64,
    angle: f64,
    angular_speed: f64,
    steps: u32,
    random: u64,
}

impl CartPole {
    /// Returns a cart at the beginning of an episode. `seed` determines its start states.
    pub fn new(seed: u64) -> Self {
        let mut cartpole = Self::at([0.0; 4]);
        cartpole.random = seed;
        cartpole.reset();
        cartpole
    }

    /// Returns a cart at the beginning of an episode in a given state: position, speed, angle and angular speed.
    pub fn at([x, speed, angle, angular_speed]: [f64; 4]) -> Self {
        CartPole { x, speed, angle, angular_speed, steps: 0, random: 0 }
    }

    /// Starts an episode, with all four numbers uniform in [-0.05, 0.05].
    pub fn reset(&mut self) {
        let [x, speed, angle, angular_speed] = std::array::from_fn(|_| 0.1 * self.uniform() - 0.05);
        *self = CartPole { random: self.random, ..Self::at([x, speed, angle, angular_speed]) };
    }

    /// Pushes to the right for action 1, else to the left, and integrates by Euler's method. Every step earns 1.
    pub fn step(&mut self, action: i64) {
        let (sine, cosine) = self.angle.sin_cos();
        let force = if action == 1 { FORCE } else { -FORCE };
        let push = (force + MASS_POLE * LENGTH * self.angular_speed * self.angular_speed * sine) / TOTAL_MASS;
        let angular_acceleration =
            (GRAVITY * sine - cosine * push) / (LENGTH * (4.0 / 3.0 - MASS_POLE * cosine * cosine / TOTAL_MASS));
        let acceleration = push - MASS_POLE * LENGTH * angular_acceleration * cosine / TOTAL_MASS;
        self.x += SECONDS_PER_STEP * self.speed;
        self.speed += SECONDS_PER_STEP * acceleration;
        self.angle += SECONDS_PER_STEP * self.angular_speed;
        self.angular_speed += SECONDS_PER_STEP * angular_acceleration;
        self.steps += 1;
    }

    /// Whether the pole has fallen or the cart has left the track.
    pub fn terminated(&self) -> bool {
        self.x.abs() > LIMIT_X || self.angle.abs() > LIMIT_ANGLE
    }

    /// Whether the episode has reached its maximum length.
    pub fn truncated(&self) -> bool {
        !self.terminated() && self.steps >= LIMIT_STEPS
    }

    /// Returns position, speed, angle and angular speed.
    pub fn observation(&self) -> [f32; 4] {
        [self.x as f32, self.speed as f32, self.angle as f32, self.angular_speed as f32]
    }

    /// Returns a random number in [0, 1), by SplitMix64 (Steele, Lea & Flood 2014).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
