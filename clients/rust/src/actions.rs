//! What is asked of a policy, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::bytes::Bytes;

use crate::status::error_of_step;
use crate::v1::{self, DataType, distribution::Kind, play_response};
use crate::{Array, Error, Simulator, Tensor};

/// How an action is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Drawn from the distribution.
    #[default]
    Sample,
    /// The distribution's mode: the most probable action, or the mean.
    Greedy,
}

/// What may be answered besides the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// ln P(action | observation).
    LogProb,
    /// Entropy of the distribution, in nats.
    Entropy,
    /// The distribution's parameters.
    Distribution,
    /// What [`Mode::Greedy`] would have done.
    GreedyAction,
}

/// How to act on a batch.
#[derive(Clone, Debug)]
pub struct ActOptions<'a> {
    /// How to choose.
    pub mode: Mode,
    /// Makes the draw reproducible.
    pub seed: Option<u64>,
    /// What to answer besides the action.
    pub outputs: &'a [Output],
    /// For policies that take one: bool, shape [batch, mask_size], true where an action is allowed.
    pub action_mask: Option<Array<'a>>,
    /// For policies with memory: the state of the previous answer; empty at the first step of an episode.
    pub state: Bytes,
    /// How long the call may take, tries included; the client's own timeout if not given.
    pub timeout: Option<Duration>,
}

impl Default for ActOptions<'_> {
    fn default() -> Self {
        let outputs = &[Output::LogProb, Output::Entropy, Output::Distribution];
        ActOptions { mode: Mode::Sample, seed: None, outputs, action_mask: None, state: Bytes::new(), timeout: None }
    }
}

/// How to play a session.
#[derive(Clone, Debug, Default)]
pub struct PlayOptions<'a> {
    /// How to choose actions.
    pub mode: Mode,
    /// Makes the whole session reproducible.
    pub seed: Option<u64>,
    /// What to answer besides the actions.
    pub outputs: &'a [Output],
    /// How long a step may take; the client's own timeout if not given. A policy in training says every few seconds that
    /// it is there while it is being improved, and the time begins anew.
    pub timeout: Option<Duration>,
    /// Who plays: a simulator that declares itself can also teach a policy.
    pub simulator: Option<Simulator>,
}

/// The answer for one observation, or for a batch: arrays have a leading batch axis if the observations had one. What was
/// not asked for is not there.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    /// Of the action space's type and shape; without elements where that is a Dict or Tuple.
    pub action: Tensor,
    /// The action's leaves where the action space is a Dict or Tuple, by their paths with dots between the keys: `move`,
    /// or `hands.1` for the second part of a Tuple.
    pub parts: BTreeMap<String, Tensor>,
    /// float32: ln P(action | observation); for a clipped continuous action, of the sample before clipping.
    pub log_prob: Option<Tensor>,
    /// float32, in nats.
    pub entropy: Option<Tensor>,
    /// What [`Mode::Greedy`] would have done.
    pub greedy_action: Option<Tensor>,
    /// The same by the paths of `parts`.
    pub greedy_parts: BTreeMap<String, Tensor>,
    /// The distribution's parameters by their names: `probabilities`, or `mean` and `stddev`, and so on; those of a
    /// structured one have the path of their part before it, as in `move.probabilities`.
    pub distribution: BTreeMap<String, Tensor>,
    /// For policies with memory: the state to send with the next observation.
    pub state: Bytes,
    /// Name of the policy that answered.
    pub policy: String,
    /// Its version.
    pub version: i64,
    /// From a policy in training, true for each environment that should not take its action, but show the same first
    /// observation again in the next step, with `episode_start`. Empty where none should wait.
    pub hold: Vec<bool>,
}

impl Actions {
    /// The answer for the only observation of a batch.
    fn first_row(self) -> Result<Self, Error> {
        let first = |tensors: BTreeMap<String, Tensor>| {
            tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.first_row()?))).collect::<Result<_, Error>>()
        };
        Ok(Actions {
            action: if self.parts.is_empty() { self.action.first_row()? } else { self.action },
            parts: first(self.parts)?,
            greedy_parts: first(self.greedy_parts)?,
            log_prob: self.log_prob.map(Tensor::first_row).transpose()?,
            entropy: self.entropy.map(Tensor::first_row).transpose()?,
            greedy_action: self.greedy_action.map(Tensor::first_row).transpose()?,
            distribution: first(self.distribution)?,
            ..self
        })
    }
}

pub(crate) fn mode_number(mode: Mode) -> i32 {
    match mode {
        Mode::Sample => v1::ActMode::Sample as i32,
        Mode::Greedy => v1::ActMode::Greedy as i32,
    }
}

pub(crate) fn output_numbers(outputs: &[Output]) -> Vec<i32> {
    let number = |output: &Output| match output {
        Output::LogProb => v1::ActOutput::LogProb as i32,
        Output::Entropy => v1::ActOutput::Entropy as i32,
        Output::Distribution => v1::ActOutput::Distribution as i32,
        Output::GreedyAction => v1::ActOutput::GreedyAction as i32,
    };
    std::iter::once(v1::ActOutput::Action as i32).chain(outputs.iter().map(number)).collect()
}

