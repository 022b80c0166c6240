//! The scenarios of `conformance/scenarios.md`, one method each.

use std::time::{Duration, Instant};

use pgkeras::v1::{DataType, DistributionKind, space};
use pgkeras::{
    ActOptions, Actions, Array, Client, ClientOptions, Error, Mode, Outcome, Outcomes, Output, PlayOptions, Session,
    StepOptions, Tensor, Tls,
};
use serde_json::{Value, json};

use crate::flags::Flags;
use crate::observations::{missing_part, parts, short_part};
use crate::vectors::{self, FloatArray};

const ROW: &[f32; 4] = &[0.0, 0.1, 0.0, -0.1];
const SHORT_ROW: &[f32; 3] = &[0.0, 0.1, 0.0];
const GREEDY: PlayOptions<'_> =
    PlayOptions { mode: Mode::Greedy, seed: None, outputs: &[], timeout: None, simulator: None };
const GOING_ON: Option<Outcome> = Some(Outcome { reward: 1.0, terminated: false, truncated: false });

/// Why a scenario did not pass.
pub enum Failure {
    /// It cannot be run.
    Skip(String),
    /// The client or the server behaved differently.
    Fail(String),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Fail(error.to_string())
    }
}

type Done = Result<(), Failure>;

fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Fail(reason.into()))
}

fn check(right: bool, complaint: impl Into<String>) -> Done {
    if right { Ok(()) } else { fail(complaint) }
}

fn close(got: &[f32], expected: &[f64], what: &str) -> Done {
    let near = |(&got, expected): (&f32, &f64)| (f64::from(got) - expected).abs() <= 1e-5 * expected.abs().max(1.0);
    let right = got.len() == expected.len() && got.iter().zip(expected).all(near);
    check(right, format!("{what}: {got:?}, not {expected:?}"))
}

fn floats(tensor: Option<&Tensor>) -> Result<Vec<f32>, Failure> {
    let tensor = tensor.ok_or_else(|| Failure::Fail("a requested output is missing".into()))?;
    Ok(tensor.values()?.into_owned())
}

/// Checks that a response of the policy `structured` matches the mask of its scenario.
fn in_parts(answer: &Actions) -> Done {
    for parts in [&answer.parts, &answer.greedy_parts] {
        let aim = floats(parts.get("aim"))?;
        check(aim.len() == 64 && aim.iter().all(|x| x.abs() <= 1.0), format!("aim {aim:?}"))?;
        let bits = parts["hands.0"].values::<i8>()?;
        check(bits.len() == 96 && bits.iter().all(|bit| [0, 1].contains(bit)), format!("hands.0 {bits:?}"))?;
        for (name, count) in [("hands.1", 4), ("move", 3)] {
            let expected: Vec<_> = (0..32).map(|row: i64| row % count).collect();
            check(*parts[name].values::<i64>()? == expected, format!("{name} that the mask forbids"))?;
        }
    }
    let names: Vec<_> = answer.distribution.keys().map(String::as_str).collect();
    let expected = ["aim.mean", "aim.stddev", "hands.0.probabilities", "hands.1.probabilities", "move.probabilities"];
    check(names == expected, format!("parameters {names:?}"))?;
    let certain: Vec<_> = (0..96).map(|i| f64::from(u8::from(i / 3 % 3 == i % 3))).collect();
    close(&floats(answer.distribution.get("move.probabilities"))?, &certain, "move.probabilities")
}

/// Checks that observations were refused because of the given part.
fn is_refused(answer: Result<Actions, Error>, part: &str, wanted: &str) -> Done {
    match answer {
        Err(Error::InvalidRequest { field, expected, .. }) if field == part && expected.contains(wanted) => Ok(()),
        other => fail(format!("{other:?}")),
    }
}

fn probabilities(answer: &Actions) -> Result<Vec<f32>, Failure> {
    floats(answer.distribution.get("probabilities"))
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

/// Flattens a number or nested lists of numbers.
fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(parts) => parts.iter().flat_map(numbers).collect(),
        number => number.as_f64().into_iter().collect(),
    }
}

