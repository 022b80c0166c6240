use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout_at;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::actions::read_step;
use crate::client::check_size;
use crate::status::{Call, after, error_of};
use crate::v1::policy_service_client::PolicyServiceClient;
use crate::v1::{self, play_response};
use crate::{Actions, Array, Error, Observation};

// Capacity for messages that the server has not read yet. Only steps that missed their deadlines accumulate here.
const OUTBOX: usize = 8;

/// The outcome of the previous action of one environment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The reward.
    pub reward: f32,
    /// Whether the episode ended in a terminal state.
    pub terminated: bool,
    /// Whether the episode was cut off.
    pub truncated: bool,
}

/// The outcomes of the previous actions of all environments, one element each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcomes<'a> {
    /// The rewards.
    pub reward: &'a [f32],
    /// Whether the episodes ended in a terminal state.
    pub terminated: &'a [bool],
    /// Whether the episodes were cut off.
    pub truncated: &'a [bool],
}

/// Options of a step.
#[derive(Clone, Debug, Default)]
pub struct StepOptions<'a> {
    /// Whether each observation is the first of an episode, one element per environment. Default: true if the step
    /// before it was `terminated` or `truncated`, as with Gymnasium's next-step autoreset.
    pub episode_start: Option<&'a [bool]>,
    /// Allowed actions: bool, shape [environments, mask_size], or [mask_size] for a single environment.
    pub action_mask: Option<Array<'a>>,
    /// Timeout of this step. Default: the session's timeout.
    pub timeout: Option<Duration>,
}

/// A simulator's session, created by [`Client::play`](crate::Client::play). The policy version stays the same
/// throughout it. Dropping it ends the session.
///
/// A step fails with
/// - [`Error::InvalidRequest`] if an argument is invalid (the session is as if the step had not been made), or if the
///   declared simulator is refused, which ends the session;
/// - [`Error::ServerBusy`] if the server is busy (the same step may be retried), or if it has too many sessions, which
///   ends this one;
/// - [`Error::DeadlineExceeded`] in three cases. If no response arrived in time, the step counts and its action is
///   lost; the same is true if the future of a step is dropped. If the server does not read and the step was not
///   sent, the message says so and the step does not count. If the session was idle for too long, the server has ended
///   it;
/// - [`Error::ServerUnavailable`] if the server is unreachable or stopping (open a new session);
/// - other errors.
///
/// Check [`Session::is_over`] after an error.
pub struct Session {
    outbox: mpsc::Sender<v1::PlayRequest>,
    inbox: Inbox,
    next: v1::PlayRequest,
    call: Call,
    id: u64,
}

type Opening = Pin<Box<dyn Future<Output = Result<Response<Streaming<v1::PlayResponse>>, Status>> + Send>>;

enum Inbox {
    Opening(Opening),
    Open(Streaming<v1::PlayResponse>),
    Over(Error),
}

