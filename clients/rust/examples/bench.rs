//! The benchmark program that `conformance/README.md` describes. It reads commands from standard input, one per line.

use std::error::Error;
use std::io::BufRead;
use std::net::TcpListener;
use std::pin::Pin;
use std::time::{Duration, Instant};

use pgkeras::v1::policy_service_client::PolicyServiceClient;
use pgkeras::v1::policy_service_server::{PolicyService, PolicyServiceServer};
use pgkeras::v1::{self, DataType, PlayRequest, PlayResponse};
use pgkeras::{Array, Client, ClientOptions, Mode, Outcomes, PlayOptions};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let background = tokio::runtime::Runtime::new()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<_> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["serve"] => serve(&background)?,
            ["play", target, environments, seconds] => {
                runtime.block_on(play(target, environments.parse()?, seconds.parse()?))?
            }
            ["echo", target, environments, seconds] => {
                runtime.block_on(echo(target, environments.parse()?, seconds.parse()?))?
            }
            _ => return Err(format!("expected serve, or play or echo TARGET ENVIRONMENTS SECONDS; got: {line}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Latencies of repeated steps.
struct Latencies {
    begin: Instant,
    seconds: f64,
    microseconds: Vec<f64>,
}

impl Latencies {
    fn begin(seconds: f64) -> Self {
        Latencies { begin: Instant::now(), seconds, microseconds: Vec::new() }
    }

    fn going_on(&self) -> bool {
        self.begin.elapsed().as_secs_f64() < self.seconds
    }

    fn add(&mut self, since: Instant) {
        self.microseconds.push(since.elapsed().as_secs_f64() * 1e6);
    }

    fn report(mut self) -> String {
        let seconds = self.begin.elapsed().as_secs_f64();
        self.microseconds.sort_by(f64::total_cmp);
        let quantile = |part: f64| self.microseconds[(part * (self.microseconds.len() - 1) as f64) as usize];
        let (messages, p50, p99) = (self.microseconds.len(), quantile(0.5), quantile(0.99));
        format!("{{\"messages\": {messages}, \"seconds\": {seconds}, \"p50_us\": {p50}, \"p99_us\": {p99}}}")
    }
}

async fn play(target: &str, environments: usize, seconds: f64) -> Outcome<String> {
    let client = Client::new(target, ClientOptions { policy: "cartpole-v1".into(), ..Default::default() })?;
    let mut session = client.play(&PlayOptions { mode: Mode::Greedy, ..Default::default() }).await?;
    let rows = vec![0.0_f32; 4 * environments];
    let (reward, ends) = (vec![1.0; environments], vec![false; environments]);
    let observations = Array::new(&rows, &[environments, 4])?;
    let Outcomes { reward, terminated, truncated } = Outcomes { reward: &reward, terminated: &ends, truncated: &ends };
    session.begin_batch(observations.clone()).await?;
    let mut latencies = Latencies::begin(seconds);
    while latencies.going_on() {
        let before = Instant::now();
        session.step_batch(observations.clone(), reward, terminated, truncated).await?;
        latencies.add(before);
    }
    Ok(latencies.report())
}

async fn echo(target: &str, environments: usize, seconds: f64) -> Outcome<String> {
    let channel = Endpoint::from_shared(format!("http://{target}"))?.connect().await?;
    let (outbox, messages) = tokio::sync::mpsc::channel(1);
    let rows = environments as i64;
    let tensor =
        |dtype: DataType, shape: Vec<i64>, data: Vec<u8>| v1::Tensor { dtype: dtype as i32, shape, data: data.into() };
    let flags = tensor(DataType::Bool, vec![rows], vec![0; environments]);
    let observations = tensor(DataType::Float32, vec![rows, 4], vec![0; 16 * environments]);
    let request = PlayRequest {
        id: 1,
        observation: Some(v1::Value { kind: Some(v1::value::Kind::Tensor(observations)) }),
        reward: Some(tensor(DataType::Float32, vec![rows], 1.0_f32.to_le_bytes().repeat(environments))),
        terminated: Some(flags.clone()),
        truncated: Some(flags),
        ..Default::default()
    };
    outbox.send(request.clone()).await?;
    let mut stream = PolicyServiceClient::new(channel).play(ReceiverStream::new(messages)).await?.into_inner();
    let ended = || format!("{target} has ended the stream");
    stream.message().await?.ok_or_else(ended)?;
    let mut latencies = Latencies::begin(seconds);
    while latencies.going_on() {
        let before = Instant::now();
        outbox.send(request.clone()).await?;
        tokio::time::timeout(Duration::from_secs(10), stream.message()).await??.ok_or_else(ended)?;
        latencies.add(before);
    }
    Ok(latencies.report())
}

fn serve(runtime: &tokio::runtime::Runtime) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let _context = runtime.enter();
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?).with_nodelay(Some(true));
    runtime.spawn(async move {
        if let Err(error) = Server::builder().serve_with_incoming(PolicyServiceServer::new(Echo), incoming).await {
            eprintln!("bench: the echo server has ended: {error}");
        }
    });
    Ok(format!("{{\"port\": {port}}}"))
}

struct Echo;

#[tonic::async_trait]
impl PolicyService for Echo {
    type PlayStream = Pin<Box<dyn Stream<Item = Result<PlayResponse, Status>> + Send>>;

    async fn play(&self, request: Request<Streaming<PlayRequest>>) -> Result<Response<Self::PlayStream>, Status> {
        let answer = |message: Result<PlayRequest, Status>| {
            let request = message?;
            let Some(v1::value::Kind::Tensor(observations)) = request.observation.and_then(|value| value.kind) else {
                return Err(Status::invalid_argument("observation: expected a tensor"));
            };
            let rows = observations.shape.first().copied().unwrap_or(0);
            let data = vec![0; 8 * rows as usize].into();
            let action = v1::Tensor { dtype: DataType::Int64 as i32, shape: vec![rows], data };
            let act = v1::ActResponse { action: Some(action), ..Default::default() };
            Ok(PlayResponse { id: request.id, result: Some(v1::play_response::Result::Act(act)), hold: None })
        };
        Ok(Response::new(Box::pin(request.into_inner().map(answer))))
    }

    async fn act(&self, _: Request<v1::ActRequest>) -> Result<Response<v1::ActResponse>, Status> {
        Err(Status::unimplemented("an echo of Play alone"))
    }

    async fn get_policy(&self, _: Request<v1::GetPolicyRequest>) -> Result<Response<v1::GetPolicyResponse>, Status> {
        Err(Status::unimplemented("an echo of Play alone"))
    }

    async fn list_policies(
        &self,
        _: Request<v1::ListPoliciesRequest>,
    ) -> Result<Response<v1::ListPoliciesResponse>, Status> {
        Err(Status::unimplemented("an echo of Play alone"))
    }
}
