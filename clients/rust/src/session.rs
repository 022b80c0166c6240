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

// Messages on their way that the server has not read: only steps that missed their deadline are ever that many.
const OUTBOX: usize = 8;

/// What the last action of one environment led to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What it earned.
    pub reward: f32,
    /// Whether it ended the episode in a terminal state.
    pub terminated: bool,
    /// Whether the episode was cut off after it.
    pub truncated: bool,
}

/// What the last actions of all environments led to, one element each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcomes<'a> {
    /// What they earned.
    pub reward: &'a [f32],
    /// Whether they ended the episodes in a terminal state.
    pub terminated: &'a [bool],
    /// Whether the episodes were cut off after them.
    pub truncated: &'a [bool],
}

/// What a step may say besides.
#[derive(Clone, Debug, Default)]
pub struct StepOptions<'a> {
    /// Which observations are the first of an episode, one element per environment. Left out, those that follow a step
    /// which said `terminated` or `truncated`, as with Gymnasium's next-step autoreset.
    pub episode_start: Option<&'a [bool]>,
    /// bool, shape [environments, mask_size]: which actions are allowed; or [mask_size] where one environment is stepped.
    pub action_mask: Option<Array<'a>>,
    /// How long this step may take; the session's own timeout if not given.
    pub timeout: Option<Duration>,
}

/// One simulator's session, made by [`Client::play`](crate::Client::play). One version of the policy answers throughout
/// it. It ends when it is dropped.
///
/// Every step fails with
/// - [`Error::InvalidRequest`] when an argument is wrong: the session is as if the step had not been made; or when the
///   simulator that was declared is refused, which ends the session;
/// - [`Error::ServerBusy`] when the server is busy: the same step may be made again; or when it has too many sessions,
///   which ends this one;
/// - [`Error::DeadlineExceeded`] when no answer came in time: the step counts, and its action is lost, as when the future
///   of a step is dropped; or, as the message then says, when the server does not read and the step has not been sent, so
///   that it does not count; or when the server has ended the session because it was idle;
/// - [`Error::ServerUnavailable`] when the server is gone or stopping: open another session;
/// - other errors.
///
/// After an error, [`Session::is_over`] tells whether the session goes on.
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
        // The server's first word may be its first answer, so the call is awaited by the first step.
        let inbox = Inbox::Opening(Box::pin(async move { stub.play(request).await }));
        Session { outbox, inbox, next: first, call, id: 0 }
    }

    /// Asks for the action for the first observation of an episode, where there is no outcome to tell.
    ///
    /// # Errors
    ///
    /// See [`Session`].
    pub async fn begin(&mut self, observation: impl Into<Observation>) -> Result<Actions, Error> {
        self.step_with(observation, None, &StepOptions::default()).await
    }

    /// Tells what the last action led to, and asks for the next.
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

    /// The same, with all that a step may say.
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

    /// Like [`begin`](Session::begin) for many environments, as many in every step: observations have a leading axis.
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

    /// Whether an error has ended the session; a step then fails with that error.
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
            Ok(Err(_)) => {} // the stream has ended, and says why
            Err(_) => {
                let target = call.target;
                let message = format!("{target} does not read what it is sent; the step has not been sent");
                return Err(Error::DeadlineExceeded(message));
            }
        }
        let mut response = timeout_at(deadline, self.receive()).await.map_err(|_| call.late())??;
        while let Some(play_response::Result::Waiting(_)) = response.result {
            // A policy in training is being improved.
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
                    Ok(Some(_)) => {} // to a step whose deadline has passed
                    Ok(None) => self.inbox = Inbox::Over(self.call.ended()),
                    Err(status) => self.inbox = Inbox::Over(error_of(&status, &self.call)),
                },
                Inbox::Over(error) => return Err(error.clone()),
            }
        }
    }
}
