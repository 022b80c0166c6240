//! Observation and action spaces, for simulators that declare them. The kinds are those of `gymnasium.spaces`.

use crate::v1::space::Kind;
use crate::v1::{
    self, BoxSpace, DictSpace, DiscreteSpace, MultiBinarySpace, MultiDiscreteSpace, NamedSpace, TupleSpace,
};
pub use crate::v1::{DataType, Space};

/// Describes the simulator that opens a session. A simulator that declares itself can also train a policy, by
/// connecting to `pgkeras train --listen`. A server of trained policies checks that the spaces match the policy's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulator {
    /// The observation space.
    pub observation_space: Space,
    /// The action space.
    pub action_space: Space,
    /// Number of environments that it steps in parallel; 0 means unspecified.
    pub environments: i64,
    /// The simulator's name, informational.
    pub name: String,
    /// The simulator's version, informational.
    pub version: String,
}

impl Simulator {
    pub(crate) fn message(&self) -> v1::Simulator {
        v1::Simulator {
            observation_space: Some(self.observation_space.clone()),
            action_space: Some(self.action_space.clone()),
            environments: self.environments,
            name: self.name.clone(),
            version: self.version.clone(),
        }
    }
}

/// Arrays of float32 numbers. A bound is one number for all elements, or one per element in C order. It may be
/// infinite.
pub fn numbers(shape: &[i64], low: &[f64], high: &[f64]) -> Space {
    boxed(DataType::Float32, shape, low, high)
}

/// uint8 images.
pub fn pixels(shape: &[i64]) -> Space {
    boxed(DataType::Uint8, shape, &[0.0], &[255.0])
}

/// The integers 0 to `n - 1`.
pub fn discrete(n: i64) -> Space {
    space(Kind::Discrete(DiscreteSpace { n, start: 0, dtype: DataType::Int64 as i32 }))
}

/// Integer vectors, whose element i is in 0 to `counts[i] - 1`.
pub fn multi_discrete(counts: &[i64]) -> Space {
    let (start, shape) = (vec![0; counts.len()], vec![counts.len() as i64]);
    space(Kind::MultiDiscrete(MultiDiscreteSpace { nvec: counts.into(), start, shape, dtype: DataType::Int64 as i32 }))
}

/// Arrays of zeros and ones.
pub fn multi_binary(shape: &[i64]) -> Space {
    space(Kind::MultiBinary(MultiBinarySpace { shape: shape.into() }))
}

/// Named parts, in this order.
pub fn dict<'a>(parts: impl IntoIterator<Item = (&'a str, Space)>) -> Space {
    let named = |(key, space): (&str, Space)| NamedSpace { key: key.into(), space: Some(space) };
    space(Kind::Dict(DictSpace { spaces: parts.into_iter().map(named).collect() }))
}

/// Ordered parts.
pub fn tuple(parts: impl IntoIterator<Item = Space>) -> Space {
    space(Kind::Tuple(TupleSpace { spaces: parts.into_iter().collect() }))
}

fn boxed(dtype: DataType, shape: &[i64], low: &[f64], high: &[f64]) -> Space {
    space(Kind::Box(BoxSpace { dtype: dtype as i32, shape: shape.into(), low: low.into(), high: high.into() }))
}

fn space(kind: Kind) -> Space {
    Space { kind: Some(kind) }
}
