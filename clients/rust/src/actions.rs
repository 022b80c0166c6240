//! Options of calls and sessions, and the decoded responses.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::bytes::Bytes;

use crate::status::error_of_step;
use crate::v1::{self, DataType, distribution::Kind, play_response};
use crate::{Array, Error, Simulator, Tensor};

/// Selects how an action is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// A sample from the distribution.
    #[default]
    Sample,
    /// The distribution's mode: the most probable action, or the mean.
    Greedy,
}

/// An optional part of a response; the action is always included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// ln P(action | observation).
    LogProb,
    /// Entropy of the distribution, in nats.
    Entropy,
    /// The distribution's parameters.
    Distribution,
    /// The action that [`Mode::Greedy`] would have returned.
    GreedyAction,
}

/// Options of a call.
#[derive(Clone, Debug)]
pub struct ActOptions<'a> {
    /// How actions are selected.
    pub mode: Mode,
    /// Makes sampling reproducible.
    pub seed: Option<u64>,
    /// What the response contains besides the action.
    pub outputs: &'a [Output],
    /// For policies that take one: bool, shape [batch, mask_size], true where an action is allowed.
    pub action_mask: Option<Array<'a>>,
    /// For policies with memory: the state of the previous response. Empty at the first step of an episode.
    pub state: Bytes,
    /// Timeout of the call, including retries. Default: the client's timeout.
    pub timeout: Option<Duration>,
}

impl Default for ActOptions<'_> {
    fn default() -> Self {
        let outputs = &[Output::LogProb, Output::Entropy, Output::Distribution];
        ActOptions { mode: Mode::Sample, seed: None, outputs, action_mask: None, state: Bytes::new(), timeout: None }
    }
}

/// Options of a session.
#[derive(Clone, Debug, Default)]
pub struct PlayOptions<'a> {
    /// How actions are selected.
    pub mode: Mode,
    /// Makes the whole session reproducible.
    pub seed: Option<u64>,
    /// What a response contains besides the actions.
    pub outputs: &'a [Output],
    /// Timeout of a step. Default: the client's timeout. It restarts whenever a policy in training reports that it is
    /// being updated.
    pub timeout: Option<Duration>,
    /// Declares the simulator. One that declares itself can also train a policy.
    pub simulator: Option<Simulator>,
}

/// The response for one observation or a batch. Arrays have a leading batch axis if the observations had one. Fields
/// that were not requested are `None` or empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Actions {
    /// The action, with the action space's type and shape. It has no elements if the space is a Dict or Tuple.
    pub action: Tensor,
    /// The action's leaves if the action space is a Dict or Tuple. Keys are paths, with dots between the parts: `move`,
    /// or `hands.1` for the second part of a Tuple.
    pub parts: BTreeMap<String, Tensor>,
    /// ln P(action | observation), float32. For a clipped continuous action, that of the sample before clipping.
    pub log_prob: Option<Tensor>,
    /// The entropy of the distribution in nats, float32.
    pub entropy: Option<Tensor>,
    /// The action that [`Mode::Greedy`] would have returned.
    pub greedy_action: Option<Tensor>,
    /// The leaves of the greedy action, keyed like `parts`.
    pub greedy_parts: BTreeMap<String, Tensor>,
    /// The distribution's parameters by name, such as `probabilities`, or `mean` and `stddev`. In a structured
    /// distribution the part's path precedes the name, as in `move.probabilities`.
    pub distribution: BTreeMap<String, Tensor>,
    /// For policies with memory: the state to send with the next observation.
    pub state: Bytes,
    /// Name of the policy that responded.
    pub policy: String,
    /// Version of the policy that responded.
    pub version: i64,
    /// Sent by a policy in training. Where it is true, the environment should not take its action but send the same
    /// first observation again in the next step, with `episode_start`. Empty if no environment should wait.
    pub hold: Vec<bool>,
}

impl Actions {
    /// Removes the batch axis of the response to a batch of one.
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

/// Decodes the response to a session's step. Removes the batch axis for a single environment.
///
/// # Errors
///
/// The error in the response, or [`Error::ServerFailed`] if it is malformed or does not have one row for a single
/// environment.
pub fn read_step(response: v1::PlayResponse, single: bool) -> Result<Actions, Error> {
    let actions = match response.result {
        Some(play_response::Result::Act(actions)) => read_actions(actions)?,
        Some(play_response::Result::Error(error)) => return Err(error_of_step(&error)),
        _ => return Err(unreadable("it has neither actions nor an error")),
    };
    let hold = read(response.hold, "hold", DataType::Bool).map_err(as_server_failure)?;
    let (actions, hold) =
        if single { (actions.first_row()?, hold.map(Tensor::first_row).transpose()?) } else { (actions, hold) };
    let hold = hold.map(|hold| hold.values().map(|values| values.into_owned())).transpose()?.unwrap_or_default();
    Ok(Actions { hold, ..actions })
}

/// Decodes a response.
///
/// # Errors
///
/// [`Error::ServerFailed`] if it is malformed.
pub fn read_actions(response: v1::ActResponse) -> Result<Actions, Error> {
    parse_actions(response).map_err(as_server_failure)
}

/// Turns an `InvalidRequest` of a decoder into `ServerFailed`, because the response is malformed.
fn as_server_failure(error: Error) -> Error {
    if matches!(error, Error::InvalidRequest { .. }) { unreadable(&error.to_string()) } else { error }
}

fn unreadable(reason: &str) -> Error {
    Error::ServerFailed(format!("the server's answer cannot be read: {reason}; is the server newer than this client?"))
}

/// Decodes a tensor of the given type, if there is one.
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

/// Collects the leaves of a value, keyed by path.
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