fn integers(value: &Value) -> Vec<i64> {
    numbers(value).into_iter().map(|number| number as i64).collect()
}

fn flags(value: &Value) -> Vec<bool> {
    value.as_array().into_iter().flatten().filter_map(Value::as_bool).collect()
}

fn seed(vector: &Value) -> Option<u64> {
    vector["seed"].as_str().and_then(|seed| seed.parse().ok())
}

fn options(policy: &str, seconds: u64) -> ClientOptions {
    ClientOptions { policy: policy.into(), timeout: Duration::from_secs(seconds), ..Default::default() }
}

/// The options and fixtures of the scenarios.
pub struct Scenarios {
    flags: Flags,
    vectors: Value,
    target: String,
    client: Client,
}

impl Scenarios {
    pub fn new(flags: Flags) -> Result<Self, Box<dyn std::error::Error>> {
        let target = flags.required("target")?.to_owned();
        let vectors = vectors::read(flags.required("vectors")?)?;
        let client = Client::new(&target, options("cartpole-v1", 10))?;
        Ok(Scenarios { flags, vectors, target, client })
    }

    pub async fn describe(&self) -> Done {
        let info = self.client.describe().await?;
        let spec = info.policy.spec.unwrap_or_default();
        let kind = |space: Option<pgkeras::v1::Space>| space.and_then(|space| space.kind);
        let (Some(space::Kind::Box(observed)), Some(space::Kind::Discrete(done))) =
            (kind(spec.observation_space.clone()), kind(spec.action_space.clone()))
        else {
            return fail("other spaces than a Box and a Discrete");
        };
        let got = json!({
            "name": info.policy.name,
            "version": info.policy.version,
            "spec_hash": info.policy.spec_hash,
            "observation_shape": observed.shape,
            "observation_dtype": if observed.dtype() == DataType::Float32 { "float32" } else { "another" },
            "actions": done.n,
            "distribution": if spec.distribution() == DistributionKind::Categorical { "categorical" } else { "another" },
        });
        check(got == self.vectors["policy"], got.to_string())?;
        let limits = info.limits.ok_or_else(|| Failure::Fail("no limits".into()))?;
        let smallest = limits.max_batch_size.min(limits.max_receive_message_bytes).min(limits.max_send_message_bytes);
        check(smallest > 0, format!("{limits:?}"))?;
        let all = self.client.policies().await?;
        check(all.iter().any(|one| one.policy.name == "cartpole-v1"), "not in the list of policies")
    }

    pub async fn single(&self) -> Done {
        let greedy = ActOptions { mode: Mode::Greedy, ..Default::default() };
        let answer = self.client.act(ROW, &greedy).await?;
        let scalar = |tensor: Option<&Tensor>| tensor.is_some_and(|tensor| tensor.shape().is_empty());
        let scalars =
            scalar(Some(&answer.action)) && scalar(answer.log_prob.as_ref()) && scalar(answer.entropy.as_ref());
        check(scalars, "expected a scalar")?;
        let total: f32 = probabilities(&answer)?.iter().sum();
        check(answer.distribution["probabilities"].shape() == [2], "probabilities of another shape")?;
        close(&[total], &[1.0], "sum of the probabilities")?;
        check(answer.policy == "cartpole-v1" && answer.version == 1, format!("answered by {}", answer.policy))
    }

    pub async fn batch(&self) -> Done {
        let greedy = ActOptions { mode: Mode::Greedy, ..Default::default() };
        let rows: Vec<_> = (0..256_u16).map(|i| (f32::from(i) - 128.0) / 256.0).collect();
        let answer = self.client.act(Array::new(&rows, &[64, 4])?, &greedy).await?;
        let log_prob = floats(answer.log_prob.as_ref())?;
        let shapes = (answer.action.shape(), log_prob.len(), answer.distribution["probabilities"].shape());
        check(shapes == (&[64], 64, &[64, 2]), format!("shapes {shapes:?}"))?;
        for i in [0, 31, 63] {
            let alone = self.client.act(&rows[4 * i..4 * i + 4], &greedy).await?;
            check(alone.action.item::<i64>(0)? == answer.action.item::<i64>(i)?, "another action alone")?;
            close(&floats(alone.log_prob.as_ref())?, &[log_prob[i].into()], "log_prob")?;
        }
        Ok(())
    }

