//! A client of [pgkeras](https://github.com/pgkeras/pgkeras) policy servers. A simulator sends observations and rewards
//! and receives actions.
//!
//! ```no_run
//! # async fn simulate(_: i64) -> ([f32; 4], f32, bool, bool) { unimplemented!() }
//! # async fn play() -> Result<(), pgkeras::Error> {
//! let client = pgkeras::Client::new("127.0.0.1:50051", pgkeras::ClientOptions::default())?;
//! let mut session = client.play(&pgkeras::PlayOptions::default()).await?;
//! let mut action = session.begin(&[0.0_f32, 0.1, 0.0, -0.1]).await?.action.item::<i64>(0)?;
//! loop {
//!     let (observation, reward, terminated, truncated) = simulate(action).await;
//!     action = session.step(&observation, reward, terminated, truncated).await?.action.item(0)?;
//! }
//! # }
//! ```
//!
//! Every call and every step has a deadline. Failures are returned as [`Error`], whose message says what to do.

mod actions;
mod client;
mod error;
mod session;
pub mod spaces;
mod status;
mod tensor;

/// The messages and the stub, generated from `protos/pgkeras/v1`.
#[allow(missing_docs, clippy::large_enum_variant)]
pub mod v1 {
    tonic::include_proto!("pgkeras.v1");
}

pub use actions::{ActOptions, Actions, Mode, Output, PlayOptions};
pub use client::{Client, ClientOptions, Limits, PolicyInfo, Tls, VersionChoice};
pub use error::Error;
pub use session::{Outcome, Outcomes, Session, StepOptions};
pub use spaces::Simulator;
pub use tensor::{Array, Element, Observation, Tensor};

/// Internals for the conformance tests; see `conformance/README.md`.
#[doc(hidden)]
pub mod testing {
    pub use crate::actions::{read_actions, read_step};
    pub use crate::status::{Call, error_of};
}
