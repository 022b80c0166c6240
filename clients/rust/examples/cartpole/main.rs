//! CartPole in Rust, played with the actions of a policy server:
//!
//! ```text
//! cartpole --target HOST:PORT [--episodes 20]                    plays episodes, greedily
//! cartpole --target HOST:PORT --environments 256 [--steps 1000]  measures the throughput with many environments
//! cartpole --target HOST:PORT --teach 24 [--patience 10]         trains a policy (pgkeras train --listen) with 24
//!                                                                environments; ends when no run has responded for
//!                                                                10 seconds
//! ```

#[path = "../support/flags.rs"]
mod flags;
mod physics;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use flags::Flags;
use pgkeras::{Array, Client, ClientOptions, Error, Mode, Outcomes, PlayOptions, Simulator, StepOptions, spaces};
use physics::CartPole;

const GREEDY: PlayOptions<'_> =
    PlayOptions { mode: Mode::Greedy, seed: None, outputs: &[], timeout: None, simulator: None };

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::from_arguments()?;
    let teaching: Option<usize> = flags.number("teach")?;
    let policy = if teaching.is_some() { "" } else { flags.find("policy").unwrap_or("cartpole-v1") };
    let options = ClientOptions { policy: policy.into(), ..Default::default() };
    let client = Client::new(flags.required("target")?, options)?;
    if let Some(environments) = teaching {
        let patience = Duration::from_secs(flags.number("patience")?.unwrap_or(10) as u64);
        return Ok(teach(&client, environments, patience).await?);
    }
    match flags.number("environments")? {
        Some(environments) => measure(&client, environments, flags.number("steps")?.unwrap_or(1000)).await?,
        None => play(&client, flags.number("episodes")?.unwrap_or(20)).await?,
    }
    Ok(())
}

async fn play(client: &Client, episodes: usize) -> Result<(), Error> {
    let mut cartpole = CartPole::new(0);
    let mut session = client.play(&GREEDY).await?;
    let mut steps = 0;
    for _ in 0..episodes {
        cartpole.reset();
        let mut action = session.begin(&cartpole.observation()).await?.action.item(0)?;
        let mut over = false;
        while !over {
            cartpole.step(action);
            steps += 1;
            let (terminated, truncated) = (cartpole.terminated(), cartpole.truncated());
            let answer = session.step(&cartpole.observation(), 1.0, terminated, truncated).await?;
            action = answer.action.item(0)?;
            over = terminated || truncated;
        }
    }
    let mean = f64::from(steps) / episodes as f64;
    println!("{{\"episodes\": {episodes}, \"mean_return\": {mean}, \"steps\": {steps}}}");
    Ok(())
}

/// Measures the throughput. A cart whose episode has ended is reset immediately: its observation is then the first of
/// the next episode, which `over` reports.
async fn measure(client: &Client, environments: usize, steps: usize) -> Result<(), Error> {
    let mut cartpoles: Vec<_> = (0..environments as u64).map(CartPole::new).collect();
    let reward = vec![1.0; environments];
    let (mut terminated, mut truncated) = (vec![false; environments], vec![false; environments]);
    let mut over = vec![false; environments];
    let observe = |cartpoles: &[CartPole]| cartpoles.iter().map(CartPole::observation).collect::<Vec<_>>();

    let mut session = client.play(&GREEDY).await?;
    let rows = observe(&cartpoles);
    let mut actions = session.begin_batch(Array::new(rows.as_flattened(), &[environments, 4])?).await?.action;
    let begin = Instant::now();
    for _ in 0..steps {
        for (i, (cartpole, &action)) in cartpoles.iter_mut().zip(actions.values()?.iter()).enumerate() {
            cartpole.step(action);
            (terminated[i], truncated[i]) = (cartpole.terminated(), cartpole.truncated());
            over[i] = terminated[i] || truncated[i];
            if over[i] {
                cartpole.reset();
            }
        }
        let rows = observe(&cartpoles);
        let observations = Array::new(rows.as_flattened(), &[environments, 4])?;
        let outcomes = Outcomes { reward: &reward, terminated: &terminated, truncated: &truncated };
        let options = StepOptions { episode_start: Some(&over), ..Default::default() };
        actions = session.step_batch_with(observations, Some(outcomes), &options).await?.action;
    }
    let rate = (environments * steps) as f64 / begin.elapsed().as_secs_f64();
    println!("{{\"environments\": {environments}, \"steps\": {steps}, \"environment_steps_per_second\": {rate}}}");
    Ok(())
}

/// Plays until no run has responded for the duration of patience. A run that stops may be started again.
async fn teach(client: &Client, environments: usize, patience: Duration) -> Result<(), Error> {
    let (mut messages, mut last_response) = (0, Instant::now());
    loop {
        let before = messages;
        let Err(error) = teach_session(client, environments, &mut messages).await;
        if messages > before {
            last_response = Instant::now();
        }
        match error {
            Error::ServerUnavailable { .. } if last_response.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Error::ServerUnavailable { .. } if messages > 0 => {
                println!("{{\"environments\": {environments}, \"messages\": {messages}}}");
                return Ok(());
            }
            error => return Err(error),
        }
    }
}

/// Plays one session until it ends, and counts its messages. A cart that is held repeats the first observation of its
/// episode.
async fn teach_session(client: &Client, environments: usize, messages: &mut u64) -> Result<Infallible, Error> {
    let mut cartpoles: Vec<_> = (0..environments as u64).map(CartPole::new).collect();
    let reward = vec![1.0; environments];
    let (mut terminated, mut truncated) = (vec![false; environments], vec![false; environments]);
    let mut starts = vec![false; environments];
    let observe = |cartpoles: &[CartPole]| cartpoles.iter().map(CartPole::observation).collect::<Vec<_>>();
    let simulator = Simulator {
        observation_space: spaces::numbers(&[4], &[f64::NEG_INFINITY], &[f64::INFINITY]),
        action_space: spaces::discrete(2),
        environments: environments as i64,
        name: "CartPole in Rust".into(),
        ..Default::default()
    };
    let mut session = client.play(&PlayOptions { simulator: Some(simulator), ..Default::default() }).await?;
    let rows = observe(&cartpoles);
    let mut answer = session.begin_batch(Array::new(rows.as_flattened(), &[environments, 4])?).await?;
    loop {
        *messages += 1;
        for (i, (cartpole, &action)) in cartpoles.iter_mut().zip(answer.action.values()?.iter()).enumerate() {
            let holds = answer.hold.get(i).copied().unwrap_or(false);
            if !holds {
                cartpole.step(action);
            }
            (terminated[i], truncated[i]) = (!holds && cartpole.terminated(), !holds && cartpole.truncated());
            starts[i] = holds || terminated[i] || truncated[i];
            if starts[i] && !holds {
                cartpole.reset();
            }
        }
        let rows = observe(&cartpoles);
        let observations = Array::new(rows.as_flattened(), &[environments, 4])?;
        let outcomes = Outcomes { reward: &reward, terminated: &terminated, truncated: &truncated };
        let options = StepOptions { episode_start: Some(&starts), ..Default::default() };
        answer = session.step_batch_with(observations, Some(outcomes), &options).await?;
    }
}