    pub async fn seeded_calls(&self) -> Done {
        for vector in self.list("calls")? {
            let mode = if vector["mode"] == "greedy" { Mode::Greedy } else { Mode::Sample };
            let options = ActOptions { mode, seed: seed(vector), ..Default::default() };
            for _ in 0..2 {
                let answer = self.client.act(FloatArray::new(&vector["observation"]).view()?, &options).await?;
                check(*answer.action.values::<i64>()? == integers(&vector["action"]), format!("{}", vector["name"]))?;
                close(&floats(answer.log_prob.as_ref())?, &numbers(&vector["log_prob"]), "log_prob")?;
                close(&floats(answer.entropy.as_ref())?, &numbers(&vector["entropy"]), "entropy")?;
                close(&probabilities(&answer)?, &numbers(&vector["probabilities"]), "probabilities")?;
            }
        }
        Ok(())
    }

    pub async fn seeded_sessions(&self) -> Done {
        for vector in self.list("sessions")? {
            let mut session = self.client.play(&PlayOptions { seed: seed(vector), ..Default::default() }).await?;
            for step in vector["steps"].as_array().into_iter().flatten() {
                let reward: Vec<_> = numbers(&step["reward"]).into_iter().map(|reward| reward as f32).collect();
                let (terminated, truncated) = (flags(&step["terminated"]), flags(&step["truncated"]));
                let outcomes = Outcomes { reward: &reward, terminated: &terminated, truncated: &truncated };
                let outcomes = step.get("reward").map(|_| outcomes);
                let observations = FloatArray::new(&step["observation"]);
                let answer = session.step_batch_with(observations.view()?, outcomes, &StepOptions::default()).await?;
                check(*answer.action.values::<i64>()? == integers(&step["action"]), format!("{}", vector["name"]))?;
            }
        }
        Ok(())
    }

    pub async fn session_goes_on(&self) -> Done {
        let mut session = self.client.play(&GREEDY).await?;
        session.begin(ROW).await?;
        match session.step(SHORT_ROW, 1.0, false, false).await {
            Err(Error::InvalidRequest { field, .. }) if field == "observation" => {}
            other => return fail(format!("{other:?}")),
        }
        check(!session.is_over(), "the session is over")?;
        check(session.step(ROW, 1.0, false, false).await?.action.shape().is_empty(), "not a scalar")
    }

    pub async fn unknown_policy(&self) -> Done {
        let client = Client::new(&self.target, options("no-such-policy", 10))?;
        match client.act(ROW, &ActOptions::default()).await {
            Err(Error::PolicyNotFound(message)) if message.contains("cartpole-v1") => Ok(()),
            other => fail(format!("{other:?}")),
        }
    }

    pub async fn bad_shape(&self) -> Done {
        match self.client.act(SHORT_ROW, &ActOptions::default()).await {
            Err(Error::InvalidRequest { field, expected, .. })
                if field == "observation" && expected.contains("[4]") =>
            {
                Ok(())
            }
            other => fail(format!("{other:?}")),
        }
    }

    pub async fn image(&self) -> Done {
        let client = self.fixture("image").await?;
        let pixels: Vec<_> = (0..8 << 20).map(|i| (i % 251) as u8).collect();
        let answer = client.act(Array::new(&pixels, &[1024, 2048, 4])?, &ActOptions::default()).await?;
        check((0..3).contains(&answer.action.item::<i64>(0)?), "another action")?;
        close(&[probabilities(&answer)?.iter().sum()], &[1.0], "sum of the probabilities")
    }

