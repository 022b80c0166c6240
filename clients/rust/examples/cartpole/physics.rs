//! CartPole-v1: the equations and constants of gymnasium/envs/classic_control/cartpole.py, which are those of Barto,
//! Sutton & Anderson, "Neuronlike adaptive elements that can solve difficult learning control problems" (1983).

const GRAVITY: f64 = 9.8;
const MASS_POLE: f64 = 0.1;
const TOTAL_MASS: f64 = 1.0 + MASS_POLE;
const LENGTH: f64 = 0.5; // half the pole's
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
    turning: f64,
    steps: u32,
    random: u64,
}

impl CartPole {
    /// At the beginning of an episode; `seed` is that of the starts.
    pub fn new(seed: u64) -> Self {
        let mut cartpole = Self::at([0.0; 4]);
        cartpole.random = seed;
        cartpole.reset();
        cartpole
    }

    /// At the beginning of an episode, in that state: position, speed, angle and angular speed.
    pub fn at([x, speed, angle, turning]: [f64; 4]) -> Self {
        CartPole { x, speed, angle, turning, steps: 0, random: 0 }
    }

    /// Begins an episode, uniformly within 0.05 in all four numbers.
    pub fn reset(&mut self) {
        let [x, speed, angle, turning] = std::array::from_fn(|_| 0.1 * self.uniform() - 0.05);
        *self = CartPole { random: self.random, ..Self::at([x, speed, angle, turning]) };
    }

    /// Pushes to the right for action 1, else to the left, and integrates by Euler's method. Every step earns 1.
    pub fn step(&mut self, action: i64) {
        let (sine, cosine) = self.angle.sin_cos();
        let force = if action == 1 { FORCE } else { -FORCE };
        let push = (force + MASS_POLE * LENGTH * self.turning * self.turning * sine) / TOTAL_MASS;
        let turning_change =
            (GRAVITY * sine - cosine * push) / (LENGTH * (4.0 / 3.0 - MASS_POLE * cosine * cosine / TOTAL_MASS));
        let speed_change = push - MASS_POLE * LENGTH * turning_change * cosine / TOTAL_MASS;
        self.x += SECONDS_PER_STEP * self.speed;
        self.speed += SECONDS_PER_STEP * speed_change;
        self.angle += SECONDS_PER_STEP * self.turning;
        self.turning += SECONDS_PER_STEP * turning_change;
        self.steps += 1;
    }

    /// Whether the pole has fallen or the cart has left the track.
    pub fn terminated(&self) -> bool {
        self.x.abs() > LIMIT_X || self.angle.abs() > LIMIT_ANGLE
    }

    /// Whether the episode is cut off for its length.
    pub fn truncated(&self) -> bool {
        !self.terminated() && self.steps >= LIMIT_STEPS
    }

    /// Position, speed, angle and angular speed.
    pub fn observation(&self) -> [f32; 4] {
        [self.x as f32, self.speed as f32, self.angle as f32, self.turning as f32]
    }

    /// A number in [0, 1): SplitMix64 (Steele, Lea & Flood 2014).
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