impl Session {
    pub(crate) fn open(
        mut stub: PolicyServiceClient<Channel>,
        token: Option<MetadataValue<Ascii>>,
        first: v1::PlayRequest,
        call: Call,
    ) -> Self {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let mut request = Request::new(ReceiverStream::new(messages));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", token);
        }
        // The first step awaits the call, because the server may send nothing before its first response.
        let inbox = Inbox::Opening(Box::pin(async move { stub.play(request).await }));
        Session { outbox, inbox, next: first, call, id: 0 }
    }

    /// Returns the action for the first observation of an episode. Reports no outcome.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn begin(&mut self, observation: impl Into<Observation>) -> Result<Actions, Error> {
        self.step_with(observation, None, &StepOptions::default()).await
    }

    /// Reports the outcome of the previous action and returns the next one.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn step(
        &mut self,
        observation: impl Into<Observation>,
        reward: f32,
        terminated: bool,
        truncated: bool,
    ) -> Result<Actions, Error> {
        let outcome = Outcome { reward, terminated, truncated };
        self.step_with(observation, Some(outcome), &StepOptions::default()).await
    }

    /// Like [`step`](Session::step), with options.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn step_with(
        &mut self,
        observation: impl Into<Observation>,
        outcome: Option<Outcome>,
        options: &StepOptions<'_>,
    ) -> Result<Actions, Error> {
        let flags = outcome.map(|outcome| ([outcome.reward], [outcome.terminated], [outcome.truncated]));
        let outcomes = flags.as_ref().map(|(reward, terminated, truncated)| Outcomes { reward, terminated, truncated });
        let mut request = self.request(observation.into().into_batch(), outcomes, options);
        if let Some(mask) = request.action_mask.as_mut().filter(|mask| mask.shape.len() == 1) {
            mask.shape.insert(0, 1);
        }
        read_step(self.ask(request, options).await?, true)
    }

    /// Like [`begin`](Session::begin) for many environments, the same number in every step. Observations have a leading
    /// batch axis.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn begin_batch(&mut self, observations: impl Into<Observation>) -> Result<Actions, Error> {
        self.step_batch_with(observations, None, &StepOptions::default()).await
    }

    /// Like [`step`](Session::step) for many environments.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn step_batch(
        &mut self,
        observations: impl Into<Observation>,
        reward: &[f32],
        terminated: &[bool],
        truncated: &[bool],
    ) -> Result<Actions, Error> {
        let outcomes = Outcomes { reward, terminated, truncated };
        self.step_batch_with(observations, Some(outcomes), &StepOptions::default()).await
    }

    /// Like [`step_with`](Session::step_with) for many environments.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn step_batch_with(
        &mut self,
        observations: impl Into<Observation>,
        outcomes: Option<Outcomes<'_>>,
        options: &StepOptions<'_>,
    ) -> Result<Actions, Error> {
        let request = self.request(observations.into(), outcomes, options);
        read_step(self.ask(request, options).await?, false)
    }

    /// Whether an error has ended the session. Later steps fail with that error.
    pub fn is_over(&self) -> bool {
        matches!(self.inbox, Inbox::Over(_))
    }

    fn request(
        &self,
        observation: Observation,
        outcomes: Option<Outcomes<'_>>,
        options: &StepOptions<'_>,
    ) -> v1::PlayRequest {
        let mut request = v1::PlayRequest { observation: Some(observation.0), ..self.next.clone() };
        if let Some(outcomes) = outcomes {
            request.reward = Some(Array::from(outcomes.reward).message());
            request.terminated = Some(Array::from(outcomes.terminated).message());
            request.truncated = Some(Array::from(outcomes.truncated).message());
        }
        request.episode_start = options.episode_start.map(|start| Array::from(start).message());
        request.action_mask = options.action_mask.as_ref().map(Array::message);
        request
    }

    async fn ask(
        &mut self,
        mut request: v1::PlayRequest,
        options: &StepOptions<'_>,
    ) -> Result<v1::PlayResponse, Error> {
        let call = Call { target: self.call.target.clone(), timeout: options.timeout.unwrap_or(self.call.timeout) };
        let deadline = after(call.timeout);
        check_size(&request)?;
        self.id += 1;
        request.id = self.id;
        match timeout_at(deadline, self.outbox.send(request)).await {
            Ok(Ok(())) => {
                (self.next.policy, self.next.spec_hash, self.next.seed) = (None, String::new(), None);
                self.next.simulator = None;
            }
            Ok(Err(_)) => {} // the stream has ended; `receive` returns why
            Err(_) => {
                let target = call.target;
                let message = format!("{target} does not read what it is sent; the step has not been sent");
                return Err(Error::DeadlineExceeded(message));
            }
        }
        let mut response = timeout_at(deadline, self.receive()).await.map_err(|_| call.late())??;
        while let Some(play_response::Result::Waiting(_)) = response.result {
            // A policy in training is being updated.
            let deadline = after(call.timeout);
            response = timeout_at(deadline, self.receive()).await.map_err(|_| call.late())??;
        }
        Ok(response)
    }

    async fn receive(&mut self) -> Result<v1::PlayResponse, Error> {
        loop {
            match &mut self.inbox {
                Inbox::Opening(call) => match call.await {
                    Ok(response) => self.inbox = Inbox::Open(response.into_inner()),
                    Err(status) => self.inbox = Inbox::Over(error_of(&status, &self.call)),
                },
                Inbox::Open(stream) => match stream.message().await {
                    Ok(Some(response)) if response.id == self.id => return Ok(response),
                    Ok(Some(_)) => {} // a response to a step that timed out
                    Ok(None) => self.inbox = Inbox::Over(self.call.ended()),
                    Err(status) => self.inbox = Inbox::Over(error_of(&status, &self.call)),
                },
                Inbox::Over(error) => return Err(error.clone()),
            }
        }
    }
}