    pub async fn masks(&self) -> Done {
        const ROWS: usize = 32;
        const ACTIONS: usize = 5;
        let client = self.fixture("masked").await?;
        let zeros = [0.0_f32; 4 * ROWS];
        let observations = Array::new(&zeros, &[ROWS, 4])?;
        let ways = async |allowed: &dyn Fn(usize, usize) -> bool| {
            let bits: Vec<_> = (0..ROWS * ACTIONS).map(|i| allowed(i / ACTIONS, i % ACTIONS)).collect();
            let mask = Array::new(&bits, &[ROWS, ACTIONS])?;
            let options = ActOptions { seed: Some(3), action_mask: Some(mask.clone()), ..Default::default() };
            let act = client.act(observations.clone(), &options).await;
            let outputs = &[Output::Distribution];
            let mut session = client.play(&PlayOptions { seed: Some(3), outputs, ..Default::default() }).await?;
            let options = StepOptions { action_mask: Some(mask), ..Default::default() };
            Ok::<_, Error>([act, session.step_batch_with(observations.clone(), None, &options).await])
        };
        for answer in ways(&|row, action| action == row % ACTIONS).await? {
            let expected: Vec<_> = (0..ROWS as i64).map(|row| row % ACTIONS as i64).collect();
            check(*answer?.action.values::<i64>()? == expected, "an action that the mask forbids")?;
        }
        for answer in ways(&|_, action| action == 1 || action == 3).await? {
            let answer = answer?;
            let right = answer.action.values::<i64>()?.iter().all(|&action| action == 1 || action == 3);
            check(right, "an action that the mask forbids")?;
            let masked =
                probabilities(&answer)?.into_iter().enumerate().filter(|(i, _)| ![1, 3].contains(&(i % ACTIONS)));
            check(
                masked.map(|(_, probability)| probability).fold(0.0, f32::max) < 1e-6,
                "a masked action is probable",
            )?;
        }
        for answer in ways(&|_, _| false).await? {
            let named = matches!(&answer, Err(Error::InvalidRequest { field, .. }) if field == "action_mask");
            check(named, format!("{answer:?}"))?;
        }
        Ok(())
    }

    pub async fn memory(&self) -> Done {
        const ONES: &[f32; 4] = &[1.0; 4];
        let client = self.fixture("memory").await?;
        let greedy = ActOptions { mode: Mode::Greedy, ..Default::default() };
        let first = client.act(ONES, &greedy).await?;
        let second = client.act(ONES, &ActOptions { state: first.state.clone(), ..greedy.clone() }).await?;
        let third = client.act(ONES, &greedy).await?;
        let (begin, later) = (doubles(&probabilities(&first)?), doubles(&probabilities(&second)?));
        let change = begin.iter().zip(&later).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        check(change > 1e-4, "the state makes no difference")?;
        close(&probabilities(&third)?, &begin, "without a state")?;
        let mut session = client.play(&PlayOptions { outputs: &[Output::Distribution], ..GREEDY }).await?;
        close(&probabilities(&session.begin(ONES).await?)?, &begin, "the session's first step")?;
        let answer = session.step_with(ONES, GOING_ON, &StepOptions::default()).await?;
        close(&probabilities(&answer)?, &later, "the session's second step")?;
        let start = StepOptions { episode_start: Some(&[true]), ..Default::default() };
        let answer = session.step_with(ONES, GOING_ON, &start).await?;
        close(&probabilities(&answer)?, &begin, "the first step of an episode")
    }