/// The answer to a session's step; that to a single environment has no batch axis.
///
/// # Errors
///
/// The error that is the answer; [`Error::ServerFailed`]: it is not what this client reads, or not for a single
/// environment.
pub fn read_step(response: v1::PlayResponse, single: bool) -> Result<Actions, Error> {
    let actions = match response.result {
        Some(play_response::Result::Act(actions)) => read_actions(actions)?,
        Some(play_response::Result::Error(error)) => return Err(error_of_step(&error)),
        _ => return Err(unreadable("it has neither actions nor an error")),
    };
    let hold = read(response.hold, "hold", DataType::Bool).map_err(not_ours)?;
    let (actions, hold) =
        if single { (actions.first_row()?, hold.map(Tensor::first_row).transpose()?) } else { (actions, hold) };
    let hold = hold.map(|hold| hold.values().map(|values| values.into_owned())).transpose()?.unwrap_or_default();
    Ok(Actions { hold, ..actions })
}

/// An answer as arrays.
///
/// # Errors
///
/// [`Error::ServerFailed`]: it is not what this client reads.
pub fn read_actions(response: v1::ActResponse) -> Result<Actions, Error> {
    parse_actions(response).map_err(not_ours)
}

/// What is wrong with an answer is no fault of the request.
fn not_ours(error: Error) -> Error {
    if matches!(error, Error::InvalidRequest { .. }) { unreadable(&error.to_string()) } else { error }
}

fn unreadable(reason: &str) -> Error {
    Error::ServerFailed(format!("the server's answer cannot be read: {reason}; is the server newer than this client?"))
}

/// A tensor of that type, if there is one.
fn read(tensor: Option<v1::Tensor>, field: &str, dtype: DataType) -> Result<Option<Tensor>, Error> {
    let Some(tensor) = tensor else { return Ok(None) };
    let tensor = Tensor::from_message(&tensor, field)?;
    if tensor.dtype() == dtype {
        Ok(Some(tensor))
    } else {
        Err(Error::invalid(field, format!("{dtype:?}"), format!("{:?}", tensor.dtype())))
    }
}

fn parse_actions(response: v1::ActResponse) -> Result<Actions, Error> {
    let version = response.policy.unwrap_or_default();
    let parts = |value: Option<v1::Value>, field| {
        let mut found = BTreeMap::new();
        value.map(|value| read_parts(value, "", field, &mut found)).transpose()?;
        Ok::<_, Error>(found)
    };
    let action = if response.structured_action.is_some() {
        v1::Tensor { dtype: DataType::Float32 as i32, shape: vec![0], ..Default::default() }
    } else {
        response.action.ok_or_else(|| unreadable("it has no action"))?
    };
    Ok(Actions {
        action: Tensor::from_message(&action, "action")?,
        parts: parts(response.structured_action, "structured_action")?,
        greedy_parts: parts(response.structured_greedy_action, "structured_greedy_action")?,
        log_prob: read(response.log_prob, "log_prob", DataType::Float32)?,
        entropy: read(response.entropy, "entropy", DataType::Float32)?,
        greedy_action: response
            .greedy_action
            .map(|tensor| Tensor::from_message(&tensor, "greedy_action"))
            .transpose()?,
        distribution: response.distribution.map(read_distribution).transpose()?.unwrap_or_default(),
        state: response.state,
        policy: version.name,
        version: version.version,
        hold: vec![],
    })
}

/// The leaves of a value by their paths.
fn read_parts(value: v1::Value, path: &str, field: &str, found: &mut BTreeMap<String, Tensor>) -> Result<(), Error> {
    match value.kind {
        Some(v1::value::Kind::Fields(fields)) => {
            for (key, part) in fields.fields {
                let inner = if path.is_empty() { key } else { format!("{path}.{key}") };
                read_parts(part, &inner, field, found)?;
            }
        }
        Some(v1::value::Kind::Tensor(tensor)) => {
            found.insert(path.to_owned(), Tensor::from_message(&tensor, &format!("{field}.{path}"))?);
        }
        _ => return Err(Error::ServerFailed(format!("{field}.{path} has neither numbers nor parts"))),
    }
    Ok(())
}

fn read_distribution(distribution: v1::Distribution) -> Result<BTreeMap<String, Tensor>, Error> {
    let parameters = match distribution.kind {
        None => vec![],
        Some(Kind::Categorical(kind)) => vec![("probabilities", kind.probabilities)],
        Some(Kind::DiagonalGaussian(kind)) => vec![("mean", kind.mean), ("stddev", kind.stddev)],
        Some(Kind::MultiCategorical(kind)) => vec![("probabilities", kind.probabilities)],
        Some(Kind::MultiBernoulli(kind)) => vec![("probabilities", kind.probabilities)],
        Some(Kind::SquashedGaussian(kind)) => vec![("mean", kind.mean), ("stddev", kind.stddev)],
        Some(Kind::Kumaraswamy(kind)) => vec![("a", kind.a), ("b", kind.b)],
        Some(Kind::Structured(kind)) => {
            let mut found = BTreeMap::new();
            for (key, part) in kind.parts {
                let own = read_distribution(part)?;
                found.extend(own.into_iter().map(|(name, parameter)| (format!("{key}.{name}"), parameter)));
            }
            return Ok(found);
        }
    };
    let read = |(name, tensor): (&'static str, Option<v1::Tensor>)| {
        Ok((name.to_owned(), Tensor::from_message(&tensor.unwrap_or_default(), &format!("distribution.{name}"))?))
    };
    parameters.into_iter().map(read).collect()
}