    pub async fn structured(&self) -> Done {
        const ROWS: usize = 32;
        let client = self.fixture("structured").await?;
        let zeros = [0.0_f32; 4 * ROWS];
        let observations = Array::new(&zeros, &[ROWS, 4])?;
        let bits: Vec<_> =
            (0..ROWS * 7).map(|i| if i % 7 < 4 { i % 7 == i / 7 % 4 } else { i % 7 - 4 == i / 7 % 3 }).collect();
        let action_mask = Some(Array::new(&bits, &[ROWS, 7])?);
        let outputs = &[Output::Distribution, Output::GreedyAction];
        let seed = Some(3);
        let options = ActOptions { seed, outputs, action_mask: action_mask.clone(), ..Default::default() };
        in_parts(&client.act(observations.clone(), &options).await?)?;
        let mut session = client.play(&PlayOptions { seed, outputs, ..Default::default() }).await?;
        let options = StepOptions { action_mask, ..Default::default() };
        in_parts(&session.step_batch_with(observations, None, &options).await?)?;
        let mut session = client.play(&PlayOptions { outputs, ..Default::default() }).await?;
        let answer = session.begin(&[0.0_f32; 4]).await?;
        let shapes = (answer.parts["aim"].shape(), answer.parts["move"].shape());
        check(shapes.0 == [2] && shapes.1.is_empty(), format!("shapes {shapes:?} of a single action"))
    }

    pub async fn structured_observations(&self) -> Done {
        const ALONE: &[usize] = &[];
        const BATCH: &[usize] = &[16];
        let client = self.fixture("parts").await?;
        let vector = &self.vectors["structured_observations"];
        let (actions, distributions) = (integers(&vector["action"]), numbers(&vector["probabilities"]));
        let judge = |answer: Actions, row: usize, batch: &[usize]| {
            let end = row + batch.iter().product::<usize>();
            let shape = answer.action.shape();
            check(shape == batch, format!("row {row}: actions of shape {shape:?}"))?;
            let got = answer.action.values::<i64>()?;
            check(*got == actions[row..end], format!("row {row}: actions {got:?}"))?;
            close(&probabilities(&answer)?, &distributions[3 * row..3 * end], "probabilities")
        };
        let (seed, outputs) = (seed(vector), &[Output::Distribution]);
        let options = ActOptions { seed, outputs, ..Default::default() };
        judge(client.act(parts(0, BATCH)?, &options).await?, 0, BATCH)?;
        is_refused(client.act(missing_part(0, BATCH)?, &options).await, "observation.hands.1", "")?;
        is_refused(client.act(short_part(0, BATCH)?, &options).await, "observation.position", "[4]")?;
        let options = PlayOptions { seed, outputs, ..Default::default() };
        judge(client.play(&options).await?.begin_batch(parts(0, BATCH)?).await?, 0, BATCH)?;
        let mut alone = client.play(&options).await?;
        judge(alone.begin(parts(0, ALONE)?).await?, 0, ALONE)?;
        let missing = alone.step(missing_part(1, ALONE)?, 1.0, false, false).await;
        is_refused(missing, "observation.hands.1", "")?;
        let short = alone.step(short_part(1, ALONE)?, 1.0, false, false).await;
        is_refused(short, "observation.position", "[4]")?;
        check(!alone.is_over(), "the session is over")?;
        for row in 1..actions.len() {
            judge(alone.step(parts(row, ALONE)?, 1.0, false, false).await?, row, ALONE)?;
        }
        Ok(())
    }

    pub async fn deadline(&self) -> Done {
        let short = Some(Duration::from_millis(300));
        let client = Client::new(self.flag("slow-target")?, options("cartpole-v1", 20))?;
        client.describe().await?;
        let begin = Instant::now();
        let late = client.act(ROW, &ActOptions { timeout: short, ..Default::default() }).await;
        check(matches!(late, Err(Error::DeadlineExceeded(_))), format!("{late:?}"))?;
        check(begin.elapsed() < Duration::from_millis(900), "it came too late")?;
        client.act(ROW, &ActOptions::default()).await?;
        let mut session = client.play(&GREEDY).await?;
        let late = session.step_with(ROW, None, &StepOptions { timeout: short, ..Default::default() }).await;
        check(matches!(late, Err(Error::DeadlineExceeded(_))), format!("{late:?}"))
    }

    pub async fn nobody(&self) -> Done {
        let target = self.flag("dead-target")?;
        let client = Client::new(target, options("", 2))?;
        let begin = Instant::now();
        let answer = client.act(ROW, &ActOptions::default()).await;
        check(begin.elapsed() < Duration::from_secs(4), "it came too late")?;
        match answer {
            Err(error @ (Error::ServerUnavailable { .. } | Error::DeadlineExceeded(_))) => {
                check(error.to_string().contains(target), error.to_string())
            }
            other => fail(format!("{other:?}")),
        }
    }

    pub async fn busy(&self) -> Done {
        let client = Client::new(self.flag("busy-target")?, options("cartpole-v1", 10))?;
        let mut first = client.play(&GREEDY).await?;
        first.begin(ROW).await?;
        let mut second = client.play(&GREEDY).await?;
        let mut answer = second.begin(ROW).await;
        check(second.is_over() && !first.is_over(), "the second session is not over, or the first one is")?;
        drop(first);
        for _ in 0..10 {
            let Err(Error::ServerBusy { retry_after, .. }) = answer else { return fail(format!("{answer:?}")) };
            check(!retry_after.is_zero(), "no time to wait")?;
            tokio::time::sleep(retry_after).await;
            answer = client.play(&GREEDY).await?.begin(ROW).await;
            if answer.is_ok() {
                return Ok(());
            }
        }
        fail("still busy after ten tries")
    }

    pub async fn tls_and_token(&self) -> Done {
        let target = self.flag("tls-target")?;
        let authority = std::fs::read_to_string(self.flag("ca")?)?;
        let tls = Some(Tls { root_certificates: Some(authority), ..Default::default() });
        let token = Some(self.flag("token")?.to_owned());
        let act = async |tls: Option<Tls>, token: Option<String>| {
            let client = Client::new(target, ClientOptions { tls, token, ..options("cartpole-v1", 5) })?;
            client.act(ROW, &ActOptions::default()).await?;
            client.play(&GREEDY).await?.begin(ROW).await
        };
        act(tls.clone(), token.clone()).await?;
        let nameless = act(tls, None).await;
        check(matches!(nameless, Err(Error::Unauthenticated(_))), format!("{nameless:?}"))?;
        check(act(None, token).await.is_err(), "it was answered without TLS")
    }

    pub async fn restart(&self) -> Done {
        let mut session = self.client.play(&GREEDY).await?;
        ten_steps(&mut session).await?;
        println!("WAIT restart");
        std::io::stdin().read_line(&mut String::new())?;
        let lost = session.step(ROW, 1.0, false, false).await;
        check(matches!(lost, Err(Error::ServerUnavailable { .. })), format!("{lost:?}"))?;
        let patient = ActOptions { timeout: Some(Duration::from_secs(30)), ..Default::default() };
        self.client.act(ROW, &patient).await?;
        ten_steps(&mut self.client.play(&GREEDY).await?).await
    }

    fn list(&self, section: &str) -> Result<&Vec<Value>, Failure> {
        self.vectors[section].as_array().ok_or_else(|| Failure::Fail(format!("the vectors have no {section}")))
    }

    fn flag(&self, name: &str) -> Result<&str, Failure> {
        self.flags.find(name).ok_or_else(|| Failure::Skip(format!("no --{name}")))
    }

    /// Returns a client of a policy that the server may lack.
    async fn fixture(&self, policy: &str) -> Result<Client, Failure> {
        let client = Client::new(&self.target, options(policy, 10))?;
        match client.describe().await {
            Err(Error::PolicyNotFound(_)) => Err(Failure::Skip(format!("the server has no policy {policy}"))),
            other => other.map(|_| client).map_err(Failure::from),
        }
    }
}

async fn ten_steps(session: &mut Session) -> Done {
    session.begin(ROW).await?;
    for _ in 1..10 {
        session.step(ROW, 1.0, false, false).await?;
    }
    Ok(())
}
